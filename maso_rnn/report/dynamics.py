"""The eigenvalues before and after training: where they went, and whether they tell how long the network remembers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from maso_rnn import plots
from maso_rnn.activations import Activation
from maso_rnn.activations import activation as activation_of
from maso_rnn.dynamics import PulseDecay, Spectrum, pulse_decay, spectrum, spectrum_table
from maso_rnn.network import RNN, Layer
from maso_rnn.report.document import Picture, Section

ACTIVATIONS = ("identity", "tanh", "relu")
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
    pictures = [_cloud(spectra), _horizons(spectra), _growth(spectra)]
    if decays:
        pictures.append(_memory(decays))
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
            f"{name}: the recurrent kernel is defective, so that it has no modes to give a pulse to"
            for name, found in spectra.items()
            if found.defective
        ],
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
    figure = plots.new_figure(10, 5)
    clouds = {name: np.asarray(found.eigenvalues) for name, found in spectra.items()}
    whole, near = figure.subplots(1, 2)
    for axes, title in ((whole, "the whole circle"), (near, "the eigenvalues, close up")):
        plots.eigenvalue_cloud(clouds, axes=axes)
        axes.set_title(title)
    values = np.concatenate(list(clouds.values()))
    middle = (values.real.min() + values.real.max()) / 2  # the imaginary parts are even about 0
    reach = 1.1 * max(np.abs(values.real - middle).max(), np.abs(values.imag).max(), 0.01)
    near.set(xlim=(middle - reach, middle + reach), ylim=(-reach, reach))
    near.get_legend().remove()
    reading = "; ".join(
        f"{name}: {(np.abs(found.eigenvalues) > 1.0 + 1e-6).sum()} of {len(found.eigenvalues)} eigenvalues are outside "
        f"the unit circle; moduli: largest {found.radius:.3g}, median {np.median(np.abs(found.eigenvalues)):.3g}"
        for name, found in spectra.items()
    )
    return Picture("eigenvalue-cloud", "Where do the eigenvalues lie about the unit circle?", figure, reading)


def _horizons(spectra: Mapping[str, Spectrum]) -> Picture:
    figure = plots.new_figure(8, 4)
    plots.horizon_histogram(
        {name: np.asarray(found.horizons) for name, found in spectra.items()}, axes=figure.add_subplot()
    )
    reading = "; ".join(
        f"{name}: half of the modes promise {_steps(np.median(_rates(found.horizons)))} or more"
        for name, found in spectra.items()
    )
    return Picture("memory-horizons", "How long do the eigenvalues promise to remember?", figure, reading)


def _growth(spectra: Mapping[str, Spectrum]) -> Picture:
    figure = plots.new_figure(8, 4)
    plots.power_growth(
        {name: np.asarray(found.growth) for name, found in spectra.items()},
        {name: float(found.radius) for name, found in spectra.items()},
        axes=figure.add_subplot(),
    )
    reading = "; ".join(
        f"{name}: powers grow to {found.transient:.3g} times what the radius explains, with a Henrici departure of "
        f"{found.departure:.2g}"
        for name, found in spectra.items()
    )
    return Picture("power-growth", "Do the powers of the kernel grow as the eigenvalues say?", figure, reading)


def _memory(decays: Mapping[str, Mapping[str, PulseDecay]]) -> Picture:
    figure = plots.new_figure(3.8 * len(ACTIVATIONS), 4.2)
    for axes, act in zip(figure.subplots(1, len(ACTIVATIONS)), ACTIVATIONS, strict=True):
        plots.memory_measured(
            {name: np.asarray(decay[act].predicted) for name, decay in decays.items()},
            {name: np.asarray(decay[act].measured) for name, decay in decays.items()},
            title=f"the kernel under {act}",
            axes=axes,
        )
    reading = "; ".join(
        f"{name}: " + ", ".join(f"{act} {_share(decay[act])}" for act in ACTIVATIONS) for name, decay in decays.items()
    )
    return Picture(
        "memory-measured",
        "Does a pulse in each mode last as long as its eigenvalue predicts, and what does the activation do to it?",
        figure,
        "Modes whose pulse decays at the predicted rate to within a tenth of it, or a hundredth a step: "
        f"{reading}. Below the diagonal it is forgotten sooner.",
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
    return f"{1 / rate:.3g} steps" if rate > 1e-9 else "memory without decay"
