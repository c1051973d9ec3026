"""How long a system remembers: the time-scales of its response kernel, by a fit of decaying and oscillating modes.

With y_c the kernel of channel c and lags in units of time,

    y_c(lag) = Σ_m exp(−lag/τ_m) (a_mc cos(ω_m lag) + b_mc sin(ω_m lag)),    ω_m = 0 for a mode that only decays.

Amplitudes are solved for inside (variable projection), τ and ω by least squares from a matrix pencil, with weights that
no single exact step can dominate. Errors of a kernel go together over neighbouring steps, so standard errors and the
number of modes come from means over groups of paths, not from a formula for independent errors. All of it is in NumPy:
how many modes there are is no question for a compiled program.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from maso_rnn import checks
from srnn.response import Kernel, read_kernel

MOST_COMPONENTS = 3  # that are tried where their number is not given
_LEAST_ERROR = 0.05  # of the median standard error: below that no step weighs more
_CANCELLATION = 10.0  # sum of amplitudes over the kernel's largest value, from which components are not told apart
_UNRESOLVED = 0.5  # relative standard error of a time-scale, from which it is not known
_FOLDS = 8  # of groups, for cross-validation
_PENCIL = 200  # steps at most that a pencil is made of
_Shape: TypeAlias = tuple[int, int]  # how many modes only decay, and how many oscillate


class Timescales(NamedTuple):
    """A kernel as a sum of modes.

    Attributes:
        timescales: (component,), ascending, in units of time.
        amplitudes: (component, input), at lag zero.
        residual: the root mean square of (kernel − fit) / standard error, about 1 or below where the fit is as good as
            the kernel; where all standard errors are zero, of kernel − fit alone.
        converged: whether there is something to fit, the solver came to rest, and components can be told apart: their
            amplitudes do not cancel tenfold, and no time-scale has a standard error of half its size. Never for a
            kernel that is zero, not finite, or noise alone; where nothing is to fit, timescales and amplitudes are NaN.
        stderr: (component,), standard errors of the timescales; None for a kernel without groups, from which
            none can be had.
        frequencies: (component,), ω, in radians per unit of time; 0 for a component that only decays.
        frequency_stderr: (component,), as `stderr`.
        sines: (component, input), amplitudes b of the sine of components that oscillate.
    """

    timescales: Float[Array, " component"]
    amplitudes: Float[Array, "component *channel"]
    residual: Float[Array, ""]
    converged: Bool[Array, ""]
    stderr: Float[Array, " component"] | None = None
    frequencies: Float[Array, " component"] | None = None
    frequency_stderr: Float[Array, " component"] | None = None
    sines: Float[Array, "component *channel"] | None = None


def memory_timescales(kernel: Kernel, *, components: int | None = None) -> Timescales:
    """On which time-scales a system forgets its input, by fitting decaying and oscillating modes to its kernel.

    Equation: R(lag) ≈ Σ_m exp(−lag/τ_m) (a_m cos(ω_m lag) + b_m sin(ω_m lag)), weighted by standard errors.

    Args:
        kernel: of order 1, at more steps than four times the components. Its values, lags, standard errors and groups
            alone are read, which must be concrete: this runs in NumPy.
        components: how many modes, at least 1; or None, by cross-validation over the kernel's groups, 0 to 3 of them.
            Which of them oscillate is found out.

    Returns:
        `Timescales(timescales, amplitudes, residual, converged, stderr, frequencies, frequency_stderr, sines)`.

    Raises:
        ValueError: if the kernel is not of order 1, has too few steps, its arrays do not fit each other, or there is no
            number of components and the kernel has no groups to find it by.
        TypeError: if `kernel` is not a `Kernel` of concrete floating arrays of one dtype.

    Example:
        >>> import jax
        >>> from srnn import init, response_kernel
        >>> model = init(jax.random.key(0), 1, 4, radius=0.0, decay_time=0.5, activation="identity")
        >>> kernel = response_kernel(model, lambda h: h[0], t1=1.0, dt=0.01, key=jax.random.key(1), paths=2)
        >>> [round(float(tau), 1) for tau in memory_timescales(kernel, components=1).timescales]
        [0.5]

    Source:
        Golub, Pereyra (1973) for variable projection; Hua, Sarkar (1990) for the matrix pencil.
    """
    if not checks.is_concrete(kernel):
        raise TypeError("kernel must be concrete, got traced arrays: call memory_timescales outside jax.jit")
    data = _read(kernel)
    if components is None and data.groups is None:
        raise ValueError(
            f"components must be given for a kernel of fewer than {2 * _FOLDS} groups of paths, of which "
            "srnn.response_kernel makes 32 where paths are as many, or of groups that are all alike"
        )
    most = MOST_COMPONENTS if components is None else checks.size("components", components)
    if components is not None and len(data.lags) <= 4 * most:
        raise ValueError(f"components: {most} modes need more than {4 * most} steps, got {len(data.lags)}")
    known = all(np.isfinite(x).all() for x in data if x is not None) and data.values.any()
    counts = range(1, 1 + min(most, (len(data.lags) - 1) // 4)) if components is None else [most]
    found, holds = _chosen(data, list(counts)) if known else (None, False)
    return _result(kernel, data, found, holds, most if components is not None else 0)


class _Data(NamedTuple):
    """A kernel by ascending lags: values (lag, channel) and their errors, and means over groups of paths."""

    lags: np.ndarray
    values: np.ndarray
    errors: np.ndarray
    groups: np.ndarray | None


def _read(kernel: Kernel) -> _Data:
    if getattr(getattr(kernel, "values", None), "ndim", 2) == 3:  # of a readout with many outputs: as many channels
        flat = {name: getattr(kernel, name) for name in ("values", "stderr", "groups")}
        flat = {name: x if x is None else jnp.reshape(x, (*x.shape[:-2], -1)) for name, x in flat.items()}
        kernel = kernel._replace(**flat)
    kernel = read_kernel("kernel", kernel, "lags", "stderr")
    if kernel.values.ndim != 2:
        raise ValueError(f"kernel must be of order 1, with values (step, input), got {kernel.values.shape}")
    checks.finite(**{"kernel.lags": kernel.lags})
    order = np.argsort(np.asarray(kernel.lags))
    lags, values, errors = (np.asarray(x, np.float64)[order] for x in (kernel.lags, kernel.values, kernel.stderr))
    least = _LEAST_ERROR * np.median(errors)
    errors = np.maximum(errors, least if least > 0 else errors.max()) if errors.any() else np.ones_like(errors)
    if kernel.groups is None:
        return _Data(lags, values, errors, None)
    sizes = dict(zip(("step", "input"), kernel.values.shape, strict=True))
    checked = checks.array("kernel.groups", kernel.groups, "group step input", sizes)
    groups = np.asarray(checked, np.float64)[:, order]
    usable = len(groups) >= 2 * _FOLDS and np.ptp(groups, axis=0).any()
    return _Data(lags, values, errors, groups if usable else None)


class _Fit(NamedTuple):
    """Modes of one shape: log τ of all, and ω of those that oscillate, which come last."""

    shape: _Shape
    parameters: np.ndarray
    loss: float
    at_rest: bool

    @property
    def timescales(self) -> np.ndarray:
        return np.exp(self.parameters[: sum(self.shape)])

    @property
    def frequencies(self) -> np.ndarray:
        return np.concatenate([np.zeros(self.shape[0]), np.abs(self.parameters[sum(self.shape) :])])


def _basis(lags: np.ndarray, shape: _Shape, parameters: np.ndarray) -> np.ndarray:
    """(lag, function): decays, then decaying cosines, then decaying sines."""
    count = sum(shape)
    decays = np.exp(-lags[:, None] / np.exp(parameters[:count]))
    turns = lags[:, None] * parameters[count:]
    wave = decays[:, shape[0] :]
    return np.concatenate([decays[:, : shape[0]], wave * np.cos(turns), wave * np.sin(turns)], axis=1)


def _amplitudes(data: _Data, shape: _Shape, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(function, channel), by weighted least squares, and what is left, (lag, channel), in units of the errors."""
    basis = _basis(data.lags, shape, parameters)
    found = [
        np.linalg.lstsq(basis / error[:, None], value / error, rcond=1e-12)[0]
        for value, error in zip(data.values.T, data.errors.T, strict=True)
    ]
    amplitudes = np.stack(found, axis=1)
    return amplitudes, (basis @ amplitudes - data.values) / data.errors


