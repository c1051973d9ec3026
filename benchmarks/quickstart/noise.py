"""The report's sections on noise: what it costs, what penalty it is, and what training with it did to the network."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from benchmarks.data.dataset import Dataset
from benchmarks.quickstart.training import Trained
from maso_rnn import RNN, affine_map, initial_state, noise_penalty, plots, random_initial_state, style, trajectory
from maso_rnn.report import Picture, Section

if TYPE_CHECKING:
    from benchmarks.quickstart import Quickstart


def initial_slope(trained: Trained, data: Dataset, settings: Quickstart) -> Section:
    """How far the output moves with the initial state, while the networks train."""
    del settings
    return slope_over_training(trained.epochs.tolist(), trained.snapshots, jnp.asarray(data.test.inputs[:100]))


def slope_over_training(epochs: Sequence[int], snapshots: Mapping[str, Sequence[RNN]], xs: Array) -> Section:
    """The section, of networks by name at these epochs, on sequences (example, time, input)."""
    measured = {name: np.stack([_slope_norms(rnn, xs) for rnn in rnns]) for name, rnns in snapshots.items()}
    medians = {name: np.median(norms, axis=1) for name, norms in measured.items()}
    figure = style.new_figure(8, 4)
    plots.over_training(epochs, measured, label="norm of the initial-state slope", log=True, axes=figure.add_subplot())
    ends = {name: norms[-1] for name, norms in medians.items()}
    first, *_, last = ends.values()
    answer = f"{'Yes' if last < first else 'No'}: at the end its median norm is " + (
        ", ".join(f"{name} {end:.3g}" for name, end in ends.items()) + "."
    )
    return Section(
        "initial-state",
        "The initial state",
        "How far the output moves with the initial state is the norm of the affine map's initial-state slope; noise on "
        "the initial state penalises it, against whatever else larger logits gain. Lines are medians over the test "
        "sequences, bands their quartiles. A norm of exactly zero, as where the first input is 0 and so are the biases "
        "(every unit then sits on its kink and counts as off), is left out.",
        [Picture("initial-slope", "Does noise on the initial state shrink the output's slope in it?", figure, answer)],
        {"epochs": np.asarray(epochs), "median_norm": medians},
    )


@jax.jit
def _slope_norms(rnn: RNN, xs: Array) -> Array:
    def one(x: Array) -> Array:
        return jnp.sqrt(sum((slope**2).sum() for slope in affine_map(rnn, x).initial_slope))

    return jax.lax.map(one, xs, batch_size=min(100, len(xs)))


def cost(trained: Trained, data: Dataset, settings: Quickstart) -> Section:
    """Measured against predicted noise penalty."""
    count, pairs = (10, 5) if settings.smoke else (60, 20)
    xs, labels = jnp.asarray(data.test.inputs[:count]), jnp.asarray(data.test.targets[:count])
    scales = (1e-5, 1e-4, 1e-3, 1e-2, 0.1)
    key = jax.random.fold_in(jax.random.key(settings.seed), 3)
    found = measured_cost(trained.networks, xs, labels, key=key, scales=scales, pairs=pairs)
    figure = style.new_figure(style.PAGE, 5)
    left, right = figure.subplots(1, 2)
    plots.measured_and_predicted(scales, {n: (f.measured, f.stderr, f.predicted) for n, f in found.items()}, axes=left)
    plots.region_changes(scales, {name: f.left for name, f in found.items()}, axes=right)
    answer = _compared(found.values())
    return Section(
        "noise",
        "Noise on the initial state",
        "Noise of standard deviation σ on a state adds to the expected loss, to second order and while it stays on the "
        "piece, σ²/2 times the trace of the loss's Hessian with the slope in that state. Measured with antithetic "
        f"pairs, cross-entropy, mean over {count} sequences, {pairs} pairs each; bars are two standard errors. The "
        "noise is put on the initial state, and on the state in the middle of the sequence: from h0 = 0 and black "
        "pixels units start on or next to their kinks, where every noise leaves the piece, and its cost is then of "
        "first order in σ.",
        [Picture("noise-penalty", "Does the penalty predict what noise on the state costs?", figure, answer)],
        {
            name: {"scales": np.asarray(scales), **{field: getattr(f, field) for field in f._fields}}
            for name, f in found.items()
        },
    )


def _compared(found: Collection[Cost]) -> str:
    """How often the penalty is near the cost, and how far it is where it is not."""
    measured, predicted = (np.concatenate([getattr(f, field) for f in found]) for field in ("measured", "predicted"))
    ratios = measured[predicted > 0] / predicted[predicted > 0]
    if not ratios.size:
        return "That cannot be told: the penalty is zero everywhere."
    near = (ratios > 0.5) & (ratios < 2)
    verdict = "Yes" if near.mean() > 0.9 else "Partly" if near.mean() >= 0.4 else "Mostly not"
    beyond = (
        f", and up to {ratios.max():.2g} times it where samples leave their region (right)" if ratios.max() > 2 else ""
    )
    return f"{verdict}: the cost is within a factor of two of the penalty in {near.sum()} of {near.size} cases{beyond}."


class Cost(NamedTuple):
    """Over sequences, for each scale: the loss that noise adds, its standard error, the penalty, who left."""

    measured: Any
    stderr: Any
    predicted: Any
    left: Any


def measured_cost(
    networks: Mapping[str, RNN],
    xs: Array,
    labels: Array,
    *,
    key: Array,
    scales: Sequence[float],
    pairs: int,
) -> dict[str, Cost]:
    """What noise on the state costs, for each network from the start and from the middle of the sequences.

    Args:
        networks: by name.
        xs: (example, time, input), of at least two steps.
        labels: (example,), their classes.
        key: draws the noise.
        scales: (scale,), its standard deviations.
        pairs: antithetic pairs of states for each sequence.
    """
    half = xs.shape[1] // 2
    found = {}
    with jax.enable_x64(True):  # differences of losses of 1e-9 are beyond float32
        wide = jnp.asarray(np.asarray(xs, np.float64))
        for name, rnn in networks.items():
            double = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, np.float64)), rnn)
            begin, middle = _states(double, wide, half)
            for place, start, rest in (("start", begin, wide), ("middle", middle, wide[:, half:])):
                costs = _cost(double, rest, labels, start, key, jnp.asarray(scales, float), pairs)
                found[f"{name}, from the {place}"] = jax.tree.map(np.asarray, costs)
    return found


@partial(jax.jit, static_argnames="half")
def _states(rnn: RNN, xs: Array, half: int) -> tuple[Any, Any]:
    """For every sequence the initial state, and the state after `half` steps."""

    def one(x: Array) -> tuple[Any, Any]:
        return initial_state(rnn), tuple(h[half - 1] for h in trajectory(rnn, x).states)

    return jax.lax.map(one, xs)


@partial(jax.jit, static_argnames="pairs")
def _cost(rnn: RNN, xs: Array, labels: Array, states: Any, key: Array, scales: Array, pairs: int) -> Cost:
    """Antithetic pairs: the odd orders cancel, so that few pairs tell the second one."""

    def loss(z: Array, label: Array) -> Array:
        return jax.nn.logsumexp(z) - z[label]

    def one(row: tuple[Array, Array, Any, Array]) -> Cost:
        x, label, h0, key = row
        here = trajectory(rnn, x, h0)
        mean = jax.tree.map(jnp.zeros_like, h0)

        def run(noise: Any) -> tuple[Array, Array]:
            there = trajectory(rnn, x, jax.tree.map(jnp.add, h0, noise))
            left = jnp.stack([(a != b).any() for a, b in zip(there.codes or (), here.codes or (), strict=True)]).any()
            return loss(there.outputs[-1], label) - loss(here.outputs[-1], label), left.astype(x.dtype)

        def at(scale: Array, key: Array) -> Cost:
            def pair(key: Array) -> tuple[Array, Array]:
                noise = random_initial_state(key, mean, scale)
                (up, left_up), (down, left_down) = run(noise), run(jax.tree.map(jnp.negative, noise))
                return (up + down) / 2, (left_up + left_down) / 2

            gaps, left = jax.vmap(pair)(jax.random.split(key, pairs))
            predicted = noise_penalty(rnn, x, h0, scale=scale, loss=lambda z: loss(z, label))
            return Cost(gaps.mean(), gaps.var(ddof=1) / pairs, predicted, left.mean())

        return jax.vmap(at)(scales, jax.random.split(key, len(scales)))

    found = jax.lax.map(one, (xs, labels, states, jax.random.split(key, len(xs))))
    mean = jax.tree.map(lambda values: values.mean(axis=0), found)
    return mean._replace(stderr=jnp.sqrt(mean.stderr / len(xs)))
