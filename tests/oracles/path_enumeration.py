"""Paths enumerated one by one, and dense Jacobians over them: slow, and obviously right."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np


def unrolled_paths(rnn, num_steps, readout="last"):
    """Every path of the unrolled network, as a tuple of edges (leaf's key path in the RNN, index), repeats included."""
    layers = rnn.layers
    widths = [layer.recurrent_kernel.shape[0] for layer in layers]
    inputs, outputs = layers[0].input_kernel.shape[0], rnn.readout.kernel.shape[1]

    def into(l, t, i):
        """All paths that end at unit i of layer l after step t (1-based); t = 0 is the initial state."""
        if t == 0:
            return [((("initial", l), (i,)),)] if rnn.initial is not None else []
        paths = []
        if l == 0:
            paths += [((("layers", 0, "input_kernel"), (j, i)),) for j in range(inputs)]
        else:
            for j in range(widths[l - 1]):
                paths += [(*path, (("layers", l, "input_kernel"), (j, i))) for path in into(l - 1, t, j)]
        for j in range(widths[l]):
            paths += [(*path, (("layers", l, "recurrent_kernel"), (j, i))) for path in into(l, t - 1, j)]
        if layers[l].bias is not None:
            paths.append(((("layers", l, "bias"), (i,)),))
        return paths

    found = []
    for t in [num_steps] if readout == "last" else range(1, num_steps + 1):
        for i, k in itertools.product(range(widths[-1]), range(outputs)):
            found += [(*path, (("readout", "kernel"), (i, k))) for path in into(len(layers) - 1, t, i)]
        if rnn.readout.bias is not None:
            found += [((("readout", "bias"), (k,)),) for k in range(outputs)]
    return found


def leaf_at(rnn, where):
    value = rnn
    for step in where:
        value = value[step] if isinstance(step, int) else getattr(value, step)
    return value


def path_lifting(rnn, paths):
    """The value of every path, (path,): the product of its weights, looked up one by one in a flat list of them all."""
    sizes = jax.tree.map(lambda leaf: np.zeros(leaf.shape, int), rnn)
    start = 0
    for leaf in jax.tree.leaves(sizes):
        leaf[...] = start + np.arange(leaf.size).reshape(leaf.shape)
        start += leaf.size
    longest = max(map(len, paths))
    # a last entry, 1, fills up the shorter paths
    chosen = np.full((len(paths), longest), start)
    for row, path in zip(chosen, paths, strict=True):
        row[: len(path)] = [leaf_at(sizes, where)[index] for where, index in path]
    weights = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(rnn)] + [jnp.ones(1)])
    return weights[chosen].prod(axis=1)


def metric_diagonal(rnn, paths):
    """diag(JᵀJ) of the path lifting, from its dense Jacobian: an RNN of arrays."""
    jacobian = jax.jacfwd(lambda weights: path_lifting(weights, paths))(rnn)
    return jax.tree.map(lambda rows: (rows**2).sum(axis=0), jacobian)


def first_order_metric(rnn, paths):
    """κ¹: for each use of a weight in a path, the squared product of the path's other uses; added up."""
    totals = {}
    weights = jax.tree.map(np.asarray, rnn)
    for path in paths:
        values = [leaf_at(weights, where)[index] for where, index in path]
        for use, edge in enumerate(path):
            others = values[:use] + values[use + 1 :]
            totals[edge] = totals.get(edge, 0.0) + float(np.prod(others)) ** 2
    summed = jax.tree.map(lambda leaf: np.zeros(leaf.shape), rnn)
    for (where, index), total in totals.items():
        leaf_at(summed, where)[index] = total
    return summed
