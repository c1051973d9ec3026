"""One step of gradient descent in path space, written out by hand for one and for three layers.

The chain rule and the weight allocation stand here unit by unit in NumPy loops, with no vjp and no common code with the
package: for each edge the derivative of the loss in the path value through it, the step, and the new weight.
"""

import numpy as np


def one_layer_step(rnn, gradient, graph, rate):
    """(out, in) notation of the papers: p = s q, α = W q, β = s V, γ_ij = s_j U_ij q_i, δ = b q.

    s_i is the weight into unit i from its input, q_i the frozen weight out of it. W(d,H), U(H,H), V(H,K).
    """
    w, u, b = (np.asarray(getattr(rnn.layers[0], n)) for n in ("input_kernel", "recurrent_kernel", "bias"))
    gw, gu, gb = (np.asarray(getattr(gradient.layers[0], n)) for n in ("input_kernel", "recurrent_kernel", "bias"))
    v, gv = np.asarray(rnn.readout.kernel), np.asarray(gradient.readout.kernel)
    c, gc = np.asarray(rnn.readout.bias), np.asarray(gradient.readout.bias)
    h0, gh = np.asarray(rnn.initial[0]), np.asarray(gradient.initial[0])
    (source,), (target,) = graph.skeleton
    units = range(len(b))
    s = np.array([w[source[i], i] for i in units])
    q = np.array([v[i, target[i]] for i in units])

    # ∂loss/∂p_i: a change of p_i changes s_i = p_i / q_i, and, with the other path values held, the weights
    # V_ik = β_ik / s_i and U_ij = γ_ij / (s_i q_j) of the edges that leave unit i
    gp = np.zeros(len(b))
    for i in units:
        gs = gw[source[i], i]
        gs -= sum(gv[i, k] * v[i, k] / s[i] for k in range(v.shape[1]) if k != target[i])
        gs -= sum(gu[i, j] * u[i, j] / s[i] for j in units)
        gp[i] = gs / q[i]
    p_new = s * q - rate * gp
    s_new = p_new / q

    new_w, new_u, new_v = w.copy(), u.copy(), v.copy()
    for i in units:
        for j in range(w.shape[0]):
            alpha = w[j, i] * q[i]
            new_w[j, i] = s_new[i] if j == source[i] else (alpha - rate * gw[j, i] / q[i]) / q[i]
        for j in units:
            gamma = s[i] * u[i, j] * q[j]
            new_u[i, j] = (gamma - rate * gu[i, j] / (s[i] * q[j])) / (s_new[i] * q[j])
        for k in range(v.shape[1]):
            beta = s[i] * v[i, k]
            if k != target[i]:
                new_v[i, k] = (beta - rate * gv[i, k] / s[i]) / s_new[i]
    new_b = (b * q - rate * gb / q) / q
    new_h = (h0 * q - rate * gh / q) / q
    return {
        "input_kernel": [new_w],
        "recurrent_kernel": [new_u],
        "bias": [new_b],
        "initial": [new_h],
        "readout": new_v,
        "readout_bias": c - rate * gc,
    }


def three_layer_step(rnn, gradient, graph, rate):
    """Three layers without biases: B, F and the allocation unit by unit; ∂w/∂v by the product rule, edge by edge."""
    kernels = [np.asarray(layer.input_kernel) for layer in rnn.layers] + [np.asarray(rnn.readout.kernel)]
    slopes = [np.asarray(layer.input_kernel) for layer in gradient.layers] + [np.asarray(gradient.readout.kernel)]
    recurrent = [np.asarray(layer.recurrent_kernel) for layer in rnn.layers]
    recurrent_slopes = [np.asarray(layer.recurrent_kernel) for layer in gradient.layers]
    incoming, outgoing = graph.skeleton
    depth = len(recurrent)
    widths = [u.shape[0] for u in recurrent]

    frozen = [[kernels[l + 1][i, outgoing[l][i]] for i in range(widths[l])] for l in range(depth)]
    f = [None] * depth + [np.ones(kernels[-1].shape[1])]
    for l in reversed(range(depth)):
        f[l] = np.array([frozen[l][i] * f[l + 1][outgoing[l][i]] for i in range(widths[l])])
    # b[0] are the inputs, b[l + 1] the units of layer l
    b = [np.ones(kernels[0].shape[0])]
    for l in range(depth):
        b.append(np.array([b[l][incoming[l][i]] * kernels[l][incoming[l][i], i] for i in range(widths[l])]))

    def is_frozen(l, j, i):
        """Whether the edge j → i into layer l is one that leads out along the skeleton."""
        return l > 0 and outgoing[l - 1][j] == i

    def allocate(values, recurrent_values):
        into = [np.ones(kernels[0].shape[0])]
        for l in range(depth):
            row = []
            for i in range(widths[l]):
                j = incoming[l][i]
                row.append(into[l][j] * frozen[l - 1][j] if is_frozen(l, j, i) else values[l][j, i] / f[l][i])
            into.append(np.array(row))
        new = [
            np.array(
                [
                    [values[l][j, i] / (into[l][j] * f[l][i]) for i in range(values[l].shape[1])]
                    for j in range(values[l].shape[0])
                ]
            )
            for l in range(depth + 1)
        ]
        for l in range(depth):
            for i in range(widths[l]):
                new[l + 1][i, outgoing[l][i]] = frozen[l][i]
        new_recurrent = [
            np.array(
                [
                    [recurrent_values[l][i, j] / (into[l + 1][i] * f[l][j]) for j in range(widths[l])]
                    for i in range(widths[l])
                ]
            )
            for l in range(depth)
        ]
        return new, new_recurrent

    values = [b[l][:, None] * kernels[l] * f[l] for l in range(depth + 1)]
    recurrent_values = [b[l + 1][:, None] * recurrent[l] * f[l] for l in range(depth)]

    # ∂loss/∂ln B of a unit: minus w · slope over the free edges that leave it, and what it passes on to the units whose
    # product runs through a frozen edge from it (there ln B of the upper unit is ln B of the lower plus a constant)
    log_b = [np.zeros(width) for width in widths]
    for l in reversed(range(depth)):
        for i in range(widths[l]):
            total = -sum(
                kernels[l + 1][i, k] * slopes[l + 1][i, k]
                for k in range(kernels[l + 1].shape[1])
                if outgoing[l][i] != k
            )
            total -= sum(recurrent[l][i, j] * recurrent_slopes[l][i, j] for j in range(widths[l]))
            if l + 1 < depth:
                k = outgoing[l][i]
                if incoming[l + 1][k] == i:
                    total += log_b[l + 1][k]
            log_b[l][i] = total
    stepped = []
    for l in range(depth + 1):
        new = values[l].copy()
        for j, i in np.ndindex(*values[l].shape):
            if l > 0 and outgoing[l - 1][j] == i:
                continue
            slope = slopes[l][j, i] / (b[l][j] * f[l][i])
            if l < depth and incoming[l][i] == j:
                slope += log_b[l][i] / values[l][j, i]  # B_i = v / F_i
            new[j, i] -= rate * slope
        stepped.append(new)
    recurrent_stepped = [
        recurrent_values[l] - rate * recurrent_slopes[l] / (b[l + 1][:, None] * f[l]) for l in range(depth)
    ]
    new, new_recurrent = allocate(stepped, recurrent_stepped)
    return {"input_kernel": new[:-1], "recurrent_kernel": new_recurrent, "readout": new[-1]}