def _slopes(data: _Data, shape: _Shape, parameters: np.ndarray) -> np.ndarray:
    """How what is left changes with the parameters, (lag · channel, parameter): Kaufman's projected derivatives."""
    amplitudes, _ = _amplitudes(data, shape, parameters)
    basis, count = _basis(data.lags, shape, parameters), sum(shape)
    modes = basis[:, :, None] * amplitudes  # (lag, function, channel)
    cosines, sines = modes[:, :count], modes[:, count:]
    whole = cosines.copy()
    whole[:, shape[0] :] += sines
    slopes = [data.lags[:, None] / np.exp(parameters[m]) * whole[:, m] for m in range(count)]
    for m in range(shape[1]):
        cosine, sine = basis[:, shape[0] + m], basis[:, count + m]
        a, b = amplitudes[shape[0] + m], amplitudes[count + m]
        slopes.append(data.lags[:, None] * (cosine[:, None] * b - sine[:, None] * a))
    weighted = np.stack(slopes, axis=-1) / data.errors[:, :, None]
    for channel, error in enumerate(data.errors.T):
        across = np.linalg.qr(basis / error[:, None])[0]
        weighted[:, channel] -= across @ (across.T @ weighted[:, channel])
    return weighted.reshape(-1, len(parameters))


def _fit(data: _Data, shape: _Shape, starts: list[np.ndarray], most: int = 100) -> _Fit:
    """The best fit from several starts."""
    from scipy.optimize import least_squares

    count, span = sum(shape), data.lags[-1] - data.lags[0]
    gap = np.diff(data.lags).min()
    low = np.concatenate([np.full(count, np.log(0.1 * gap)), np.zeros(shape[1])])
    high = np.concatenate([np.full(count, np.log(100 * span)), np.full(shape[1], np.pi / gap)])
    best = _Fit(shape, np.full(count + shape[1], np.nan), np.inf, False)
    for start in starts:
        found = least_squares(
            lambda p: _amplitudes(data, shape, p)[1].ravel(),
            np.clip(start, low + 1e-9 * (1 + np.abs(low)), high - 1e-9 * (1 + np.abs(high))),
            jac=lambda p: _slopes(data, shape, p),
            bounds=(low, high),
            x_scale="jac",
            max_nfev=most,
        )
        at_bound = (found.active_mask[:count] != 0).any()
        if found.cost < best.loss:
            best = _Fit(shape, found.x, float(found.cost), bool(found.status > 0 and not at_bound))
    return best


