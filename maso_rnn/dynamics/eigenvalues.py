"""The eigenvalues of recurrent kernels, the memory they promise, and the coordinates they are for."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float

from maso_rnn import checks, powers
from maso_rnn.adapters import kernels_of_network
from maso_rnn.dynamics.eigensystem import eigensystem, eigenvalues_and_departure, horizon, square, wide, with_eigenbasis


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
    kernel = square("kernel", kernel)
    steps = checks.size("steps", steps)
    system = eigensystem(jax.lax.stop_gradient(kernel))
    kernel = wide(kernel)
    eigenvalues, departure = eigenvalues_and_departure(kernel)
    return _spectrum(kernel, eigenvalues, departure, system.condition, system.defective, steps=steps)


@functools.partial(jax.jit, static_argnames="steps")
def _spectrum(
    kernel: Array, eigenvalues: Array, departure: Array, condition: Array, defective: Array, *, steps: int
) -> Spectrum:
    # moduli, norms and powers at a size near 1, since squares of large and of small numbers leave the dtype's range
    scale = powers.exponent(jnp.abs(kernel).max())
    kernel = powers.scaled(kernel, -scale)
    near_one = _scaled_complex(eigenvalues, -scale)
    modulus, turn = jnp.abs(near_one), jnp.abs(jnp.angle(near_one))
    log_unit = scale * math.log(2.0)
    log_modulus = jnp.log(modulus) + log_unit
    log_radius = jnp.maximum(log_modulus.max(), 0)
    # powers of the kernel at radius 1 or below first, so that an unstable one loses no digits of the difference
    excess = _log_growth(kernel * jnp.exp(log_unit - log_radius), steps)
    return Spectrum(
        eigenvalues=eigenvalues,
        radius=powers.scaled(modulus.max(), scale),
        horizons=horizon(log_modulus),
        periods=jnp.where(turn == 0, jnp.inf, 2 * math.pi / jnp.where(turn == 0, 1, turn)),
        norm=powers.scaled(jnp.linalg.norm(kernel, 2), scale),
        condition=condition,
        departure=departure,
        growth=jnp.exp(excess + jnp.arange(steps + 1) * log_radius),
        transient=jnp.exp(excess.max()),
        defective=defective,
    )


def _scaled_complex(values: Array, exponent: Array) -> Array:
    return jax.lax.complex(powers.scaled(values.real, exponent), powers.scaled(values.imag, exponent))


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


def recurrent_kernels(cell: Any) -> dict[str, Array]:
    """The recurrent kernel of every layer or gate of a network, (in, out) each, by name.

    Args:
        cell: a `maso_rnn.RNN`, or whatever `maso_rnn.cell` takes: a cell, module or weights of PyTorch, flax, equinox
            or Keras, or a `Cell` that it made; what else it holds is not looked at. A residual flax cell adds the
            identity.

    Returns:
        Kernels by name: "layer 0", … of an `RNN`; of one recurrent layer "h" of a simple one, "r", "z", "n" of a GRU
        (reset, update, new), "i", "f", "g", "o" of an LSTM (input, forget, cell, output); of several "layer 0 r" and
        so on.

    Raises:
        TypeError: if there is no recurrent kernel in `cell`, or one is not a floating array.
        ValueError: if one is not square, or a concrete one not finite.

    Example:
        >>> from flax import nnx
        >>> kernels = recurrent_kernels(nnx.GRUCell(1, 4, rngs=nnx.Rngs(0)))
        >>> {name: kernel.shape for name, kernel in kernels.items()}
        {'r': (4, 4), 'z': (4, 4), 'n': (4, 4)}

    Source:
        The layouts are those of torch.nn, flax 0.12, equinox 0.13 and Keras 3.
    """
    found = {
        name: checks.array(f"cell: the recurrent kernel {name!r}", kernel, "hidden hidden")
        for name, kernel in kernels_of_network(cell).items()
    }
    checks.finite(cell=found)
    return found


def spectra(cell: Any, *, steps: int = 64) -> dict[str, Spectrum]:
    """`spectrum` of the recurrent kernel of every layer or gate of a cell.

    Args:
        cell: as `recurrent_kernels` takes it; what else it holds is not looked at.
        steps: as in `spectrum`.

    Returns:
        Spectra by the name of the layer or gate.

    Raises:
        TypeError: as `recurrent_kernels`.
        ValueError: as `recurrent_kernels`, or if `steps` is below 1.

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
        One block of lines for each spectrum; a defective kernel is called so. Numbers of any floating dtype, finite or
        not, are printed as they are.

    Raises:
        TypeError: if `found` is none, or traced.
        ValueError: if the arrays of a spectrum do not fit each other.

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
    checks.instance("found", found, Spectrum, "maso_rnn.spectrum")
    checks.known("a table is text; call spectrum_table outside jax.jit", found=found)
    horizons = np.asarray(found.horizons, np.float64)
    periods = np.asarray(found.periods, np.float64)
    turning = periods[np.isfinite(periods)]
    largest = ", ".join(_complex_text(complex(value)) for value in np.asarray(found.eigenvalues)[:3])
    fading = horizons[horizons >= 0]
    growing = len(horizons) - len(fading)
    memory = "none: all modes grow"
    if len(fading):
        low, high, middle = (f"{value:.4g}" for value in (fading.min(), fading.max(), np.median(fading)))
        memory = f"{low} ... {high} steps, median {middle}" + f"; {growing} of {len(horizons)} modes grow" * (
            growing > 0
        )
    return "\n".join(
        [
            f"{len(horizons)} eigenvalues",
            f"  radius              {float(found.radius):<9.4g} largest: {largest}",
            f"  memory horizons     {memory}",
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


def _complex_text(value: complex) -> str:
    return f"{value.real:.3g}" if value.imag == 0 else f"{value.real:.3g}{value.imag:+.3g}i"


def modal_coordinates(
    states: Float[Array, "*batch hidden"], kernel: Float[Array, "hidden hidden"]
) -> Complex[Array, "*batch hidden"]:
    """States in the eigenbasis of the kernel, where the linear network moves each coordinate by itself.

    Equation: c = h V with W V = V Λ, columns of V at unit length; so h_t = h_{t-1} W is c_t = c_{t-1} Λ.

    Args:
        states: (..., hidden), as a trajectory (time, hidden), none or many, in the kernel's dtype.
        kernel: (hidden, hidden).

    Returns:
        (..., hidden), complex, in the order of `spectrum(kernel).eigenvalues`. The phase of each column is LAPACK's
        choice; NaN for a traced kernel that is defective.

    Raises:
        ValueError: if `kernel` is not square, not finite or, up to the rounding of its dtype, defective, or `states`
            does not fit it or is not finite.
        TypeError: if either is not a floating array.

    Example:
        >>> kernel = jnp.array([[0.0, 0.5], [-0.5, 0.0]])
        >>> modes = modal_coordinates(jnp.array([[1.0, 0.0], [0.0, 0.5]]), kernel)  # one step of h @ kernel
        >>> bool(jnp.allclose(modes[1], modes[0] * spectrum(kernel).eigenvalues))
        True

    Source:
        Dou, Principe (2023), the abstract.
    """
    kernel = square("kernel", kernel)
    states = checks.array("states", states, "*batch hidden", {"hidden": len(kernel)}, kernel.dtype)
    checks.finite(states=states)
    system = with_eigenbasis(kernel)
    return states.astype(system.vectors.dtype) @ system.vectors
