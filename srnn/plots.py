"""Pictures of responses. Each function draws on matplotlib axes, its own where none are given, and returns them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from maso_rnn.style import COLOURS as COLOURS
from maso_rnn.style import DIVERGING, GREY, INK, MARKERS, PALE, SMALL, legend, new_axes
from srnn.memory import Timescales
from srnn.response import Kernel

USELESS = 1e3  # a bound this many times the error says nothing of it
LINES = ("-", "--", "-.", ":")  # with the colours, forty lines that differ


def first_order(
    kernels: Mapping[str, Kernel], *, channel: int = 0, timescales: Timescales | None = None, axes: Axes | None = None
) -> Axes:
    """How a network answers one impulse: first-order kernels against the lag, with two standard errors either way.

    Args:
        kernels: by label.
        channel: of the input.
        timescales: where given, their fit is drawn beside the kernels.
        axes: where to draw.

    Returns:
        The axes.

    Example:
        >>> steps, one = np.arange(3.0), np.ones((3, 1))
        >>> kernel = Kernel(steps, one, 0.1 * one, steps[::-1], np.ones(()), np.zeros((), int), np.zeros(2))
        >>> first_order({"measured": kernel}).get_xlabel()
        'time since the impulse'

    Source:
        Lim (2021), section 3, for the response kernels.
    """
    axes = new_axes(axes, width=6)
    lags, felt = np.zeros(1), 0.0
    for i, (label, kernel) in enumerate(kernels.items()):
        colour, style = COLOURS[i % len(COLOURS)], LINES[i // len(COLOURS) % len(LINES)]
        lags, values = np.asarray(kernel.lags), np.asarray(kernel.values[:, channel])
        band = 2 * np.asarray(kernel.stderr[:, channel])
        felt = max(felt, _felt(lags, values))
        thin = band.max() < 0.01 * np.ptp(values)  # thinner than the line
        axes.plot(lags, values, style, color=colour, label=f"{label} (within the line)" if thin else label)
        axes.fill_between(lags, values - band, values + band, color=colour, alpha=0.3, linewidth=0)
    if timescales is not None:
        basis = np.exp(-lags[:, None] / np.asarray(timescales.timescales))
        named = ", ".join(f"{float(tau):.3g}" for tau in timescales.timescales)
        axes.plot(
            lags,
            basis @ np.asarray(timescales.amplitudes[:, channel]),
            color=INK,
            linestyle=":",
            linewidth=2,
            label=f"fit of exponentials, τ = {named}",
        )
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set_xlim(0, felt or 1.0)
    axes.set_xlabel("time since the impulse")
    axes.set_ylabel("response per unit input and time")
    legend(axes)
    return axes


def _felt(lags: np.ndarray, values: np.ndarray) -> float:
    """A little more than the longest lag at which a kernel, (lag, ...), is over a hundredth of its peak."""
    sizes = np.nan_to_num(np.abs(values)).reshape(len(lags), -1).max(axis=1)
    return float(min(lags.max(), 1.25 * lags[sizes >= 0.01 * sizes.max()].max()))


def second_order(kernel: Kernel, *, channels: tuple[int, int] = (0, 0), axes: Axes | None = None) -> Axes:
    """A second-order kernel over both impulses' times; dotted where it is within two standard errors of zero.

    Args:
        kernel: of order 2.
        channels: of the later and the earlier impulse.
        axes: where to draw.

    Returns:
        The axes.

    Example:
        >>> steps, one = np.arange(3.0), np.ones((3, 3, 1, 1))
        >>> kernel = Kernel(steps, one, 0.1 * one, steps[::-1], np.ones(()), np.zeros((), int), np.zeros(2))
        >>> second_order(kernel).get_xlabel()
        'time since one impulse'

    Source:
        Lim (2021), section 3, for the response kernels.
    """
    axes = new_axes(axes, width=5)
    values = np.asarray(kernel.values[:, :, channels[0], channels[1]])
    unclear = np.abs(values) < 2 * np.asarray(kernel.stderr[:, :, channels[0], channels[1]])
    limit = np.abs(values).max() or 1.0
    lags = np.asarray(kernel.lags)
    image = axes.pcolormesh(lags, lags, values, cmap=DIVERGING, vmin=-limit, vmax=limit, shading="nearest")
    down, across = np.nonzero(unclear)
    if len(down):
        axes.plot(lags[across], lags[down], ".", color=INK, markersize=1.5, label="within 2 standard errors of 0")
        legend(axes, loc="lower left", bbox_to_anchor=(0.0, 1.0))
    felt = max(_felt(lags, values), _felt(lags, values.T))
    axes.set(xlim=(0, felt), ylim=(0, felt), aspect="equal")
    axes.set_xlabel("time since one impulse")
    axes.set_ylabel("time since the other")
    axes.figure.colorbar(image, ax=axes, label="response beyond first order,\nper (unit input × time)²")
    return axes


def against_amplitude(
    amplitudes: Sequence[float], responses: Mapping[str, np.ndarray], *, stderr: np.ndarray, axes: Axes | None = None
) -> Axes:
    """The mean response at several amplitudes, simulated (points, two standard errors) and predicted (lines).

    Args:
        amplitudes: of the input.
        responses: by label; the first is the simulated one.
        stderr: (amplitude,), of the simulated response.
        axes: where to draw.

    Returns:
        The axes.

    Example:
        >>> mean = np.array([0.1, 0.2])
        >>> against_amplitude([1.0, 2.0], {"simulated": mean, "series": mean}, stderr=0.01 * mean).get_xscale()
        'log'

    Source:
        Lim (2021), section 3, for the response kernels.
    """
    axes = new_axes(axes, width=6)
    simulated, *predicted = responses.items()
    for (label, values), colour, style in zip(predicted, itertools.cycle(COLOURS), itertools.cycle(LINES)):
        axes.plot(amplitudes, values, style, color=colour, linewidth=2, label=label)
    axes.errorbar(amplitudes, simulated[1], 2 * stderr, fmt="o", color=INK, markersize=4, label=simulated[0])
    spread = max(float(np.ptp(simulated[1])), 1e-12)
    low, high = float(np.min(simulated[1])), float(np.max(simulated[1]))
    axes.set_ylim(low - 0.15 * spread, high + 0.3 * spread)  # a series that runs away must not hide the rest
    _mark_amplitudes(axes, amplitudes)
    axes.set_ylabel("mean response")
    legend(axes)
    return axes


def truncation(
    amplitudes: Sequence[float],
    errors: Mapping[str, np.ndarray],
    bounds: Mapping[str, np.ndarray],
    *,
    axes: Axes | None = None,
) -> Axes:
    """What a truncated series misses against the amplitude, on logarithmic axes, and dashed the bound on it.

    A bound more than a thousand times the error is of no use: it is left out, and the heading says so.

    Args:
        amplitudes: of the input.
        errors: by label, (amplitude,), sizes.
        bounds: by the same labels.
        axes: where to draw.

    Returns:
        The axes.

    Example:
        >>> truncation([1.0, 2.0], {"order 1": np.array([0.1, 0.4])}, {}).get_ylabel()
        'error of the predicted mean response'

    Source:
        Lim (2021), for the series; the bound is this package's own.
    """
    axes = new_axes(axes, width=6)
    drawn, useless = False, []
    for (label, values), colour, marker in zip(errors.items(), itertools.cycle(COLOURS), itertools.cycle(MARKERS)):
        axes.loglog(amplitudes, np.abs(values), marker=marker, color=colour, markersize=5, label=label)
        if label not in bounds:
            continue
        ratio = np.asarray(bounds[label]) / np.abs(values)
        near = np.isfinite(ratio) & (ratio < USELESS)
        axes.loglog(np.asarray(amplitudes)[near], np.asarray(bounds[label])[near], "--", color=colour, linewidth=1.5)
        drawn |= bool(near.any())
        useless += [] if near.all() else [float(np.nanmin(np.where(np.isfinite(ratio) & ~near, ratio, np.inf)))]
    if drawn:
        axes.plot([], [], "--", color=GREY, label="bound on each")
    if useless:
        times = f"{float(f'{min(useless):.1g}'):,.0f}"
        axes.set_title(f"no bound drawn: it is {times} times the error or more", fontsize=SMALL)
    _mark_amplitudes(axes, amplitudes)
    axes.set_ylabel("error of the predicted mean response")
    legend(axes)
    return axes


def _mark_amplitudes(axes: Axes, amplitudes: Sequence[float]) -> None:
    """The axis of amplitudes, each marked as the number that it is."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(amplitudes), [f"{amplitude:g}" for amplitude in amplitudes])
    axes.set_xlabel("amplitude of the input")


