"""The sections on dynamics, for networks of every kind: memory, linear templates, fixed points, and stability."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from maso_rnn import plots, plots_dynamics, style
from maso_rnn.activations import Activation
from maso_rnn.activations import activation as activation_of
from maso_rnn.cells import Cell, Linearization, linearization_error, linearize
from maso_rnn.dynamics import (
    PulseDecay,
    Spectrum,
    fixed_points,
    jacobian_spectra,
    lyapunov_exponents,
    pulse_decay,
    spectrum,
    spectrum_table,
)
from maso_rnn.network import RNN, Layer, Readout, trajectory
from maso_rnn.report.document import Picture, Section
from maso_rnn.report.pieces import accuracy, template_picture
from maso_rnn.report.reading import Reading, carries

ACTIVATIONS = ("identity", "tanh", "relu")
HELD = 64  # steps of a constant input after which the state's growth is looked at
PULSE = 0.1  # its largest entry: small against the states that the input drives


def eigenvalues(networks: Mapping[str, RNN], xs: Array | Mapping[str, Array], *, steps: int = 64) -> Section:
    """The section on eigenvalues: the spectrum of the first recurrent kernel, and the memory it promises, measured.

    Args:
        networks: by name, the networks to compare, at most three: as {"before training": …, "after training": …}.
        xs: (time, input), a sequence that the networks read while the pulses decay; or by name, one for each.
        steps: up to which power the growth is followed.

    Returns:
        The section.
    """
    measured = jax.jit(partial(spectrum, steps=steps))
    spectra = {
        name: jax.tree.map(np.asarray, measured(rnn.layers[0].recurrent_kernel)) for name, rnn in networks.items()
    }
    decays = {
        name: jax.tree.map(np.asarray, _measure(rnn.layers[0], xs[name] if isinstance(xs, Mapping) else xs))
        for name, rnn in networks.items()
        if not spectra[name].defective
    }
    pictures = [_cloud(spectra), _horizons(spectra), _growth(spectra), *([_memory(decays)] if decays else [])]
    return Section(
        "eigenvalues",
        "Eigenvalues and memory",
        "In a linear network each eigenvalue λ of the recurrent kernel is a mode by itself: it remembers for "
        "−1 / ln|λ| steps and turns once in 2π / |arg λ|. Modes that are nearly parallel add up to a transient growth "
        "that no eigenvalue foretells, and an activation changes the memory; so the last picture gives each mode a "
        "pulse while the network reads a sequence, and measures how it decays.",
        pictures,
        {name: _values(found, decays.get(name, {})) for name, found in spectra.items()},
        [
            f"{name}: the recurrent kernel is defective, so that it has no modes to give a pulse to."
            for name, found in spectra.items()
            if found.defective
        ],
        [f"{pictures[0].reading} {pictures[1].reading}"],
    )


@jax.jit
def _measure(layer: Layer, xs: Array) -> dict[str, PulseDecay]:
    """By activation, the decay of a pulse in every mode of a layer that starts at zero and reads `xs`."""

    def step(act: Activation, h: Array, x: Array) -> Array:
        p = x @ layer.input_kernel + h @ layer.recurrent_kernel
        return act(p if layer.bias is None else p + layer.bias)

    state = jnp.zeros_like(layer.recurrent_kernel, shape=layer.recurrent_kernel.shape[:1])
    return {
        name: pulse_decay(partial(step, activation_of(name)), layer.recurrent_kernel, state, xs, amplitude=PULSE)
        for name in ACTIVATIONS
    }


def _values(found: Spectrum, decays: Mapping[str, PulseDecay]) -> dict[str, Any]:
    return {
        "radius": found.radius,
        "eigenvalues": np.stack([found.eigenvalues.real, found.eigenvalues.imag], axis=-1),
        "horizons": found.horizons,
        "norm": found.norm,
        "condition": found.condition,
        "departure": found.departure,
        "transient": found.transient,
        "growth": found.growth,
        "defective": bool(found.defective),
        "report": spectrum_table(found),
        "predicted_horizons": next(iter(decays.values())).predicted if decays else None,
        "measured_horizons": {act: decay.measured for act, decay in decays.items()},
        "median_measured_over_predicted_rate": {act: _ratio(decay) for act, decay in decays.items()},
    }


def _cloud(spectra: Mapping[str, Spectrum]) -> Picture:
    figure = style.new_figure(6.5, 6.5)
    clouds = {name: np.asarray(found.eigenvalues) for name, found in spectra.items()}
    plots.eigenvalue_cloud(clouds, axes=figure.add_subplot())
    outside = {name: int((np.abs(values) > 1 + 1e-6).sum()) for name, values in clouds.items()}
    reading = "; ".join(
        f"{_of(name, spectra)}{outside[name]} of {len(values)} eigenvalues are outside the unit circle, the largest "
        f"modulus is {np.abs(values).max():.3g}"
        for name, values in clouds.items()
    )
    return Picture("eigenvalue-cloud", "Which modes of the recurrent kernel grow?", figure, f"{_capital(reading)}.")


def _horizons(spectra: Mapping[str, Spectrum]) -> Picture:
    figure = style.new_figure(8, 4)
    horizons = {name: np.asarray(found.horizons) for name, found in spectra.items()}
    plots.horizon_histogram(horizons, axes=figure.add_subplot())
    reading = "; ".join(
        f"{_of(name, spectra)}half of the modes promise {_steps(float(np.median(_rates(found))))}"
        for name, found in horizons.items()
    )
    question = "How long do the eigenvalues promise to remember?"
    return Picture("memory-horizons", question, figure, f"{_capital(reading)}.")


def _growth(spectra: Mapping[str, Spectrum]) -> Picture:
    figure = style.new_figure(9, 4)
    plots.power_growth(
        {name: np.asarray(found.growth) for name, found in spectra.items()},
        {name: float(found.radius) for name, found in spectra.items()},
        axes=figure.add_subplot(),
    )
    more = {name: float(found.transient) for name, found in spectra.items()}
    verdict = next(word for word, most in (("Yes", 1.5), ("Nearly", 5.0), ("No", np.inf)) if max(more.values()) <= most)
    reading = "; ".join(
        f"{_of(name, spectra)}they are up to {value:.3g} times as large" for name, value in more.items()
    )
    question = "Do the powers of the kernel grow as its largest eigenvalue says?"
    return Picture("power-growth", question, figure, f"{verdict}. {_capital(reading)}.")


def _memory(decays: Mapping[str, Mapping[str, PulseDecay]]) -> Picture:
    figure = style.new_figure(style.PAGE, 3.9)
    panels = figure.subplots(1, len(ACTIVATIONS))
    for axes, act in zip(panels, ACTIVATIONS, strict=True):
        plots.memory_measured(
            {name: np.asarray(decay[act].predicted) for name, decay in decays.items()},
            {name: np.asarray(decay[act].measured) for name, decay in decays.items()},
            title=f"under {act}",
            axes=axes,
        )
    for axes in panels[1:]:
        axes.set_ylabel("")
        axes.get_legend().remove()
    reading = "; ".join(
        _of(name, decays) + ", ".join(f"{_share(decay[act])} under {act}" for act in ACTIVATIONS)
        for name, decay in decays.items()
    )
    return Picture(
        "memory-measured",
        "Does a pulse in each mode last as long as its eigenvalue predicts, and what does the activation do to it?",
        figure,
        f"So many modes decay as predicted, to within a tenth of the rate or a hundredth a step: {reading}.",
    )


def _rates(horizons: Any) -> np.ndarray:
    """−ln|λ|, the decay a step; a pulse that is gone at once has decayed by infinity."""
    horizons = np.asarray(horizons, float)
    with np.errstate(divide="ignore"):
        return np.where(np.isinf(horizons), 0.0, 1 / horizons)


def _share(decay: PulseDecay) -> str:
    predicted, measured = _rates(decay.predicted), _rates(decay.measured)
    with np.errstate(invalid="ignore"):
        held = np.abs(measured - predicted) <= np.maximum(0.1 * np.abs(predicted), 0.01)
    return f"{held.sum()} of {len(held)}"


def _ratio(decay: PulseDecay) -> float:
    """The median over modes of measured decay over predicted decay; infinite where the prediction is no decay."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.nanmedian(_rates(decay.measured) / _rates(decay.predicted)))


