"""Pictures of responses. Each function draws on matplotlib axes, its own where none are given, and returns them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from srnn.memory import Timescales
from srnn.response import Kernel

# Okabe and Ito's colours, told apart by colour-blind readers; used in this order everywhere
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def _new_axes(axes: Axes | None, *, width: float = 6.0, height: float = 4.0) -> Axes:
    """The axes given, or new ones on a figure of no global state."""
    return Figure(figsize=(width, height), layout="constrained").add_subplot() if axes is None else axes


def first_order(
    kernels: Mapping[str, Kernel], *, channel: int = 0, timescales: Timescales | None = None, axes: Axes | None = None
) -> Axes:
    """First-order kernels against the lag, with bands of two standard errors.

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
    axes = _new_axes(axes)
    lags = np.zeros(1)
    for colour, (label, kernel) in zip(COLOURS, kernels.items(), strict=False):
        lags, values = np.asarray(kernel.lags), np.asarray(kernel.values[:, channel])
        band = 2 * np.asarray(kernel.stderr[:, channel])
        axes.plot(lags, values, color=colour, label=label)
        axes.fill_between(lags, values - band, values + band, color=colour, alpha=0.25, linewidth=0)
    if timescales is not None:
        basis = np.exp(-lags[:, None] / np.asarray(timescales.timescales))
        named = ", ".join(f"{float(tau):.3g}" for tau in timescales.timescales)
        axes.plot(
            lags,
            basis @ np.asarray(timescales.amplitudes[:, channel]),
            color="#000000",
            linestyle="--",
            label=f"exponentials, τ = {named}",
        )
    axes.axhline(0, color="#888888", linewidth=0.8)
    axes.set_xlabel("time since the impulse")
    axes.set_ylabel("response per unit input and time")
    axes.legend(frameon=False)
    return axes


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
    axes = _new_axes(axes, width=5)
    values = np.asarray(kernel.values[:, :, channels[0], channels[1]])
    unclear = np.abs(values) < 2 * np.asarray(kernel.stderr[:, :, channels[0], channels[1]])
    limit = np.abs(values).max() or 1.0
    lags = np.asarray(kernel.lags)
    image = axes.pcolormesh(lags, lags, values, cmap="RdBu_r", vmin=-limit, vmax=limit, shading="nearest")
    down, across = np.nonzero(unclear)
    if len(down):
        axes.plot(lags[across], lags[down], ".", color="#444444", markersize=1.5, label="within 2 standard errors of 0")
        axes.legend(frameon=False, loc="upper right", fontsize=8)
    axes.set_aspect("equal")
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
    axes = _new_axes(axes)
    simulated, *predicted = responses.items()
    for colour, (label, values) in zip(COLOURS, predicted, strict=False):
        axes.plot(amplitudes, values, color=colour, label=label)
    axes.errorbar(amplitudes, simulated[1], 2 * stderr, fmt="o", color="#000000", markersize=4, label=simulated[0])
    spread = max(float(np.ptp(simulated[1])), 1e-12)
    low, high = float(np.min(simulated[1])), float(np.max(simulated[1]))
    axes.set_ylim(low - 0.6 * spread, high + 0.6 * spread)  # a series that runs away must not hide the rest
    axes.set_xscale("log", base=2)
    axes.set_xlabel("amplitude of the input")
    axes.set_ylabel("mean response")
    axes.legend(frameon=False)
    return axes


def truncation(
    amplitudes: Sequence[float],
    errors: Mapping[str, np.ndarray],
    bounds: Mapping[str, np.ndarray],
    *,
    axes: Axes | None = None,
) -> Axes:
    """What a truncated series misses against the amplitude, on logarithmic axes, and dashed the bound on it.

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
    axes = _new_axes(axes)
    for colour, (label, values) in zip(COLOURS, errors.items(), strict=False):
        axes.loglog(amplitudes, np.abs(values), "o-", color=colour, markersize=4, label=label)
        if label in bounds:
            finite = np.isfinite(bounds[label])
            axes.loglog(np.asarray(amplitudes)[finite], bounds[label][finite], "--", color=colour, linewidth=1)
    axes.plot([], [], "--", color="#444444", label="bound on each")
    axes.set_xscale("log", base=2)
    top = max(float(np.max(np.abs(values))) for values in errors.values())
    low = min(float(np.min(np.abs(values))) for values in errors.values())
    axes.set_ylim(0.3 * low, 1e4 * top)  # a bound far off is cut: it says nothing there
    axes.set_xlabel("amplitude of the input")
    axes.set_ylabel("error of the predicted mean response")
    axes.legend(frameon=False)
    return axes


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

    Source:
        This package's own.
    """
    axes = _new_axes(axes)
    for row, (colour, (name, value)) in enumerate(zip(COLOURS, values.items(), strict=False)):
        spread = 0.0 if stderr is None else 2 * stderr[name]
        axes.errorbar(value, row, xerr=spread, fmt="o", color=colour, capsize=4)
        axes.annotate(f"{value:.3g}", (value, row), xytext=(0, 7), textcoords="offset points", ha="center")
    axes.set_yticks(range(len(values)), list(values))
    axes.set_ylim(len(values) - 0.5, -0.6)
    axes.grid(axis="x", color="#dddddd")
    if log:
        axes.set_xscale("log")
        axes.set_xlim(0.2 * min(values.values()), 5 * max(values.values()))
    elif stderr is None:
        axes.set_xlim(0, 1.3 * max(values.values()))
    axes.set_xlabel(label)
    return axes
