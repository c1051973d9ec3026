"""The affine map from the paper's dense block-triangular matrices, in NumPy, for small networks only.

All pre-activations of all layers and steps in one vector p (layer by layer, time within), the network is
p = A x + B h0 + C act(p) + b with C strictly lower block-triangular. On one piece act(p) = D p + e, so
p = (1 − C D)^{-1} (A x + B h0 + C e + b): no recursion, no automatic differentiation.
"""

import numpy as np


def affine_maps(rnn, codes):
    """Slope (time, output, time, input), initial slopes and offset of every step, from the codes alone."""
    time = codes[0].shape[0]
    widths = [code.shape[1] for code in codes]
    inputs = rnn.layers[0].input_kernel.shape[0]
    starts = np.cumsum([0] + [time * width for width in widths])
    size, total = starts[-1], sum(widths)
    A, B = np.zeros((size, time * inputs)), np.zeros((size, total))
    C, b = np.zeros((size, size)), np.zeros(size)

    def block(l, t):
        return slice(starts[l] + t * widths[l], starts[l] + (t + 1) * widths[l])

    for l, layer in enumerate(rnn.layers):
        W, U = np.asarray(layer.input_kernel).T, np.asarray(layer.recurrent_kernel).T
        for t in range(time):
            here = block(l, t)
            if layer.bias is not None:
                b[here] = np.asarray(layer.bias)
            if l == 0:
                A[here, t * inputs : (t + 1) * inputs] = W
            else:
                C[here, block(l - 1, t)] = W
            if t == 0:
                B[here, sum(widths[:l]) : sum(widths[: l + 1])] = U
            else:
                C[here, block(l, t - 1)] = U
    flat = np.concatenate([np.asarray(code).ravel().astype(int) for code in codes])
    D = np.diag(np.asarray(rnn.activation.slopes)[flat])
    e = np.asarray(rnn.activation.offsets)[flat]
    inverse = np.linalg.inv(np.eye(size) - C @ D)
    V = np.asarray(rnn.readout.kernel).T
    c = 0.0 if rnn.readout.bias is None else np.asarray(rnn.readout.bias)
    slope, initial, offset = [], [], []
    for t in range(time):
        top = block(len(widths) - 1, t)
        read = V @ D[top] @ inverse
        slope.append((read @ A).reshape(-1, time, inputs))
        initial.append(read @ B)
        offset.append(read @ (C @ e + b) + V @ e[top] + c)
    initial = np.split(np.stack(initial), np.cumsum(widths)[:-1], axis=-1)
    return np.stack(slope), tuple(initial), np.stack(offset)
