"""How a tanh SRNN responds to a real signal: kernels, the series against simulation, and what truncation costs."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import srnn
from benchmarks.response.signals import SIGNALS
from maso_rnn.report import Picture
from maso_rnn.style import PAGE, new_figure
from srnn import plots


class Setting(NamedTuple):
    """A model and what drives it.

    Attributes:
        model: a tanh SRNN with a bias, so that its response has even orders too.
        control: (step, input), a signal of variance 1.
        dt: the step, in units of time.
        paths: how many.
        orders: highest order of the series.
        amplitudes: of the signal, ascending.
    """

    model: srnn.SRNN
    control: Float[Array, "step input"]
    dt: float
    paths: int
    orders: int
    amplitudes: tuple[float, ...]


def tanh_srnn(key: Array, *, inputs: int, hidden: int) -> srnn.SRNN:
    """A contracting tanh SRNN with noise on every unit, decay times from 1 down to 1/6, excited by its input."""
    bias_key, model_key = jax.random.split(key)
    model = srnn.init(model_key, inputs, hidden, radius=0.6, noise=0.6)
    gains = jnp.abs(model.input_kernel)
    return dataclasses.replace(
        model,
        bias=0.7 * jax.random.normal(bias_key, (hidden,)),
        decay=jnp.geomspace(1.0, 6.0, hidden),
        input_kernel=gains / jnp.linalg.norm(gains),
    )


def readout(state: Array) -> Array:
    """The activity along one direction, squashed: a readout that is not linear."""
    return jnp.tanh(state.sum() / math.sqrt(len(state)))


@dataclasses.dataclass(frozen=True)
class Kernels:
    """A network and a signal whose response is measured.

    Attributes:
        seed: of network and noise, and which of the signals is taken.
        signal: one of `SIGNALS`.
        hidden: units.
        steps: of the signal.
        dt: units of time a step.
        paths: how many.
        orders: highest order of the series.
        amplitudes: of the signal, ascending.
    """

    seed: int
    signal: str
    hidden: int = 16
    steps: int = 64
    dt: float = 0.1
    paths: int = 1000
    orders: int = 3
    amplitudes: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


def measured(one: Kernels) -> dict[str, Any]:
    """Every number of a configuration; `restored` makes responses of them again."""
    model_key, noise_key = jax.random.split(jax.random.key(one.seed))
    signal = SIGNALS[one.signal](one.steps, one.seed)
    setting = Setting(
        model=tanh_srnn(model_key, inputs=signal.shape[1], hidden=one.hidden),
        control=jnp.asarray(signal, float),
        dt=one.dt,
        paths=one.paths,
        orders=one.orders,
        amplitudes=one.amplitudes,
    )
    return values(setting, measure(setting, noise_key))


class Responses(NamedTuple):
    """What was measured.

    Attributes:
        first: kernel of order 1.
        second: kernel of order 2, on some of the steps.
        timescales: of the first.
        simulated: (amplitude,), change of the mean readout.
        stderr: (amplitude,), of it, path by path against the undriven run with the same noise.
        predicted: (order, amplitude), partial sums of the series.
        errors: (order, amplitude), how far they are from the simulated change.
        bounds: (order, amplitude), on their errors.
        slopes: by order, of the error against the amplitude on logarithmic axes, at the smaller amplitudes.
        shrinking: whether the last term at amplitude 1 is smaller than the one before.
        diverged: paths.
    """

    first: srnn.Kernel
    second: srnn.Kernel
    timescales: srnn.Timescales
    simulated: np.ndarray
    stderr: np.ndarray
    predicted: np.ndarray
    errors: np.ndarray
    bounds: np.ndarray
    slopes: tuple[float, ...]
    shrinking: bool
    diverged: int


def measure(setting: Setting, key: Array) -> Responses:
    """Kernels, series and simulation, with common random numbers; in float64, or truncation drowns in rounding."""
    with jax.enable_x64(True):
        model = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), setting.model)
        control = jnp.asarray(setting.control, jnp.float64)
        steps = len(control)
        run: dict[str, Any] = {"t1": steps * setting.dt, "dt": setting.dt, "paths": setting.paths, "key": key}
        first = srnn.response_kernel(model, readout, **run)
        some = tuple(range(0, steps, max(1, steps // 16)))
        second_run = run | {"paths": max(2, setting.paths // 4)}
        second = srnn.response_kernel(model, readout, order=2, steps=some, **second_run)
        terms = srnn.volterra_terms(model, readout, control, max_order=setting.orders, **run)
        free = srnn.simulate(model, jnp.zeros_like(control), readout=readout, **run)
        amplitudes = np.asarray(setting.amplitudes)
        driven = [srnn.simulate(model, a * control, readout=readout, **run) for a in setting.amplitudes]
        changes = np.stack([np.asarray(ensemble.values - free.values)[:, 0] for ensemble in driven])
        powers = amplitudes ** np.arange(1, setting.orders + 1)[:, None]
        predicted = np.cumsum(np.asarray(terms.mean)[:, None] * powers, axis=0)
        # sd at an upper limit of 99.9% for near-normal values
        sd = float(free.values.std(ddof=1)) * (1 + 3.1 / math.sqrt(2 * setting.paths))
        bounds = np.asarray(_bounds(model, control, amplitudes, sd, setting.dt, setting.orders))
        errors = np.abs(changes.mean(axis=1) - predicted)
        small = slice(0, 3)
        slopes = tuple(float(np.polyfit(np.log(amplitudes[small]), np.log(error[small]), 1)[0]) for error in errors)
        timescales = srnn.memory_timescales(first, components=min(2, (steps - 1) // 4))
        first, second, timescales = jax.tree.map(np.asarray, (first, second, timescales))
        return Responses(
            first,
            second,
            timescales,
            changes.mean(axis=1),
            changes.std(axis=1, ddof=1) / math.sqrt(setting.paths),
            predicted,
            errors,
            bounds,
            slopes,
            bool(terms.shrinking),
            int(free.diverged + sum(ensemble.diverged for ensemble in driven)),
        )


@functools.partial(jax.jit, static_argnames=("dt", "orders"))
def _bounds(model: srnn.SRNN, control: Array, amplitudes: Array, sd: Array, dt: float, orders: int) -> Array:
    """(order, amplitude), on the error of the series."""

    def bound(order: int, amplitude: Array) -> Array:
        return srnn.truncation_bound(model, amplitude * control, dt=dt, order=order, readout_sd=sd)

    return jnp.stack([jax.vmap(functools.partial(bound, n))(amplitudes) for n in range(1, orders + 1)])


def pictures(amplitudes: Sequence[float], found: Responses, *, prefix: str) -> list[Picture]:
    """The kernels, and the series against simulation."""
    errors, highest = found.errors, len(found.slopes)
    orders = range(1, highest + 1)
    figure = new_figure(PAGE, 4.5)
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.2])
    plots.first_order({"adjoint, ± 2 standard errors": found.first}, timescales=found.timescales, axes=left)
    left.set_title("order 1")
    plots.second_order(found.second, axes=right)
    right.set_title("order 2")
    half, most = (_felt_until(found.first, share) for share in (0.5, 0.1))
    kernels = Picture(
        f"{prefix}-kernels",
        "How long does the network remember an impulse, and how do two impulses act together?",
        figure,
        f"Half of it is gone after {half:.2g} units of time, nine tenths after {most:.2g}. {_together(found)}",
    )
    figure = new_figure(PAGE, 4.5)
    left, right = figure.subplots(1, 2)
    named = {f"series to order {n}": found.predicted[n - 1] for n in orders}
    plots.against_amplitude(
        amplitudes, {"simulated, ± 2 standard errors": found.simulated} | named, stderr=found.stderr, axes=left
    )
    labels = [f"order {n}: slope {found.slopes[n - 1]:.2f}" for n in orders]
    plots.truncation(
        amplitudes,
        dict(zip(labels, errors, strict=True)),
        dict(zip(labels, found.bounds, strict=True)),
        axes=right,
    )
    slopes = ", ".join(f"{slope:.2f}" for slope in found.slopes)
    shares = errors[-1] / np.maximum(np.abs(found.simulated), np.finfo(float).tiny)
    middle = int(np.argmin(np.abs(np.log(amplitudes))))
    tightest = float(np.min(found.bounds / errors))
    bound = (
        f"is {float(f'{tightest:.1g}'):,.0f} times the error or more: of no use"
        if tightest > 1e3
        else f"is {tightest:.2g} times the error"
    )
    series = Picture(
        f"{prefix}-series",
        "How well does the response series predict the simulated response, and how does its error grow with the input?",
        figure,
        f"To order {highest} it errs by {shares[middle]:.1g} of the response at amplitude {amplitudes[middle]:g}, by "
        f"{shares[-1]:.1g} at {amplitudes[-1]:g}. Errors grow with the amplitude to the power {slopes} for orders 1 to "
        f"{highest} (theory: 2 to {highest + 1}); the bound, where it is nearest, {bound}.",
    )
    return [kernels, series]


def _felt_until(kernel: srnn.Kernel, share: float) -> float:
    """The longest lag at which the kernel of the first channel is that share of its peak."""
    sizes = np.abs(np.asarray(kernel.values)[:, 0])
    return float(np.max(np.asarray(kernel.lags)[sizes >= share * sizes.max()]))


def _together(found: Responses) -> str:
    """What two impulses do together, where the second-order kernel is largest."""
    kernel, stderr = (np.asarray(part)[:, :, 0, 0] for part in (found.second.values, found.second.stderr))
    place = np.unravel_index(np.abs(kernel).argmax(), kernel.shape)
    if not abs(kernel[place]) > 2 * stderr[place]:
        return "What two impulses do beyond the sum of both is within two standard errors of nothing."
    first = np.asarray(found.first.values)[:, 0]
    more = "more" if kernel[place] * first[np.abs(first).argmax()] > 0 else "less"
    later, earlier = sorted(float(found.second.lags[i]) for i in place)
    return f"Two impulses together give {more} than the sum of both, most of all {later:.2g} and {earlier:.2g} ago."


def values(setting: Setting, found: Responses) -> dict[str, Any]:
    """Every number shown."""
    return {
        "first_order_lags": found.first.lags,
        "first_order_kernel": found.first.values,
        "first_order_stderr": found.first.stderr,
        "second_order_lags": found.second.lags,
        "second_order_kernel": found.second.values,
        "second_order_stderr": found.second.stderr,
        "timescales": found.timescales.timescales,
        "timescales_amplitudes": found.timescales.amplitudes,
        "timescales_residual": found.timescales.residual,
        "growth": found.first.growth,
        "amplitudes": list(setting.amplitudes),
        "simulated": found.simulated,
        "simulated_stderr": found.stderr,
        "predicted": found.predicted,
        "errors": found.errors,
        "bounds": found.bounds,
        "slopes": list(found.slopes),
        "shrinking": found.shrinking,
        "diverged": found.diverged,
    }


def restored(stored: Mapping[str, Any]) -> Responses:
    """Responses of their stored numbers; what is in neither pictures nor warnings is left out."""
    arrays: dict[str, Any] = {
        name: np.asarray(value, float) for name, value in stored.items() if name not in ("shrinking", "diverged")
    }

    def kernel(order: str) -> srnn.Kernel:
        lags, values, stderr = (arrays[f"{order}_order_{part}"] for part in ("lags", "kernel", "stderr"))
        nothing: Any = np.asarray(np.nan)
        return srnn.Kernel(nothing, values, stderr, lags, arrays["growth"], nothing, nothing)

    timescales = srnn.Timescales(
        arrays["timescales"], arrays["timescales_amplitudes"], arrays["timescales_residual"], jnp.asarray(True)
    )
    return Responses(
        kernel("first"),
        kernel("second"),
        timescales,
        arrays["simulated"],
        arrays["simulated_stderr"],
        arrays["predicted"],
        arrays["errors"],
        arrays["bounds"],
        tuple(map(float, arrays["slopes"])),
        bool(stored["shrinking"]),
        int(stored["diverged"]),
    )


def warnings(found: Responses) -> list[str]:
    """What the reader must know before believing it."""
    said = []
    if found.diverged:
        said.append(f"{found.diverged} paths diverged: no mean over the rest is given.")
    if not found.shrinking:
        said.append(
            "At amplitude 1 the last term of the series is no smaller than the one before: it may not converge."
        )
    if found.first.growth is not None and float(found.first.growth) > 100:
        said.append(f"Perturbations grow {float(found.first.growth):.3g}-fold along the way: kernels are noisy.")
    return said