def _steps(rate: float) -> str:
    return (
        f"to remember for at least {1 / rate:.3g} steps" if rate > 1e-9 else "to keep what they hold, or to let it grow"
    )


def kernels(found: Reading) -> Section | None:
    """The recurrent kernels of the first, the middle and the last layer, each reading what it reads in the network."""
    rnn = found.network
    if not isinstance(rnn, RNN):
        return None
    recurrent = [l for l, layer in enumerate(rnn.layers) if layer.recurrent_kernel is not None]
    if not recurrent:
        return None
    x = found.sequence(int(found.lengths.argmax()))
    reads = [x, *trajectory(rnn, x).states[:-1]]
    shown = sorted({recurrent[0], recurrent[len(recurrent) // 2], recurrent[-1]})
    # one layer each, with a readout that nothing reads
    networks = {
        f"layer {l}": RNN(rnn.layers[l : l + 1], Readout(rnn.readout.kernel), None, rnn.activation) for l in shown
    }
    section = eigenvalues(networks, {f"layer {l}": reads[l] for l in shown})
    if len(shown) == len(recurrent):
        return section
    warning = f"Of {len(recurrent)} recurrent layers the first, the middle and the last are shown."
    return section._replace(warnings=[*section.warnings, warning])


def linear_templates(found: Reading) -> Section:
    """The templates of a network without pieces, to first order about each input, and how far they hold."""
    cell = found.cell
    examples = np.unique(np.linspace(0, len(found.xs) - 1, min(20, len(found.xs))).round().astype(int))
    chosen = found.of_different_classes(len(found.xs))
    scores = np.zeros(found.outputs.shape)
    maps: dict[int, Linearization] = {}

    def slope_at(i: int) -> np.ndarray:
        maps[i] = linearize(cell, found.sequences(i), length=jnp.asarray(found.lengths[i]))
        return np.asarray(maps[i].slope)

    shown = [i for i in chosen if found.right[i]][:20] + np.flatnonzero(~found.right)[:1].tolist()
    slopes = {i: slope_at(i) for i in {*shown, *examples.tolist()}}
    for i, slope in slopes.items():
        scores[i] = np.einsum("cti,ti->c", slope, found.sequences(i))
    by_input = {np.asarray(found.sequence(i)).tobytes(): slopes[i][:, : found.lengths[i]] for i in slopes}
    scales, errors = np.array([0.01, 0.03, 0.1, 0.3, 1.0]), []
    draw = np.random.default_rng(0)
    for i in examples.tolist():
        x, length = np.asarray(found.sequences(i)), int(found.lengths[i])
        push = draw.standard_normal(x.shape) * (np.arange(len(x)) < length)[:, None]
        push *= np.linalg.norm(x[:length]) / np.linalg.norm(push)
        for scale in scales:
            moved = jnp.asarray(x + scale * push, x.dtype)
            error = linearization_error(maps[i], cell, moved, length=jnp.asarray(length))
            change = np.asarray(error) + np.einsum("cti,ti->c", slopes[i], np.asarray(moved) - x)
            errors.append(np.linalg.norm(error) / max(np.linalg.norm(change), np.finfo(x.dtype).tiny))
    table = np.reshape(errors, (len(examples), len(scales))).T
    figure = style.new_figure(8, 4)
    plots.linear_errors(scales, table, axes=figure.add_subplot())
    middle = np.median(table, axis=1)
    holds = scales[middle <= 0.1]
    far = f"when the input moves by {holds.max():.0%} of its size or less" if len(holds) else "only for smaller moves"
    reading = f"Half of the sequences keep the error under a tenth of the change {far}."
    chance = np.unique(found.truth, return_counts=True)[1].max() / len(found.truth)
    return Section(
        "templates",
        "Templates, to first order",
        "A network of smooth cells has no affine pieces. About each input it is affine to first order, output ≈ "
        "slope · x + initial slope · h0 + offset, and exact at the input itself. The slope holds one template for each "
        f"class. The error is measured where {len(examples)} sequences are pushed in random directions.",
        [
            template_picture(found, lambda x: by_input[np.asarray(x).tobytes()], scores),
            Picture("template-error", "How far does the first-order map hold when the input moves?", figure, reading),
        ],
        {
            "accuracy": None if found.labels is None else found.right.mean(),
            "commonest_class": chance,
            "moved_by": scales,
            "median_error": middle,
        },
        ["No labels were given: the class that the network says stands for them."] * (found.labels is None),
        [*([] if found.labels is None else [accuracy(found, float(chance))]), reading],
    )


def settling(found: Reading) -> Section | None:
    """Where the network settles when its input is held at its mean."""
    n, cell = found.units, found.cell
    if found.affordable(20 * n**3, 4, least=0) < 4:
        return None
    # a search that finds nothing costs some twenty decompositions into singular values
    count = found.affordable(500 * found.work / found.xs.shape[1] + 3000 * n**3, 64, least=4)
    paths = [np.asarray(carries(cell, found.sequence(i))) for i in found.of_different_classes(10)]
    flat = np.concatenate(paths)
    starts = flat[np.unique(np.linspace(0, len(flat) - 1, count).round().astype(int))]
    _, unravel = ravel_pytree(cell.initial)
    held = jnp.asarray(found.mean_input, flat.dtype)
    points = fixed_points(cell, jax.vmap(unravel)(jnp.asarray(starts)), held, progress=False)
    points = points.where(~np.asarray(points.slow))
    stable, reached = np.asarray(points.stable), np.asarray(points.reached)
    longest = max(map(len, paths))
    trials = np.stack([np.concatenate([path, np.repeat(path[-1:], longest - len(path), axis=0)]) for path in paths])
    figure = style.new_figure(9, 5.5)
    flat_points = points._replace(states=jax.vmap(lambda carry: ravel_pytree(carry)[0])(points.states))
    plots_dynamics.fixed_points_among_states(flat_points, trials, axes=figure.add_subplot())
    if len(stable):
        counted = f"{len(stable)} fixed point{'s' * (len(stable) != 1)}, {stable.sum()} of them stable"
        answer = f"With its input held at the mean, a search from {len(starts)} states found {counted}."
    else:
        growth = _growth_at_rest(cell, jnp.asarray(flat[-1]), held)
        answer = (
            f"It settles nowhere that a search from {len(starts)} states found: with its input held at the mean, the "
            f"state is {growth:.3g} times as large after {HELD} more steps."
        )
    return Section(
        "fixed-points",
        "Fixed points",
        "A fixed point is a state that a constant input leaves where it is. The search runs from "
        f"{len(starts)} states of {len(paths)} trajectories, with the input held at its mean over the sequences; it "
        "may miss points. A stable one draws near states in: the Jacobian's eigenvalues are inside the unit circle. "
        "The picture shows the trajectories under their own, changing inputs.",
        [
            Picture(
                "fixed-points",
                "Where does the network settle when its input stops changing?",
                figure,
                answer,
                found.pieces is None,
            )
        ],
        {
            "input": held,
            "stable": stable,
            "reached": reached,
            "largest_modulus": np.abs(np.asarray(points.eigenvalues)).max(axis=1) if len(stable) else [],
            "searches_without_a_point": int(points.unconverged),
        },
        [f"{points.unconverged} of {len(starts)} searches found no point."] * bool(points.unconverged),
        [answer],
    )


@jax.jit
def _growth_at_rest(cell: Cell, state: Array, x: Array) -> Array:
    """By how much the flat state has grown after `HELD` steps of one input."""
    _, unravel = ravel_pytree(cell.initial)
    after, _ = jax.lax.scan(lambda carry, _: (cell(carry, x), None), unravel(state), length=HELD)
    return jnp.linalg.norm(ravel_pytree(after)[0]) / jnp.linalg.norm(state)


def stability(found: Reading) -> Section | None:
    """Whether a small change of the state grows while a sequence is read, and for how long it is felt."""
    i, n = int(found.lengths.argmax()), found.units
    time = int(found.lengths[i])
    steps, followed = (found.affordable(cost * n**3, min(200, time), least=0) for cost in (60, 2000))
    if min(steps, time) < 8:
        return None
    x, cell = found.sequence(i), found.cell
    measured = jax.tree.map(np.asarray, lyapunov_exponents(cell, cell.initial, x[:steps]))
    rate = float(measured.exponents[0])
    sizes = np.asarray(jacobian_spectra(cell, cell.initial, x[: max(followed, 1)]).log_singular_values)
    figure = style.new_figure(8, 4)
    plots.perturbation_growth(sizes, measured.exponents, axes=figure.add_subplot())
    stretch = float(np.exp(sizes[-1, 0]))
    verdict, summed = (
        ("Yes", "grow") if stretch > 2 else ("No", "fade") if stretch < 0.5 else ("Hardly", "keep their size")
    )
    answer = (
        f"after {len(sizes)} steps the most that a change is stretched is {stretch:.2g} times; the largest Lyapunov "
        f"exponent is {rate:+.3g} a step."
    )
    return Section(
        "stability",
        "Do small changes grow?",
        "The Jacobian of the state after each step in the first state says how far a change of it reaches; its "
        f"singular values are the stretches, here over {len(sizes)} steps. Lyapunov exponents are their mean rates, "
        f"here over {steps} steps of {found.named(i)}: exponents of so short a way are of this way alone.",
        [
            Picture(
                "perturbations",
                "Does a small change of the state grow while a sequence is read?",
                figure,
                f"{verdict}: {answer}",
            )
        ],
        {"lyapunov_exponents": measured.exponents, "steps": steps, "log_largest_stretch": sizes[:, 0]},
        answers=[f"Small changes of the state {summed}: {answer}"],
    )


def _of(name: str, among: Mapping[str, Any]) -> str:
    return f"{name}: " if len(among) > 1 else ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
