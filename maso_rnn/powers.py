"""Powers of two, by which numbers are scaled without rounding: what is beyond a dtype's range is carried as m · 2^e."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def exponent(values: Float[Array, "*shape"]) -> Int[Array, "*shape"]:
    """The integer e with 2^(e − 1) <= |value| < 2^e of each normal number; below every other's for 0 and subnormals."""
    info = jnp.finfo(values.dtype)
    bits = jax.lax.bitcast_convert_type(jnp.abs(jax.lax.stop_gradient(values)), jnp.dtype(f"int{info.bits}"))
    return (bits >> info.nmant).astype(jnp.int32) - (2 ** (info.nexp - 1) - 2)


def power(exponent: Int[Array, "*shape"], dtype: Any) -> Float[Array, "*shape"]:
    """2^exponent, exactly, for integers; 0 below the normal range and infinity above it."""
    info = jnp.finfo(dtype)
    bias = 2 ** (info.nexp - 1) - 1
    bits = jnp.clip(exponent + bias, 0, 2 * bias + 1).astype(jnp.dtype(f"int{info.bits}")) << info.nmant
    return jax.lax.bitcast_convert_type(bits, dtype)


def scaled(values: Float[Array, "*shape"], exponent: Int[Array, "*#shape"]) -> Float[Array, "*shape"]:
    """Values · 2^exponent, exact wherever the result is a normal number, in steps of which none leaves the range."""
    bias = 2 ** (jnp.finfo(values.dtype).nexp - 1) - 1
    root = power(jnp.minimum((exponent + 1) >> 1, bias), values.dtype)  # finite, so that 0 stays 0
    odd = (exponent & 1).astype(values.dtype)
    return values * root * (1 - odd / 2) * root
