"""Piecewise-affine activations, as data.

An activation here is a continuous function of one variable made of straight pieces,

    act(p) = slopes[code] * p + offsets[code],    code = number of breakpoints strictly below p,

so that everything the spline view needs (which piece, which slope, which offset) can be read from it. A unit that
sits *on* its kink has the lower code, as `jax.nn.relu` has derivative 0 at 0. Where the slopes increase, the
function is convex and equals the largest of its lines, `max_r(slopes[r] * p + offsets[r])`: the max-affine spline
operator of Wang, Balestriero and Baraniuk (2019).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt8

from maso_rnn import checks


@dataclasses.dataclass(frozen=True)
class PiecewiseAffine:
    """A continuous piecewise-affine function of one variable: `slopes[code] * p + offsets[code]`.

    Frozen, hashable and equal by value, so that it can be a static argument of `jax.jit`.

    Attributes:
        breakpoints: the kinks, strictly ascending; at most 255.
        slopes: one slope for each piece, from left to right; one more than there are breakpoints.
        offsets: one offset for each piece, such that neighbouring pieces meet at their breakpoint.

    Raises:
        ValueError: if the numbers are not finite, the lengths do not fit, the breakpoints do not ascend, or the
            pieces do not meet.

    Example:
        >>> relu6 = PiecewiseAffine(breakpoints=(0, 6), slopes=(0, 1, 0), offsets=(0, 0, 6))
        >>> relu6(jnp.array([-1.0, 2.0, 7.0])).tolist()
        [0.0, 2.0, 6.0]

    Source:
        Wang, Balestriero, Baraniuk (2019), section 2, for the convex case.
    """

    breakpoints: tuple[float, ...]
    slopes: tuple[float, ...]
    offsets: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("breakpoints", "slopes", "offsets"):
            object.__setattr__(self, name, _finite_numbers(name, getattr(self, name)))
        kinks, slopes, offsets = self.breakpoints, self.slopes, self.offsets
        if not len(kinks) + 1 == len(slopes) == len(offsets) <= 256:
            raise ValueError(f"n <= 255 breakpoints need n + 1 slopes and offsets, got {kinks}, {slopes}, {offsets}")
        if any(a >= b for a, b in itertools.pairwise(kinks)):
            raise ValueError(f"breakpoints must be strictly ascending, got {kinks}")
        for r, kink in enumerate(kinks):
            left, right = (slopes[i] * kink + offsets[i] for i in (r, r + 1))
            if not math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-9):
                raise ValueError(f"offsets must let pieces meet: at {kink} they are {left} and {right}")

    def __call__(self, p: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The value at `p`, in the dtype of `p`; its derivative on a kink is the lower piece's slope."""
        p = checks.array("p", jnp.asarray(p), "*shape")
        value = self._piece(0, p)
        for r, kink in enumerate(self.breakpoints):
            value = jnp.where(p > kink, self._piece(r + 1, p), value)
        # a constant piece would otherwise swallow a NaN
        return jnp.where(jnp.isnan(p), p, value)

    def _piece(self, r: int, p: Array) -> Array:
        """The r-th piece, without multiplying by 0 or 1 (0 times infinity is not 0)."""
        slope, offset = self.slopes[r], self.offsets[r]
        if slope == 0.0:
            return jnp.full_like(p, offset)
        line = p if slope == 1.0 else p * slope
        return line + offset if offset else line

    def code(self, p: Float[Array, "*shape"]) -> Bool[Array, "*shape"] | UInt8[Array, "*shape"]:
        """The number of breakpoints strictly below `p`: bool for one or two pieces, else uint8."""
        if not self.breakpoints:
            return jnp.zeros_like(p, dtype=bool)
        above = [p > kink for kink in self.breakpoints]
        if len(above) == 1:
            return above[0]
        return sum((a.astype(jnp.uint8) for a in above[1:]), start=above[0].astype(jnp.uint8))

    def slope(self, code: Array, dtype: Any) -> Float[Array, "*shape"]:
        """The slope of each code's piece, in `dtype`."""
        return self._lookup(self.slopes, code, dtype)

    def offset(self, code: Array, dtype: Any) -> Float[Array, "*shape"]:
        """The offset of each code's piece, in `dtype`."""
        return self._lookup(self.offsets, code, dtype)

    def _lookup(self, values: tuple[float, ...], code: Array, dtype: Any) -> Array:
        looked_up = jnp.full(code.shape, values[0], dtype)
        for r, value in enumerate(values[1:], start=1):
            here = code if code.dtype == bool else code >= jnp.asarray(r, code.dtype)
            looked_up = jnp.where(here, jnp.asarray(value, dtype), looked_up)
        return looked_up

    def max_affine(self, p: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The max-affine form `max_r(slopes[r] * p + offsets[r])`, equal to the activation where it is convex.

        Raises:
            ValueError: if the activation is not convex.
        """
        if not self.is_convex:
            raise ValueError(f"only a convex activation has a max-affine form; the slopes {self.slopes} do not ascend")
        return jnp.stack([self._piece(r, p) for r in range(len(self.slopes))]).max(axis=0)

    @property
    def is_convex(self) -> bool:
        """Whether the slopes never decrease."""
        return all(a <= b for a, b in zip(self.slopes, self.slopes[1:], strict=False))

    @property
    def is_positively_homogeneous(self) -> bool:
        """Whether `act(c * p) = c * act(p)` for every c > 0: no kink but at 0, no offsets."""
        return self.breakpoints in ((), (0.0,)) and not any(self.offsets)

    @property
    def has_offsets(self) -> bool:
        """Whether any piece has an offset."""
        return any(self.offsets)


def _finite_numbers(name: str, values: Any) -> tuple[float, ...]:
    """The field's numbers as plain floats, which are static: they cannot be traced."""
    if not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a sequence of numbers, got {values!r}")
    return tuple(checks.number(name, value) + 0.0 for value in values)  # + 0.0 turns -0.0 into 0.0


Activation: TypeAlias = PiecewiseAffine | Callable[[Array], Array]
"""What a network may use: a piecewise-affine function, or any elementwise function (`forward` only)."""


def leaky_relu(slope: float = 0.01) -> PiecewiseAffine:
    """The leaky ReLU, `p` above 0 and `slope * p` below.

    Args:
        slope: the slope below 0, any finite number, known while something else is traced.

    Returns:
        The activation.

    Raises:
        ValueError: if `slope` is not finite.
        TypeError: if it is not a real number, or traced.

    Example:
        >>> leaky_relu(0.5)(jnp.array([-1.0, 2.0])).tolist()
        [-0.5, 2.0]

    Source:
        Wang, Balestriero, Baraniuk (2019), section 2.
    """
    return PiecewiseAffine((0.0,), (checks.number("slope", slope), 1.0), (0.0, 0.0))


relu = PiecewiseAffine((0.0,), (0.0, 1.0), (0.0, 0.0))
abs = PiecewiseAffine((0.0,), (-1.0, 1.0), (0.0, 0.0))
hard_tanh = PiecewiseAffine((-1.0, 1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 1.0))
identity = PiecewiseAffine((), (1.0,), (0.0,))

_BY_NAME: dict[str, Activation] = {
    "relu": relu,
    "leaky_relu": leaky_relu(),
    "abs": abs,
    "hard_tanh": hard_tanh,
    "identity": identity,
    "tanh": jnp.tanh,
}


def activation(name_or_activation: str | Activation) -> Activation:
    """The activation of that name, or the activation itself.

    Args:
        name_or_activation: `"relu"`, `"leaky_relu"` (slope 0.01 below 0), `"abs"`, `"hard_tanh"`, `"identity"`,
            `"tanh"`, or an activation.

    Returns:
        A `PiecewiseAffine`, or a smooth elementwise function.

    Raises:
        ValueError: if the name is not known.
        TypeError: if it is neither a name nor callable.

    Example:
        >>> activation("relu") == PiecewiseAffine((0,), (0, 1), (0, 0))
        True

    Source:
        The names are those of `jax.nn`.
    """
    if isinstance(name_or_activation, str):
        return _BY_NAME[checks.choice("activation", name_or_activation, _BY_NAME)]
    checks.function("activation", name_or_activation)
    if name_or_activation is leaky_relu:
        raise TypeError("activation must be a function of one number, got leaky_relu; call it, as leaky_relu(0.01)")
    return name_or_activation


def name(act: Activation) -> str:
    """What an activation is called: its name where it has one, else the function's."""
    known = [key for key, value in _BY_NAME.items() if value == act]
    return known[0] if known else getattr(act, "__name__", repr(act))


def require_pieces(act: Activation) -> PiecewiseAffine:
    """`act` itself if it is piecewise affine; else the error that names what to call instead."""
    if isinstance(act, PiecewiseAffine):
        return act
    activation(act)
    raise ValueError(f"activation {name(act)} has no affine pieces; maso_rnn.linearize takes any cell to first order")
