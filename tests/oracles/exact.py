"""Networks and signatures in rational arithmetic: no rounding at all, for small cases."""

from fractions import Fraction

import numpy as np

from maso_rnn import PiecewiseAffine


def exact(array):
    """The numbers of an array as fractions, which every float is."""
    array = np.asarray(array)
    fractions = [Fraction(float(number)) for number in array.ravel()]
    return np.array(fractions, dtype=object).reshape(array.shape)


def affine_map(rnn, xs, h0):
    """Last output, its slope (output, time, input), initial slopes and offset, pushed forward through the states."""
    act: PiecewiseAffine = rnn.activation
    kinks, slopes, offsets = (exact(np.asarray(field)) for field in (act.breakpoints, act.slopes, act.offsets))
    xs, states = exact(xs), [exact(h) for h in h0]
    columns = xs.size + sum(len(h) for h in states) + 1  # inputs of all steps, initial states, constant
    rows, start = [], xs.size
    for h in states:
        row = exact(np.zeros((columns, len(h))))
        row[start : start + len(h)] = exact(np.eye(len(h)))
        rows.append(row)
        start += len(h)
    inputs = xs.shape[1]
    for t, x in enumerate(xs):
        below, through = x, exact(np.zeros((columns, inputs)))
        through[t * inputs : (t + 1) * inputs] = exact(np.eye(inputs))
        for l, layer in enumerate(rnn.layers):
            kernel, recurrent = exact(layer.input_kernel), exact(layer.recurrent_kernel)
            p, moved = below @ kernel + states[l] @ recurrent, through @ kernel + rows[l] @ recurrent
            if layer.bias is not None:
                p, moved[-1] = p + exact(layer.bias), moved[-1] + exact(layer.bias)
            code = (p[:, None] > kinks).sum(axis=1)
            states[l], rows[l] = slopes[code] * p + offsets[code], moved * slopes[code]
            rows[l][-1] += offsets[code]
            below, through = states[l], rows[l]
    readout = exact(rnn.readout.kernel)
    output, maps = states[-1] @ readout, (rows[-1] @ readout).T
    if rnn.readout.bias is not None:
        output, maps[:, -1] = output + exact(rnn.readout.bias), maps[:, -1] + exact(rnn.readout.bias)
    ends = np.cumsum([xs.size, *(len(h) for h in h0)])
    slope, *initial, offset = np.split(maps, ends, axis=1)
    return output, slope.reshape(-1, *xs.shape), initial, offset[:, 0]


def signature(path, depth):
    """Levels 1 to depth of the signature, flat: each straight piece's exponential joined to the rest."""
    increments = np.diff(exact(path), axis=0)
    levels = [np.array([Fraction(1)], dtype=object)]
    levels += [exact(np.zeros(increments.shape[1] ** k)) for k in range(1, depth + 1)]
    for x in increments:
        piece = [levels[0]]
        for k in range(1, depth + 1):
            piece.append(np.multiply.outer(piece[-1], x).ravel() / k)
        levels = [
            sum(np.multiply.outer(levels[j], piece[k - j]).ravel() for j in range(k + 1)) for k in range(depth + 1)
        ]
    return np.concatenate(levels[1:])


def path_norm(rnn, steps):
    """γ²: the output of the squared network on ones."""

    def square(leaf):
        return exact(leaf) ** 2

    states = [exact(np.zeros(len(layer.recurrent_kernel))) for layer in rnn.layers]
    if rnn.initial is not None:
        states = [square(h) for h in rnn.initial]
    for _ in range(steps):
        below = exact(np.ones(len(rnn.layers[0].input_kernel)))
        for l, layer in enumerate(rnn.layers):
            p = below @ square(layer.input_kernel) + states[l] @ square(layer.recurrent_kernel)
            states[l] = p if layer.bias is None else p + square(layer.bias)
            below = states[l]
    total = (states[-1] @ square(rnn.readout.kernel)).sum()
    return total if rnn.readout.bias is None else total + square(rnn.readout.bias).sum()