def _starts(data: _Data, shape: _Shape) -> list[np.ndarray]:
    """A matrix pencil's modes, and time-scales spread evenly over the lags on a log scale."""
    decaying, turning = shape
    span, first = data.lags[-1], max(data.lags[0], np.diff(data.lags).min())
    spread = np.exp(
        np.log(first) + (np.arange(decaying + turning) + 1) / (decaying + turning + 1) * np.log(span / first)
    )
    waves = 2 * np.pi * (1 + np.arange(turning)) / span
    starts = [np.concatenate([np.log(spread), waves])]
    poles = _pencil(data, decaying + 2 * turning)
    if poles is None:
        return starts
    poles = poles[np.argsort(-poles.real / (1 + 1e-3 * np.abs(poles.imag)))[::-1]]
    waving = poles[poles.imag > 1e-6 * np.abs(poles)]
    still = poles[np.abs(poles.imag) <= 1e-6 * np.abs(poles)]

    def times(found: np.ndarray, count: int, default: np.ndarray) -> np.ndarray:
        known = -1 / np.where(found.real < 0, found.real, -1 / span)[:count]
        return np.concatenate([known, default[len(known) : count]])

    turns = np.concatenate([waving.imag[:turning], waves[len(waving) :]])[:turning]
    taus = np.concatenate([times(still, decaying, spread), times(waving, turning, spread[decaying:])])
    return [np.concatenate([np.log(taus), turns]), *starts]


