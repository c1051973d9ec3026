"""Linear bounds of a ReLU network unrolled in time, in plain NumPy: one dense matrix for each unit at each step."""

import numpy as np


def output_bounds(rnn, xs, radius, norm, state):
    """Lower and upper (output,), over the ball around the whole sequence, without a word about rounding."""
    layers = [tuple(None if a is None else np.asarray(a, float) for a in vars(layer).values()) for layer in rnn.layers]
    xs = np.asarray(xs, float)
    widths = [len(h) for h in state]
    lines, boxes = {}, {}  # by (layer, step): slopes and offsets below and above; the range of the state

    def bound(on_p, on_h, t):
        """The least of forms on pre-activations and states, by (layer, step), up to step t."""
        constant, onto = 0.0, 0.0
        for step in range(t, -1, -1):
            for layer in reversed(range(len(layers))):
                A = on_p.pop((layer, step), 0.0)
                if (layer, step) in on_h:
                    on = on_h.pop((layer, step))
                    low_slope, low, high_slope, high = lines[layer, step]
                    up, down = np.maximum(on, 0), np.minimum(on, 0)
                    constant = constant + up @ low + down @ high
                    A = A + up * low_slope + down * high_slope
                if np.ndim(A):
                    W, U, b = layers[layer]
                    constant = constant + (0 if b is None else A @ b)
                    if layer:
                        on_h[layer - 1, step] = on_h.get((layer - 1, step), 0) + A @ W.T
                    else:
                        onto = onto + np.einsum("ri,t->rti", A @ W.T, np.arange(len(xs)) == step)
                    if U is not None:
                        on_h[layer, step - 1] = on_h.get((layer, step - 1), 0) + A @ U.T
        for (layer, _), on in on_h.items():
            constant = constant + on @ np.asarray(state[layer], float)
        flat = onto.reshape(len(onto), -1)
        fall = np.linalg.norm(flat, axis=1) if norm == "l2" else np.abs(flat).sum(axis=1)
        return constant + flat @ xs.ravel() - radius * fall

    for t in range(len(xs)):
        for l, (W, U, b) in enumerate(layers):
            eye = np.eye(widths[l])
            both = bound({(l, t): np.concatenate([eye, -eye])}, {}, t)
            low, high = both[: widths[l]], -both[widths[l] :]
            ranges = [(boxes[l - 1, t], W) if l else (None, W)]
            if U is not None:
                ranges.append((boxes[l, t - 1] if t else (np.asarray(state[l]),) * 2, U))
            middle, reach = np.zeros(widths[l]) + (0 if b is None else b), np.zeros(widths[l])
            for box, kernel in ranges:
                if box is None:
                    middle, reach = (
                        middle + xs[t] @ kernel,
                        radius * np.linalg.norm(kernel, 2 if norm == "l2" else 1, axis=0),
                    )
                else:
                    middle = middle + (box[0] + box[1]) / 2 @ kernel
                    reach = reach + (box[1] - box[0]) / 2 @ np.abs(kernel)
            low, high = np.maximum(low, middle - reach), np.minimum(high, middle + reach)
            crossing = (low < 0) & (high > 0)
            steep = np.where(crossing, high / np.where(crossing, high - low, 1), high > 0)
            lines[l, t] = (
                np.where(crossing, high > -low, high > 0) * 1.0,
                0 * low,
                steep,
                np.where(crossing, -steep * low, 0),
            )
            boxes[l, t] = np.maximum(low, 0), np.maximum(high, 0)
    kernel, bias = np.asarray(rnn.readout.kernel, float).T, np.asarray(rnn.readout.bias, float)
    last = len(layers) - 1, len(xs) - 1
    lower, upper = (bound({}, {last: rows}, last[1]) for rows in (kernel, -kernel))
    return lower + bias, bias - upper
