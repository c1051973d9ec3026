"""What the eigenvalues of a recurrent network say about its memory, and whether it is so.

Kernels are (in, out), states are rows: h_t = act(h_{t-1} @ W + …). The right eigenvectors of W, its columns V, turn a
state into modal coordinates c = h @ V, and in the linear network each of them only decays and turns,

    c_t = c_{t-1} λ,    |c_t| = |λ|^t |c_0|:    a memory of −1 / ln|λ| steps, turning once in 2π / |arg λ| of them.

Every other network bends that account: by the non-normality of W (modes that are nearly parallel add up to more than
they are), by the slope of the activation, by what training did to W. `spectrum` has the account, `pulse_decay` holds
it against the network, and `jacobian_spectra`, `lyapunov_exponents` and `fixed_points` do without it.

Cells are functions `step(carry, x) -> carry`, the carry any pytree of floating arrays, x (input,).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Complex, Float, Int, PyTree

from maso_rnn import checks
from maso_rnn.host import eigenbasis, on_host
from maso_rnn.network import RNN


class Spectrum(NamedTuple):
    """The eigenvalues of a recurrent kernel and how far they can be trusted.

    Attributes:
        eigenvalues: (hidden,), largest modulus first, conjugates next to each other.
        radius: the largest modulus.
        horizons: (hidden,), −1 / ln|λ| in steps: infinite on the unit circle, negative outside it (growth).
        periods: (hidden,), 2π / |arg λ| in steps: infinite for a positive eigenvalue, 2 for a negative one.
        norm: the 2-norm, the most that one step can stretch a state.
        condition: the condition number of the eigenvectors, at unit length each: 1 where the kernel is normal and no
            eigenvalue repeated.
        departure: Henrici's departure from normality, the Frobenius norm of the Schur form above its diagonal.
        growth: (steps + 1,), the 2-norms of W^0, W^1, ….
        transient: the largest ‖W^k‖ / max(1, radius)^k: growth that no eigenvalue foretells, 1 where W is normal.
        defective: whether, up to the rounding of the kernel's dtype, two eigenvalues share one eigenvector.
    """

    eigenvalues: Complex[Array, " hidden"]
    radius: Float[Array, ""]
    horizons: Float[Array, " hidden"]
    periods: Float[Array, " hidden"]
    norm: Float[Array, ""]
    condition: Float[Array, ""]
    departure: Float[Array, ""]
    growth: Float[Array, " powers"]
    transient: Float[Array, ""]
    defective: Bool[Array, ""]


class JacobianSpectra(NamedTuple):
    """The spectra of the product J_t ⋯ J_1 = ∂h_t/∂h_0 along a trajectory, as logarithms.

    Attributes:
        log_singular_values: (time, hidden), natural logarithms, largest first; minus infinity for 0.
        log_eigenvalues: (time, hidden), ln|λ| + i arg λ, largest modulus first.
    """

    log_singular_values: Float[Array, "time hidden"]
    log_eigenvalues: Complex[Array, "time hidden"]


class Lyapunov(NamedTuple):
    """Lyapunov exponents.

    Attributes:
        exponents: (hidden,), natural logarithm per unit of time, largest first.
        growth: (time, hidden), the rate of every step, warm-up included, in the order of `exponents`, their means.
        warmup: how many of the first steps were left out of the means.
    """

    exponents: Float[Array, " hidden"]
    growth: Float[Array, "time hidden"]
    warmup: Int[Array, ""]


class FixedPoints(NamedTuple):
    """The fixed points that a search found, most often reached first.

    Attributes:
        states: a carry like the starts, with a leading axis of fixed points.
        residuals: (point,), ½‖step(h, x) − h‖².
        eigenvalues: (point, hidden), of the Jacobian ∂step/∂h at the point, largest modulus first.
        stable: (point,), whether all of them are inside the unit circle.
        reached: (point,), how many of the starts came to it.
        outliers: how many starts ended far away from where all of them began.
        unconverged: how many starts ended where the residual is above the tolerance.
    """

    states: PyTree[Float[Array, "..."]]
    residuals: Float[Array, " point"]
    eigenvalues: Complex[Array, "point hidden"]
    stable: Bool[Array, " point"]
    reached: Int[Array, " point"]
    outliers: int
    unconverged: int


class PulseDecay(NamedTuple):
    """The memory that the eigenvalues predict, against that of a pulse, mode by mode.

    Attributes:
        eigenvalues: (hidden,), in the order of `spectrum`.
        predicted: (hidden,), −1 / ln|λ| in steps.
        measured: (hidden,), −1 / (the slope of ln `amplitudes` over time) in steps, 0 where the pulse is gone at once,
            NaN where rounding hides it from the start.
        amplitudes: (hidden, time + 1), what is left of the pulse in the mode it was given to, 1 at the start.
    """

    eigenvalues: Complex[Array, " hidden"]
    predicted: Float[Array, " hidden"]
    measured: Float[Array, " hidden"]
    amplitudes: Float[Array, "hidden time"]


Step = Callable[[PyTree, Array], PyTree]


def spectrum(kernel: Float[Array, "hidden hidden"], *, steps: int = 64) -> Spectrum:
    """The eigenvalues of a recurrent kernel, the memory they promise, and how far it is from normal.

    Equation: W = V Λ V⁻¹; horizons −1 / ln|λ|, periods 2π / |arg λ|, departure sqrt(‖W‖_F² − Σ|λ|²).

    Eigenvalues are computed in float64 on the host, whatever the device. They, and what is made of them, norms and
    departure can be differentiated where they are simple; `condition` and `defective` are taken as constants.

    Args:
        kernel: (hidden, hidden); for a cell, and for one kernel of several gates, see `spectra`. Below float32 it is
            taken to have been rounded to its dtype, and all but `defective` is computed in float32.
        steps: up to which power the growth is followed, at least 1.

    Returns:
        `Spectrum(eigenvalues, radius, horizons, periods, norm, condition, departure, growth, transient, defective)`;
        all NaN for a traced kernel that is not finite.

    Raises:
        ValueError: if `kernel` is not square or empty, not finite, or `steps` below 1.
        TypeError: if `kernel` is not a floating array.

    Example:
        >>> found = spectrum(jnp.diag(jnp.array([0.5, -0.25])))
        >>> [round(float(horizon), 2) for horizon in found.horizons], found.periods.tolist()
        ([1.44, 0.72], [inf, 2.0])

    Source:
        Dou, Principe (2023), the abstract; Henrici, *Bounds for iterates, inverses, spectral variation and fields of
        values of non-normal matrices* (1962); Trefethen, Embree, *Spectra and pseudospectra* (2005), section 16.
    """
    kernel = _square("kernel", kernel)
    steps = checks.size("steps", steps)
    system = _eigensystem(jax.lax.stop_gradient(kernel))
    kernel = _wide(kernel)
    eigenvalues, departure = _eigenvalues(kernel)
    modulus = jnp.abs(eigenvalues)
    radius = modulus.max()
    # powers of the kernel at radius 1 or below first, so that an unstable one loses no digits of the difference
    excess = _log_growth(kernel / jnp.maximum(radius, 1), steps)
    log_growth = excess + jnp.arange(steps + 1) * jnp.log(jnp.maximum(radius, 1))
    return Spectrum(
        eigenvalues=eigenvalues,
        radius=radius,
        horizons=_horizon(jnp.log(modulus)),
        periods=2 * math.pi / jnp.abs(jnp.angle(eigenvalues)),
        norm=jnp.linalg.norm(kernel, 2),
        condition=system.condition,
        departure=departure,
        growth=jnp.exp(log_growth),
        transient=jnp.exp(excess.max()),
        defective=system.defective,
    )


def recurrent_kernels(cell: Any) -> dict[str, Array]:
    """The recurrent kernel of every layer or gate of a cell, (in, out) each, by name.

    Args:
        cell: a `maso_rnn.RNN`; a flax nnx `SimpleCell`, `GRUCell`, `LSTMCell` or `OptimizedLSTMCell`; the parameters
            of the linen cell of that name; or an equinox `GRUCell` or `LSTMCell`.

    Returns:
        Kernels by name: "layer 1", … of an `RNN`, "h" of a simple cell, "r", "z", "n" of a GRU (reset, update, new),
        "i", "f", "g", "o" of an LSTM (input, forget, cell, output).

    Raises:
        TypeError: if there is no recurrent kernel in `cell`.

    Example:
        >>> from flax import nnx
        >>> kernels = recurrent_kernels(nnx.GRUCell(1, 4, rngs=nnx.Rngs(0)))
        >>> {name: kernel.shape for name, kernel in kernels.items()}
        {'r': (4, 4), 'z': (4, 4), 'n': (4, 4)}

    Source:
        The layouts are those of flax 0.12 and equinox 0.13.
    """
    if isinstance(cell, RNN):
        return {f"layer {l}": layer.recurrent_kernel for l, layer in enumerate(cell.layers, start=1)}
    if isinstance(cell, Mapping):  # linen's parameters: one kernel for each gate, h or h<gate>
        found = {
            name[1:] or name: jnp.asarray(leaf["kernel"])
            for name, leaf in cell.items()
            if name in _LINEN and isinstance(leaf, Mapping) and "kernel" in leaf
        }
        for inner in ("params", "cell"):
            if not found and inner in cell:
                return recurrent_kernels(cell[inner])
        if found:
            return {name: found[name] for name in sorted(found, key="hrznifgo".index)}
    elif hasattr(cell, "dense_h"):  # nnx: one kernel, (hidden, gates * hidden)
        return _named(jnp.asarray(cell.dense_h.kernel[...]), axis=1)
    elif all(hasattr(cell, name) for name in ("hi", "hf", "hg", "ho")):
        return {gate: jnp.asarray(getattr(cell, f"h{gate}").kernel[...]) for gate in "ifgo"}
    elif hasattr(cell, "weight_hh"):  # equinox: (gates * hidden, hidden), times columns
        return {gate: kernel.T for gate, kernel in _named(cell.weight_hh, axis=0).items()}
    raise TypeError(
        f"cell must be a maso_rnn.RNN, a flax cell or its parameters, or an equinox cell, got {type(cell).__name__}; "
        "maso_rnn.spectrum takes one (hidden, hidden) kernel"
    )


_LINEN = ("h", "hr", "hz", "hn", "hi", "hf", "hg", "ho")


def _named(kernel: Array, axis: int) -> dict[str, Array]:
    hidden = kernel.shape[1 - axis]
    gates = {1: "h", 3: "rzn", 4: "ifgo"}.get(kernel.shape[axis] // max(hidden, 1), "")
    if kernel.shape[axis] != hidden * len(gates) or not gates:
        raise TypeError(f"cell has a recurrent kernel of shape {kernel.shape}, which is not that of 1, 3 or 4 gates")
    return dict(zip(gates, jnp.split(kernel, len(gates), axis=axis), strict=True))


def spectra(cell: Any, *, steps: int = 64) -> dict[str, Spectrum]:
    """`spectrum` of the recurrent kernel of every layer or gate of a cell.

    Args:
        cell: as `recurrent_kernels` takes it.
        steps: as in `spectrum`.

    Returns:
        Spectra by the name of the layer or gate.

    Raises:
        TypeError: if there is no recurrent kernel in `cell`.
        ValueError: as `spectrum` does.

    Example:
        >>> from flax import nnx
        >>> from maso_rnn.initializers import eigen, per_gate
        >>> cell = nnx.OptimizedLSTMCell(1, 4, recurrent_kernel_init=per_gate(eigen(0.5), 4), rngs=nnx.Rngs(0))
        >>> {gate: round(float(found.radius), 4) for gate, found in spectra(cell).items()}
        {'i': 0.5, 'f': 0.5, 'g': 0.5, 'o': 0.5}

    Source:
        Dou, Principe (2023), the abstract, for the eigenvalues of LSTM and GRU.
    """
    return {name: spectrum(kernel, steps=steps) for name, kernel in recurrent_kernels(cell).items()}


def spectrum_table(found: Spectrum | Mapping[str, Spectrum]) -> str:
    """What `spectrum` or `spectra` found, to print.

    Args:
        found: one spectrum, or spectra by name.

    Returns:
        One block of lines for each spectrum; a defective kernel is called so.

    Example:
        >>> print(spectrum_table(spectrum(jnp.array([[0.5, 1.0], [0.0, 0.5]]))))
        2 eigenvalues
          radius              0.5       largest: 0.5, 0.5
          memory horizons     1.443 ... 1.443 steps, median 1.443
          periods             no oscillation
          2-norm              1.207     one step stretches by at most this
          eigenvectors        defective: two eigenvalues share one, and modal coordinates do not exist
          Henrici departure   1         0 for a normal kernel
          transient growth    1.207     largest |W^k| beyond what the radius explains, k <= 64

    Source:
        Dou, Principe (2023), the abstract.
    """
    if isinstance(found, Mapping):
        return "\n".join(f"{name}: {spectrum_table(one)}" for name, one in found.items())
    horizons = np.asarray(found.horizons, np.float64)
    periods = np.asarray(found.periods, np.float64)
    turning = periods[np.isfinite(periods)]
    largest = ", ".join(_complex_text(complex(value)) for value in np.asarray(found.eigenvalues)[:3])
    low, high = (f"{horizons[i]:.4g}" for i in (np.argmax(_rate(horizons)), np.argmin(_rate(horizons))))
    middle = f"{-1 / np.median(-_rate(horizons)):.4g}" if np.median(_rate(horizons)) else "inf"
    return "\n".join(
        [
            f"{len(horizons)} eigenvalues",
            f"  radius              {float(found.radius):<9.4g} largest: {largest}",
            f"  memory horizons     {low} ... {high} steps, median {middle}",
            "  periods             "
            + (f"{turning.min():.4g} ... {turning.max():.4g} steps" if turning.size else "no oscillation"),
            f"  2-norm              {float(found.norm):<9.4g} one step stretches by at most this",
            "  eigenvectors        "
            + (
                "defective: two eigenvalues share one, and modal coordinates do not exist"
                if bool(found.defective)
                else f"{float(found.condition):<9.4g} their condition number, 1 for a normal kernel"
            ),
            f"  Henrici departure   {float(found.departure):<9.4g} 0 for a normal kernel",
            f"  transient growth    {float(found.transient):<9.4g} largest |W^k| beyond what the radius explains, "
            f"k <= {len(found.growth) - 1}",
        ]
    )


def _rate(horizons: np.ndarray) -> np.ndarray:
    """The decay −ln|λ| of each horizon: what horizons on both sides of the unit circle are ordered by."""
    with np.errstate(divide="ignore"):
        return np.where(np.isinf(horizons), 0.0, 1 / horizons)


def _complex_text(value: complex) -> str:
    return f"{value.real:.3g}" if value.imag == 0 else f"{value.real:.3g}{value.imag:+.3g}i"


def modal_coordinates(
    states: Float[Array, "*batch hidden"], kernel: Float[Array, "hidden hidden"]
) -> Complex[Array, "*batch hidden"]:
    """States in the eigenbasis of the kernel, where the linear network moves each coordinate by itself.

    Equation: c = h V with W V = V Λ, columns of V at unit length; so h_t = h_{t-1} W is c_t = c_{t-1} Λ.

    Args:
        states: (..., hidden), as a trajectory (time, hidden), in the kernel's dtype.
        kernel: (hidden, hidden).

    Returns:
        (..., hidden), complex, in the order of `spectrum(kernel).eigenvalues`. The phase of each column is LAPACK's
        choice; NaN for a traced kernel that is defective.

    Raises:
        ValueError: if `kernel` is not square, not finite or, up to the rounding of its dtype, defective, or `states`
            does not fit it.
        TypeError: if either is not a floating array.

    Example:
        >>> kernel = jnp.array([[0.0, 0.5], [-0.5, 0.0]])
        >>> modes = modal_coordinates(jnp.array([[1.0, 0.0], [0.0, 0.5]]), kernel)  # one step of h @ kernel
        >>> bool(jnp.allclose(modes[1], modes[0] * spectrum(kernel).eigenvalues))
        True

    Source:
        Dou, Principe (2023), the abstract.
    """
    kernel = _square("kernel", kernel)
    if not isinstance(states, jax.Array | np.ndarray) or not states.ndim:
        raise TypeError(f"states must be an array (..., hidden), got {type(states).__name__}")
    states = checks.array("states", states, rank=states.ndim, axes="(..., hidden)", dtype=kernel.dtype)
    if states.shape[-1] != kernel.shape[0]:
        raise ValueError(
            f"states must be (..., {kernel.shape[0]}), as the kernel is {kernel.shape}, got {states.shape}"
        )
    system = _with_eigenbasis(kernel)
    return states.astype(system.vectors.dtype) @ system.vectors


def jacobian_spectra(
    step: Step, state: PyTree[Float[Array, "..."]], inputs: Float[Array, "time input"]
) -> JacobianSpectra:
    """How far a change of the first state reaches: the spectra of ∂h_t/∂h_0 after every step.

    Equation: J_t = ∂step/∂h (h_{t-1}, x_t); the singular values and eigenvalues of P_t = J_t ⋯ J_1.

    P is kept at unit size and its scale apart, so that nothing over- or underflows. What it cannot hold are singular
    values smaller than the largest by more than the dtype's precision: `lyapunov_exponents` has those.

    Args:
        step: the cell, `(carry, x) -> carry`.
        state: the carry before the first step.
        inputs: (time, input); (time, 0) for a cell without input.

    Returns:
        `JacobianSpectra(log_singular_values, log_eigenvalues)`, of the carry's size flattened.

    Raises:
        ValueError: if `inputs` is not (time, input) with at least one step, or concrete values are not finite.
        TypeError: if `inputs` or the carry is not floating, or `step` does not return a carry like `state`.

    Example:
        >>> found = jacobian_spectra(lambda h, x: 0.5 * h, jnp.ones(2), jnp.zeros((3, 0)))
        >>> (found.log_singular_values / jnp.log(0.5)).round().tolist()
        [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]

    Source:
        Pennington, Schoenholz, Ganguli, *Resurrecting the sigmoid in deep learning through dynamical isometry* (2017),
        for the question; Engelken, Wolf, Abbott, *Lyapunov spectra of chaotic recurrent neural networks* (2023).
    """
    flat, h, inputs = _flat_cell(step, state, inputs)

    def body(carry: tuple[Array, Array, Array], x: Array) -> tuple[tuple[Array, Array, Array], tuple[Array, Array]]:
        h, product, log_scale = carry
        after, push = jax.linearize(lambda h: flat(h, x), h)
        product = _pushed(push, product, h.dtype)
        size = jnp.abs(product).max()
        size = jnp.where(size > 0, size, 1)
        product, log_scale = product / size, log_scale + jnp.log(size)
        return (after, product, log_scale), (product, log_scale)

    start = (h, jnp.eye(h.size, dtype=_wide(h).dtype), jnp.zeros((), _wide(h).dtype))
    _, (products, log_scales) = jax.lax.scan(body, start, inputs)
    singular_values = jnp.linalg.svd(products, compute_uv=False)
    eigenvalues = jax.vmap(lambda product: _eigenvalues(product)[0])(products)
    scale = log_scales[:, None]
    return JacobianSpectra(jnp.log(singular_values) + scale, jnp.log(eigenvalues) + scale)


def lyapunov_exponents(
    step: Step,
    state: PyTree[Float[Array, "..."]],
    inputs: Float[Array, "time input"],
    *,
    warmup: int | None = None,
    dt: float = 1.0,
) -> Lyapunov:
    """The mean rates at which neighbouring states part, one for each dimension of the carry.

    Equation: Q_t R_t = J_t Q_{t-1}, Q_0 = I; exponent_i = mean over t > warmup of ln|R_t[i, i]| / dt.

    Args:
        step: the cell, `(carry, x) -> carry`; for a flow, its map over `dt`.
        state: the carry before the first step.
        inputs: (time, input); (time, 0) for a system without input.
        warmup: how many first steps turn Q and the state into place without being counted; by default a tenth.
        dt: the time that one step takes, positive.

    Returns:
        `Lyapunov(exponents, growth, warmup)`, natural logarithm per unit of time; minus infinity where a direction is
        lost for good, to 0 or in the rounding of one step, NaN where the trajectory diverged.

    Raises:
        ValueError: if `inputs` is not (time, input), `warmup` leaves no step to count, `dt` is not positive, or
            concrete values are not finite.
        TypeError: if `inputs` or the carry is not floating, or `step` does not return a carry like `state`.

    Example:
        >>> found = lyapunov_exponents(lambda h, x: h * jnp.array([0.5, 2.0]), jnp.zeros(2), jnp.zeros((50, 0)))
        >>> [round(float(exponent / jnp.log(2.0)), 4) for exponent in found.exponents], int(found.warmup)
        ([1.0, -1.0], 5)

    Source:
        Benettin, Galgani, Giorgilli, Strelcyn, *Lyapunov characteristic exponents for smooth dynamical systems*
        (1980); Engelken, Wolf, Abbott, *Lyapunov spectra of chaotic recurrent neural networks* (2023).
    """
    flat, h, inputs = _flat_cell(step, state, inputs)
    time = inputs.shape[0]
    warmup = time // 10 if warmup is None else checks.size("warmup", warmup, least=0)
    if warmup >= time:
        raise ValueError(f"warmup must be below the {time} steps of inputs, got {warmup}; give more inputs")
    dt = checks.positive("dt", dt)

    precision = float(jnp.finfo(h.dtype).eps)

    def body(carry: tuple[Array, Array], x: Array) -> tuple[tuple[Array, Array], Array]:
        h, basis = carry
        after, push = jax.linearize(lambda h: flat(h, x), h)
        pushed = _pushed(push, basis, h.dtype)
        basis, upper = jnp.linalg.qr(pushed)
        size = jnp.abs(jnp.diagonal(upper))
        # rounding leaves so much in a column by QR, and so much of each entry's row by the product with the Jacobian
        rows = jnp.linalg.norm(pushed, axis=1) @ jnp.abs(basis)
        lost = size <= 10 * precision * jnp.maximum(jnp.linalg.norm(pushed, axis=0), rows)
        return (after, basis), jnp.where(lost, -jnp.inf, jnp.log(jnp.where(lost, 1, size)) / dt)

    _, growth = jax.lax.scan(body, (h, jnp.eye(h.size, dtype=_wide(h).dtype)), inputs)
    exponents = growth[warmup:].mean(axis=0)
    order = jnp.argsort(exponents, descending=True)
    return Lyapunov(exponents[order], growth[:, order], jnp.asarray(warmup))


def fixed_points(
    step: Step,
    starts: PyTree[Float[Array, "..."]],
    x: Float[Array, " input"] | None = None,
    *,
    learning_rate: float = 0.05,
    max_steps: int = 500,
    tolerance: float = 1e-10,
    distance: float = 1e-3,
    outlier_scale: float = 10.0,
) -> FixedPoints:
    """Fixed points of a cell under a constant input, searched from many starts at once.

    Equation: q(h) = ½‖step(h, x) − h‖², brought down from every start by Adam; what is near zero is finished by
    Newton's method on step(h, x) − h = 0, kept if it stays where it was, and stable if all |λ(∂step/∂h)| < 1.

    A host function: how many points there are is known only when it has run.

    Args:
        step: the cell, `(carry, x) -> carry`. The compiled search is kept for each `step` object: pass the same one
            again rather than a new lambda. What it closes over is read when it is first searched: after training,
            make a new one.
        starts: carries with a leading axis of starts, as states that trajectories passed through.
        x: (input,), the constant input; by default (0,), for a cell without input.
        learning_rate: of Adam, falling to 0 along a cosine; a step moves no unit by much more than this.
        max_steps: of Adam.
        tolerance: a point is kept if q is at most this.
        distance: points closer than this (Euclidean) are one.
        outlier_scale: points further from the centroid of the starts than this many times the starts' mean distance
            are rejected; there is nothing to measure by, and none is, where all starts are one, up to `distance`.

    Returns:
        `FixedPoints(states, residuals, eigenvalues, stable, reached, outliers, unconverged)`; none found is an
        empty leading axis.

    Raises:
        ValueError: if there are no starts, they are not finite, or an option is not positive.
        TypeError: if `starts` or `x` is traced or not floating, `starts` below float32, or `step` is not hashable or
            does not return a carry like a start.

    Example:
        >>> starts = jnp.linspace(-2.0, 2.0, 8)[:, None]
        >>> found = fixed_points(lambda h, x: jnp.tanh(2.0 * h), starts)
        >>> sorted((round(float(h), 3) + 0.0, bool(stable)) for h, stable in zip(found.states.ravel(), found.stable))
        [(-0.958, True), (0.0, False), (0.958, True)]

    Source:
        Sussillo, Barak, *Opening the black box: low-dimensional dynamics in high-dimensional recurrent neural
        networks* (2013); Golub, Sussillo, *FixedPointFinder* (2018), for outliers and unique points.
    """
    if not checks.is_concrete(starts, x):
        raise TypeError(
            "starts and x must be concrete, as the number of fixed points is not known before; call fixed_points "
            "outside jax.jit and jax.vmap (it takes all starts at once)"
        )
    learning_rate = checks.positive("learning_rate", learning_rate)
    tolerance = checks.positive("tolerance", tolerance)
    distance = checks.positive("distance", distance)
    outlier_scale = checks.positive("outlier_scale", outlier_scale)
    max_steps = checks.size("max_steps", max_steps)
    leaves = jax.tree.leaves(starts)
    if not leaves or any(jnp.ndim(leaf) == 0 for leaf in leaves) or len({len(leaf) for leaf in leaves}) != 1:
        raise ValueError(
            "starts must be a carry with one leading axis of starts in every leaf; a single one is h[None]"
        )
    if not len(leaves[0]):
        raise ValueError("starts must hold at least one start, got an empty leading axis")
    first = jax.tree.map(lambda leaf: jnp.asarray(leaf)[0], starts)
    x = jnp.zeros(0, leaves[0].dtype) if x is None else checks.array("x", x, rank=1, axes="(input,)")
    checks.finite("x", x)
    _check_carry(step, "starts", first, x)
    checks.finite("starts", starts)
    starts = jax.tree.map(jnp.asarray, starts)
    begin = np.asarray(jax.vmap(lambda carry: ravel_pytree(carry)[0])(starts))
    if begin.dtype.itemsize < 4:
        raise TypeError(f"starts must be float32 or float64, got {begin.dtype}; search in float32, step with it")
    try:
        hash(step)
    except TypeError:
        raise TypeError(
            f"step must be hashable, as the compiled search is kept for it, got {type(step).__name__}; wrap it once, "
            "as in cell = lambda h, x: step(h, x)"
        ) from None

    # not done yet at this point, but Newton's method knows the way from there
    near = max(tolerance, (0.1 * distance) ** 2)
    ends, descended = map(
        np.asarray, _descend(step, starts, x, near / 100, learning_rate=learning_rate, max_steps=max_steps)
    )
    candidates, candidate_of = _distinct(ends, descended, descended <= near, distance)
    points, residuals = ends[candidates], descended[candidates]
    if len(points):
        polished = _polish(step, first, _padded(points), x, 10 * distance)
        points, residuals = (np.asarray(array)[: len(points)] for array in polished)

    # from the first start on, so that equal ones are exactly at their centroid
    offsets = begin.astype(np.float64) - begin[0]
    strays = np.linalg.norm(offsets - offsets.mean(axis=0), axis=1)
    limit = outlier_scale * strays.mean() if strays.max() > distance else np.inf
    far = np.linalg.norm(points - begin[0] - offsets.mean(axis=0), axis=1) > limit
    converged = residuals <= tolerance
    chosen, chosen_of = _distinct(points, residuals, converged & ~far, distance)
    stand_for = np.bincount(candidate_of[candidate_of >= 0], minlength=len(candidates))  # starts of each candidate
    reached = np.array([stand_for[chosen_of == i].sum() for i in range(len(chosen))], int)
    chosen, reached = (array[np.argsort(-reached, kind="stable")] for array in (chosen, reached))

    points, residuals = points[chosen], residuals[chosen]
    if len(points):
        jacobians = np.asarray(_jacobians(step, first, _padded(points), x), np.float64)[: len(points)]
        eigenvalues: np.ndarray = np.linalg.eigvals(jacobians)
        eigenvalues = np.take_along_axis(eigenvalues, np.argsort(-np.abs(eigenvalues), axis=1, kind="stable"), axis=1)
    else:
        eigenvalues = np.zeros((0, begin.shape[1]))
    _, unravel = ravel_pytree(first)
    return FixedPoints(
        states=jax.vmap(unravel)(jnp.asarray(points)),
        residuals=jnp.asarray(residuals),
        eigenvalues=jnp.asarray(eigenvalues, jnp.result_type(begin.dtype, jnp.complex64)),
        stable=jnp.asarray((np.abs(eigenvalues) < 1).all(axis=1)),
        reached=jnp.asarray(reached),
        outliers=int(stand_for[converged & far].sum()),
        unconverged=int(len(begin) - stand_for[converged].sum()),
    )


def pulse_decay(
    step: Step,
    kernel: Float[Array, "hidden hidden"],
    state: Float[Array, " hidden"],
    inputs: Float[Array, "time input"],
    *,
    amplitude: float = 1.0,
) -> PulseDecay:
    """How long a pulse is remembered, mode by mode, against the −1 / ln|λ| that its eigenvalue predicts.

    Equation: for each mode i, h'_0 = h_0 + a Re ℓ_i with ℓ_i W = λ_i ℓ_i, and both run through the same inputs; what
    is left after t steps is |((h'_t − h_t) V)_i|, relative to t = 0. In the linear network this is |λ_i|^t exactly.
    The measured horizon is −1 / slope of the least-squares line through its logarithm, over the steps before it is lost
    in rounding: before it first falls below the square root of the dtype's precision, relative to its start or to what
    the pulse has become in all modes together.

    Args:
        step: the cell, `(h, x) -> h`, any activation: what is measured is what the network does.
        kernel: (hidden, hidden), its recurrent kernel: what the modes are taken from.
        state: (hidden,), the state that the pulse is added to.
        inputs: (time, input), what the network sees meanwhile; zeros for silence.
        amplitude: the largest entry of the pulse, positive; small against 1, a tanh network is linear.

    Returns:
        `PulseDecay(eigenvalues, predicted, measured, amplitudes)`; NaN for a traced kernel that is defective, and
        measured NaN where the pulse is lost in the rounding of the state from the start.

    Raises:
        ValueError: if the kernel is not square, not finite or defective, shapes do not fit, or `amplitude` is not
            positive.
        TypeError: if an array is not floating, or `step` does not return a state like `state`.

    Example:
        >>> kernel = jnp.array([[0.9, 0.0], [0.0, 0.5]])
        >>> found = pulse_decay(lambda h, x: h @ kernel, kernel, jnp.zeros(2), jnp.zeros((20, 0)))
        >>> [(round(float(p), 3), round(float(m), 3)) for p, m in zip(found.predicted, found.measured)]
        [(9.491, 9.491), (1.443, 1.443)]

    Source:
        Dou, Principe (2023), the abstract: eigenvalues explain "how information decays", activations change it.
    """
    kernel = _square("kernel", kernel)
    state = checks.array("state", state, rank=1, axes="(hidden,)", dtype=kernel.dtype)
    if state.shape[0] != kernel.shape[0]:
        raise ValueError(f"state must be ({kernel.shape[0]},), as the kernel is {kernel.shape}, got {state.shape}")
    amplitude = checks.positive("amplitude", amplitude)
    _, state, inputs = _flat_cell(step, state, inputs)
    system = _with_eigenbasis(kernel)
    pulses = system.inverse.real
    pulses = amplitude * pulses / jnp.abs(pulses).max(axis=1, keepdims=True)

    precision = float(jnp.finfo(state.dtype).eps)
    root = math.sqrt(precision)

    def left(pulsed: Array, state: Array) -> tuple[Array, Array]:
        """What is left in each mode, and below what it would be rounding that other modes have carried along."""
        change = _wide(pulsed) - _wide(state)
        size = jnp.linalg.norm(_wide(state)) + jnp.linalg.norm(change, axis=1)
        floor = root * jnp.linalg.norm(change, axis=1) + min(100 * precision, root) * size
        return jnp.abs(jnp.einsum("mh,hm->m", change.astype(system.vectors.dtype), system.vectors)), floor

    def body(carry: tuple[Array, Array], x: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        pulsed, state = carry
        pulsed, state = jax.vmap(lambda h: step(h, x))(pulsed), step(state, x)
        return (pulsed, state), left(pulsed, state)

    start = (state + pulses.astype(state.dtype), state)
    _, after = jax.lax.scan(body, start, inputs)
    amplitudes, floors = (
        jnp.concatenate([first[None], later]).T for first, later in zip(left(*start), after, strict=True)
    )
    # once lost in rounding, a mode is lost: what it is driven by after that is not its own
    seen = jnp.cumprod(amplitudes > jnp.maximum(floors, root * amplitudes[:, :1]), axis=1)
    amplitudes = amplitudes / amplitudes[:, :1]
    return PulseDecay(
        eigenvalues=system.eigenvalues,
        predicted=_horizon(jnp.log(jnp.abs(system.eigenvalues))),
        measured=_horizon(jax.vmap(_log_slope)(amplitudes, seen)),
        amplitudes=amplitudes,
    )


def _log_slope(amplitudes: Array, seen: Array) -> Array:
    """The least-squares slope of the logarithm over the steps seen: −∞ where it is the first alone, NaN where none."""
    times = jnp.arange(len(amplitudes), dtype=amplitudes.dtype)
    logs = jnp.log(jnp.where(seen, amplitudes, 1))
    mean = (seen * times).sum() / seen.sum()
    centred = seen * (times - mean)
    slope = (centred * logs).sum() / (centred * times).sum()
    return jnp.where(seen.sum() > 1, slope, jnp.where(seen[0], -jnp.inf, jnp.nan))


def _horizon(rate: Array) -> Array:
    """−1 / rate: infinite where nothing decays, 0 where all is gone at once."""
    return jnp.where(rate == 0, jnp.inf, -1 / jnp.where(rate == 0, 1, rate))


def _square(name: str, kernel: Any) -> Array:
    kernel = checks.array(name, kernel, rank=2, axes="(hidden, hidden)")
    if kernel.shape[0] != kernel.shape[1]:
        raise ValueError(
            f"{name} must be (hidden, hidden), got {kernel.shape}: only a square kernel has eigenvalues; for the gates "
            "of a cell use maso_rnn.spectra(cell), or split the kernel by jax.numpy.split(kernel, gates, axis=-1)"
        )
    if not kernel.size:
        raise ValueError(f"{name} must have at least one unit, got shape {kernel.shape}")
    checks.finite(name, kernel)
    return kernel


def _wide(array: Array) -> Array:
    """In float32 at least, which linear algebra needs."""
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


class _Eigensystem(NamedTuple):
    eigenvalues: Any  # (hidden,), largest modulus first
    vectors: Any  # (hidden, hidden), columns of unit length
    inverse: Any  # (hidden, hidden)
    condition: Any  # ()
    departure: Any  # ()
    defective: Any  # ()


def _eigensystem(kernel: Array) -> _Eigensystem:
    """In float32 at least; defective up to the rounding of the kernel's dtype."""
    n, real = kernel.shape[0], jnp.promote_types(kernel.dtype, jnp.float32)
    pair = jnp.result_type(real, jnp.complex64)
    number, matrix = jax.ShapeDtypeStruct((), real), jax.ShapeDtypeStruct((n, n), pair)
    result = _Eigensystem(
        jax.ShapeDtypeStruct((n,), pair), matrix, matrix, number, number, jax.ShapeDtypeStruct((), jnp.bool_)
    )
    precision = float(jnp.finfo(kernel.dtype).eps)
    return on_host(functools.partial(_numpy_eigensystem, precision=precision), (kernel,), result)


def _numpy_eigensystem(kernel: np.ndarray, precision: float) -> Any:
    n = len(kernel)
    if not np.isfinite(kernel).all():
        nothing = np.full((n, n), np.nan)
        return _Eigensystem(nothing[0], nothing, nothing, np.nan, np.nan, True)
    values, vectors, inverse, _, defective = eigenbasis(kernel, precision)
    order = np.argsort(-np.abs(values), kind="stable")  # conjugates have equal moduli and stay together
    values, vectors, inverse = values[order], vectors[:, order], inverse[order]
    if defective:
        departure = np.sqrt(max((np.abs(kernel) ** 2).sum() - (np.abs(values) ** 2).sum(), 0.0))
    else:  # the same without cancellation: above the diagonal of the Schur form, in the eigenvectors made orthogonal
        basis, _ = np.linalg.qr(vectors)
        departure = np.linalg.norm(np.triu(basis.conj().T @ kernel @ basis, 1))
    return _Eigensystem(values, vectors, inverse, np.linalg.cond(vectors), departure, defective)


@jax.custom_jvp
def _eigenvalues(kernel: Array) -> tuple[Array, Array]:
    """Eigenvalues and Henrici departure, with first derivatives."""
    system = _eigensystem(kernel)
    return system.eigenvalues, system.departure


@_eigenvalues.defjvp
def _eigenvalues_jvp(primals: tuple[Array], tangents: tuple[Array]) -> Any:
    (kernel,), (change,) = primals, tangents
    system = _eigensystem(kernel)
    values, departure = system.eigenvalues, system.departure
    moved = jnp.einsum("ij,jk,ki->i", system.inverse, change.astype(values.dtype), system.vectors)
    squares = jnp.vdot(kernel, change) - (values.conj() * moved).real.sum()
    normal = departure == 0
    return (values, departure), (moved, jnp.where(normal, 0, squares / jnp.where(normal, 1, departure)))


def _with_eigenbasis(kernel: Array) -> _Eigensystem:
    """The eigensystem, if there is one: else refused, or NaN for a traced kernel."""
    if checks.is_concrete(kernel):
        system = _eigensystem(kernel)
        if bool(system.defective):
            raise ValueError(
                f"kernel is defective, up to the rounding of {kernel.dtype}: two of its eigenvalues share one "
                "eigenvector, so that there are no modal coordinates; maso_rnn.spectrum shows it, and "
                "maso_rnn.jacobian_spectra needs none"
            )
        return system
    system = _eigensystem(jax.lax.stop_gradient(kernel))
    lost = system.defective
    return system._replace(
        vectors=jnp.where(lost, jnp.nan, system.vectors), inverse=jnp.where(lost, jnp.nan, system.inverse)
    )


@functools.partial(jax.jit, static_argnames="steps")
def _log_growth(kernel: Array, steps: int) -> Array:
    """The logarithm of ‖W^k‖ for k = 0 … steps, the power kept at unit size and its scale apart."""

    def body(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        power, log_scale = carry
        power = power @ kernel
        size = jnp.linalg.norm(power, 2)
        log_size = jnp.where(size > 0, jnp.log(jnp.where(size > 0, size, 1)), -jnp.inf)
        power = power / jnp.where(size > 0, size, 1)
        return (power, log_scale + log_size), log_scale + log_size

    start = (jnp.eye(kernel.shape[0], dtype=kernel.dtype), jnp.zeros((), kernel.dtype))
    _, log_growth = jax.lax.scan(body, start, None, length=steps)
    return jnp.concatenate([jnp.zeros(1, kernel.dtype), log_growth])


def _pushed(push: Callable[[Array], Array], columns: Array, dtype: Any) -> Array:
    """The Jacobian times each column: the carry's dtype in, the columns' out."""
    return jax.vmap(push, 1, 1)(columns.astype(dtype)).astype(columns.dtype)


def _flatten(step: Step, carry: PyTree) -> tuple[Callable[[Array, Array], Array], Array]:
    """The cell on flat carries, and the carry, flat."""
    h, unravel = ravel_pytree(carry)
    return lambda h, x: ravel_pytree(step(unravel(h), x))[0], h


def _flat_cell(step: Step, state: PyTree, inputs: Any) -> tuple[Callable[[Array, Array], Array], Array, Array]:
    """The cell on flat carries, the state, flat, and the inputs, once they are known to fit."""
    inputs = checks.array("inputs", inputs, rank=2, axes="(time, input)")
    if not inputs.shape[0]:
        raise ValueError(f"inputs must have at least one step, got shape {inputs.shape}")
    checks.finite("inputs", inputs)
    _check_carry(step, "state", state, inputs[0])
    checks.finite("state", state)
    flat, h = _flatten(step, jax.tree.map(jnp.asarray, state))
    return flat, h, inputs


def _check_carry(step: Step, name: str, carry: PyTree, x: Array) -> None:
    if not callable(step):
        raise TypeError(f"step must be a function (carry, x) -> carry, got {type(step).__name__}")
    for path, leaf in jax.tree.leaves_with_path(carry):
        checks.array(f"{name}{jax.tree_util.keystr(path)}", leaf, rank=jnp.ndim(leaf), axes="floating")
    if not sum(leaf.size for leaf in jax.tree.leaves(carry)):
        raise ValueError(f"{name} must hold at least one number, got an empty carry")
    after = jax.eval_shape(step, carry, x)
    wanted, got = (jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype.name), tree) for tree in (carry, after))
    if wanted != got:
        raise TypeError(f"step must return a carry like {name}, {wanted}, got {got}")


@functools.partial(jax.jit, static_argnames=("step", "learning_rate", "max_steps"))
def _descend(
    step: Step, starts: PyTree, x: Array, enough: Array | float, *, learning_rate: float, max_steps: int
) -> tuple[Array, Array]:
    """Where Adam on ½‖step(h) − h‖² ends from every start, and the value there."""
    import optax

    flat, _ = _flatten(step, jax.tree.map(lambda leaf: leaf[0], starts))
    # the first gradients are the largest: remembered for as long as by b2 = 0.999, they would stall the descent
    adam = optax.adam(optax.cosine_decay_schedule(learning_rate, max_steps), b2=0.9)

    def residuals(states: Array) -> Array:
        return 0.5 * jnp.sum((jax.vmap(lambda h: flat(h, x))(states) - states) ** 2, axis=1)

    def total(states: Array) -> tuple[Array, Array]:
        each = residuals(states)
        return each.sum(), each  # Adam is elementwise: the sum moves every start as by itself

    def body(carry: Any) -> Any:
        k, states, memory, _ = carry
        gradient, each = jax.grad(total, has_aux=True)(states)
        change, memory = adam.update(gradient, memory)
        # a start that is there stays there: Adam's next step would be as long as its last ones
        return k + 1, jnp.where((each > enough)[:, None], states + change, states), memory, each

    def unfinished(carry: Any) -> Array:
        k, _, _, each = carry
        return (k < max_steps) & (each > enough).any()

    states = jax.vmap(lambda carry: ravel_pytree(carry)[0])(starts)
    begin = (0, states, adam.init(states), jnp.full(len(states), jnp.inf, states.dtype))
    _, states, _, _ = jax.lax.while_loop(unfinished, body, begin)
    return states, residuals(states)


@functools.partial(jax.jit, static_argnames="step")
def _polish(step: Step, carry: PyTree, states: Array, x: Array, reach: Array | float) -> tuple[Array, Array]:
    """Newton's method from every state, kept where it lessens the residual without leaving."""
    import optimistix

    flat, _ = _flatten(step, carry)
    precision = 100 * float(jnp.finfo(states.dtype).eps)
    newton: Any = optimistix.Newton(rtol=precision, atol=precision)

    def polish(h: Array) -> tuple[Array, Array]:
        def miss(h: Array, _: None) -> Array:
            return flat(h, x) - h

        found = optimistix.root_find(miss, newton, h, max_steps=32, throw=False).value
        before, after = (0.5 * jnp.sum(miss(at, None) ** 2) for at in (h, found))
        better = (after <= before) & (jnp.linalg.norm(found - h) <= reach)
        return jnp.where(better, found, h), jnp.where(better, after, before)

    return jax.vmap(polish)(states)


@functools.partial(jax.jit, static_argnames="step")
def _jacobians(step: Step, carry: PyTree, states: Array, x: Array) -> Array:
    flat, _ = _flatten(step, carry)
    return jax.vmap(jax.jacfwd(lambda h: flat(h, x)))(states)


def _padded(states: np.ndarray) -> np.ndarray:
    """Filled up to a power of two, so that few sizes are ever compiled."""
    wanted = 1 << (len(states) - 1).bit_length()
    return np.concatenate([states, np.repeat(states[:1], wanted - len(states), axis=0)])


def _distinct(
    points: np.ndarray, residuals: np.ndarray, allowed: np.ndarray, distance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Which allowed points stand for themselves, best first, and which of these each point belongs to (-1: none)."""
    chosen: list[int] = []
    of = np.full(len(points), -1)
    for i in np.argsort(residuals, kind="stable"):
        if not allowed[i] or of[i] >= 0:
            continue
        near = allowed & (of < 0) & (np.linalg.norm(points - points[i], axis=1) <= distance)
        of[near] = len(chosen)
        chosen.append(i)
    return np.array(chosen, int), of