def _pencil(data: _Data, poles: int) -> np.ndarray | None:
    """The poles of a sum of exponentials at even lags: eigenvalues of the shift in the leading singular vectors."""
    gaps = np.diff(data.lags)
    if np.ptp(gaps) > 1e-3 * gaps.mean():
        return None
    stride = -(-len(data.lags) // _PENCIL)
    values = data.values[::stride]
    rows = len(values) // 2
    if rows <= poles:
        return None
    hankel = np.concatenate(
        [np.lib.stride_tricks.sliding_window_view(channel, len(values) - rows + 1) for channel in values.T], axis=1
    )
    left = np.linalg.svd(hankel, full_matrices=False)[0][:, :poles]
    shift = np.linalg.lstsq(left[:-1], left[1:], rcond=None)[0]
    roots = np.linalg.eigvals(shift).astype(complex)
    return np.log(np.where(roots == 0, 1e-12, roots)) / (gaps.mean() * stride)


def _chosen(data: _Data, counts: list[int]) -> tuple[_Fit | None, bool]:
    """The fit whose shape predicts groups that it has not seen, and whether there is a signal at all."""
    shapes = [(count - turning, turning) for count in counts for turning in range(count + 1)]
    shapes = [shape for shape in shapes if shape[0] + 2 * shape[1] < len(data.lags) // 2]
    fits = [_fit(data, shape, _starts(data, shape)) for shape in shapes]
    if data.groups is None:
        # without groups: by what is left, at a price for each parameter that independent errors would ask
        known, count = (data.errors != 1).any(), data.values.size
        prices = [
            0.5 * np.log(count) * (len(fit.parameters) + _functions(fit.shape) * data.values.shape[1]) for fit in fits
        ]
        losses = [fit.loss if known else 0.5 * count * np.log(fit.loss + np.finfo(float).tiny) for fit in fits]
        cheapest = fits[int(np.argmin(np.add(losses, prices)))]
        size = np.sqrt(((data.values / data.errors) ** 2).mean())
        return cheapest, bool(size > 1 + 3 / np.sqrt(2 * data.values.size) or not known)
    nothing, *unseen = _cross_validated(data, data.groups, fits)
    order = np.argsort([_functions(fit.shape) + len(fit.parameters) for fit in fits], kind="stable")
    best = int(np.argmin([loss.mean() for loss in unseen]))

    def as_good(loss: np.ndarray) -> bool:
        worse = loss - unseen[best]
        return bool(worse.mean() <= 2 * worse.std(ddof=1) / np.sqrt(len(worse)))

    chosen = next(i for i in order if as_good(unseen[i]))
    gain = nothing - unseen[chosen]
    return fits[chosen], bool(gain.mean() > 2 * gain.std(ddof=1) / np.sqrt(len(gain)))


def _functions(shape: _Shape) -> int:
    return shape[0] + 2 * shape[1]


def _cross_validated(data: _Data, groups: np.ndarray, fits: list[_Fit]) -> list[np.ndarray]:
    """How badly a fit to the other groups predicts each fold of them: of no mode at all, and of each shape."""
    folds = np.arange(len(groups)) % _FOLDS
    losses: list[list[float]] = [[] for _ in range(1 + len(fits))]
    for fold in range(_FOLDS):
        held = groups[folds == fold].mean(axis=0)
        seen = data._replace(values=groups[folds != fold].mean(axis=0))
        losses[0].append(float(((held / data.errors) ** 2).mean()))
        for fit, into in zip(fits, losses[1:], strict=True):
            again = _fit(seen, fit.shape, [fit.parameters], most=10)
            amplitudes, _ = _amplitudes(seen, fit.shape, again.parameters)
            predicted = _basis(data.lags, fit.shape, again.parameters) @ amplitudes
            into.append(float((((held - predicted) / data.errors) ** 2).mean()))
    return [np.asarray(loss) for loss in losses]


def _sandwich(data: _Data, groups: np.ndarray, fit: _Fit) -> np.ndarray:
    """Standard errors of the parameters: how each group's deviation moves the fit, to first order."""
    amplitudes, _ = _amplitudes(data, fit.shape, fit.parameters)
    channels = data.values.shape[1]

    def model(all_parameters: np.ndarray) -> np.ndarray:
        own, linear = all_parameters[: len(fit.parameters)], all_parameters[len(fit.parameters) :]
        return ((_basis(data.lags, fit.shape, own) @ linear.reshape(-1, channels)) / data.errors).ravel()

    at = np.concatenate([fit.parameters, amplitudes.ravel()])
    steps = 1e-6 * (1 + np.abs(at))
    slopes = np.stack(
        [
            (model(at + h * unit) - model(at - h * unit)) / (2 * h)
            for h, unit in zip(steps, np.eye(len(at)), strict=True)
        ],
        axis=1,
    )
    influence = np.linalg.pinv(slopes)
    deviations = ((groups - groups.mean(axis=0)) / data.errors).reshape(len(groups), -1)
    moved = deviations @ influence.T
    return np.sqrt((moved**2).sum(axis=0) / len(moved) / (len(moved) - 1))[: len(fit.parameters)]


def _result(kernel: Kernel, data: _Data, fit: _Fit | None, holds: bool, components: int) -> Timescales:
    dtype, channels = kernel.values.dtype, kernel.values.shape[1:]

    def given(values: Any, *shape: int) -> Array:
        return jnp.asarray(np.reshape(values, shape or np.shape(values)), dtype)

    if fit is None or (not holds and not components):
        nothing = np.full(components, np.nan)
        wide = given(np.full((components, *channels), np.nan))
        size = given(np.sqrt(((data.values / data.errors) ** 2).mean()))
        none = given(nothing)
        return Timescales(none, wide, size, jnp.asarray(False), None if data.groups is None else none, none, none, wide)
    amplitudes, left = _amplitudes(data, fit.shape, fit.parameters)
    decaying, turning = fit.shape
    count = decaying + turning
    cosines, sines = (
        amplitudes[:count],
        np.concatenate([np.zeros((decaying, data.values.shape[1])), amplitudes[count:]]),
    )
    order = np.argsort(fit.timescales)
    cancel = np.abs(cosines).sum(axis=0).max() > _CANCELLATION * np.abs(data.values).max()
    error, turn_error, resolved = None, None, True
    if data.groups is not None:
        errors = _sandwich(data, data.groups, fit)
        error = given((errors[:count] * fit.timescales)[order])
        resolved = bool((errors[:count] < _UNRESOLVED).all())
        turn_error = given(np.concatenate([np.zeros(decaying), errors[count:]])[order])
    return Timescales(
        given(fit.timescales[order]),
        given(cosines[order], count, *channels),
        given(np.sqrt((left**2).mean())),
        jnp.asarray(bool(holds and fit.at_rest and resolved and not cancel)),
        error,
        given(fit.frequencies[order]),
        turn_error,
        given(sines[order], count, *channels),
    )