def compared(
    values: Mapping[str, float],
    *,
    label: str,
    stderr: Mapping[str, float] | None = None,
    log: bool = False,
    axes: Axes | None = None,
) -> Axes:
    """One number for each of several methods, as points, with two standard errors where they are given.

    Args:
        values: by method.
        label: of the axis.
        stderr: by method.
        log: a logarithmic axis; else it begins at zero where there are no standard errors.
        axes: where to draw.

    Returns:
        The axes.

    Example:
        >>> [t.get_text() for t in compared({"one": 1.0, "other": 2.0}, label="error").get_yticklabels()]
        ['one', 'other']
    """
    axes = new_axes(axes, width=6)
    for row, ((name, value), colour) in enumerate(zip(values.items(), itertools.cycle(COLOURS))):
        spread = 0.0 if stderr is None else 2 * stderr[name]
        axes.errorbar(value, row, xerr=spread, fmt="o", color=colour, capsize=4)
        axes.annotate(f"{value:.3g}", (value, row), xytext=(0, 7), textcoords="offset points", ha="center")
    axes.set_yticks(range(len(values)), list(values))
    axes.set_ylim(len(values) - 0.5, -0.6)
    axes.grid(axis="x", color=PALE)
    if log:
        axes.set_xscale("log")
        axes.set_xlim(0.2 * min(values.values()), 5 * max(values.values()))
    elif stderr is None:
        axes.set_xlim(0, 1.3 * max(values.values()))
    axes.set_xlabel(label)
    return axes
