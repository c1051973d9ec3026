"""Functions of the caller, as pytrees: traced anew at every call, so never stale, and compiled once for what they are.

JAX keeps compiled programs by the identity of a function, so one that reads `w` goes on with the old `w` after
`w = 3 * w`. Here a function is traced again whenever it is given, and becomes a `Traced`: a callable pytree. Its leaves
are the arrays that it reads (those it closes over, the weights of a callable pytree, those that its inner `jax.jit`s
read); its structure is its program. `jax.jit`, `jax.grad` and `jax.vmap` take it like any other argument, and a
compiled program is used again exactly where the structure is the same, whatever the arrays are.

Two programs are the same if they do the same operations with the same parameters. What cannot be compared, such as a
derivative rule of the caller's own, is the same as nothing else, and is compiled at every call.
"""

from __future__ import annotations

import enum
import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core, linear_util
from jaxtyping import Array, PyTree

from maso_rnn import checks

# whose derivative rules do not change while a program runs
_LIBRARIES = (
    "jax",
    "flax",
    "optax",
    "equinox",
    "diffrax",
    "lineax",
    "optimistix",
    "numpy",
    "maso_rnn",
    "path_opt",
    "srnn",
)


class _Program:
    """What a function does to its arrays; equal to another that does the same."""

    def __init__(self, jaxpr: core.Jaxpr, out_tree: Any, out: Any):
        self.jaxpr, self.out_tree, self.out = jaxpr, out_tree, out
        self.form = (_form(jaxpr), out_tree)
        self._hash = hash(self.form)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Program) and self._hash == other._hash and self.form == other.form

    def __hash__(self) -> int:
        return self._hash


@jax.tree_util.register_pytree_node_class
class Traced:
    """A function as a pytree: the arrays that it reads are its leaves.

    Attributes:
        constants: the arrays.
        out: what it returned when it was traced, as `jax.ShapeDtypeStruct`s.
    """

    def __init__(self, constants: list[Any], program: _Program):
        self.constants, self._program = constants, program

    @property
    def out(self) -> PyTree:
        """What it returns, as it was traced."""
        return self._program.out

    def __call__(self, *arguments: PyTree) -> PyTree:
        """The function of pytrees of arrays with the shapes that it was traced with."""
        leaves = _run(self._program.jaxpr, [*self.constants, *jax.tree.leaves(arguments)])
        return self._program.out_tree.unflatten(leaves)

    def tree_flatten(self) -> tuple[tuple[list[Any]], _Program]:
        """The arrays that it reads, and its program."""
        return (self.constants,), self._program

    @classmethod
    def tree_unflatten(cls, program: _Program, children: tuple[list[Any]]) -> Traced:
        """The inverse of `tree_flatten`."""
        return cls(*children, program)


def traced(name: str, function: Callable[..., PyTree], *examples: PyTree) -> Traced:
    """A function of the caller, traced now on arrays like `examples`; what it raises gets a note of what it was given.

    Args:
        name: how messages call it.
        function: any callable, a callable pytree (`jax.tree_util.Partial`, an equinox module, a flax nnx module, a
            `Cell`'s step with its parameters bound) included.
        examples: one for each argument: pytrees of arrays or `jax.ShapeDtypeStruct`s.

    Returns:
        The function as a pytree; `Traced.out` says what it returns.
    """
    if isinstance(function, Traced):
        return function
    checks.function(name, function)
    leaves, structure = jax.tree.flatten(function)
    is_pytree = not (len(leaves) == 1 and leaves[0] is function)
    arrays = [leaf for leaf in leaves if _is_array(leaf)] if is_pytree else []

    # a new function object at every call: JAX's caches know it by identity
    def anew(arrays: list[Array], *arguments: PyTree) -> PyTree:
        if not is_pytree:
            return function(*arguments)
        own = iter(arrays)
        filled = [next(own) if _is_array(leaf) else leaf for leaf in leaves]
        return jax.tree.unflatten(structure, filled)(*arguments)

    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), examples)
    with checks.calling(name, str(shapes)[1:-1].rstrip(",")):
        closed, out = jax.make_jaxpr(anew, return_shape=True)(arrays, *shapes)
    hoisted, constants = _hoisted(closed)
    constants = [*map(jnp.asarray, constants), *arrays]
    return Traced(constants, _Program(hoisted, jax.tree.structure(out), out))


class Elementwise:
    """A function of one number as a static value: equal to another that does the same with equal constants."""

    def __init__(self, name: str, function: Traced):
        self.__name__, self._traced = name, function
        constants = [np.asarray(constant) for constant in function.constants]
        self._key = (function._program, *((c.shape, c.dtype, c.tobytes()) for c in constants))
        self._hash = hash(self._key)

    def __call__(self, p: Array) -> Array:
        """The function of every number in `p`."""
        p = jnp.asarray(p)
        return jax.vmap(self._traced)(p.ravel()).reshape(p.shape)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Elementwise) and self._key == other._key

    def __hash__(self) -> int:
        return self._hash


def elementwise(name: str, function: Callable[[Array], Array], dtype: Any) -> Callable[[Array], Array]:
    """An activation that a compiled program may be kept by: one of a library as it is, one of the caller's traced now.

    What it reads is taken by value, so that derivatives do not pass through it; traced values are refused.
    """
    if isinstance(function, Elementwise) or _of_a_library(function):
        return function
    found = traced(name, function, jax.ShapeDtypeStruct((), dtype))
    checks.known("it is static; make what it reads parameters of a maso_rnn.Cell", **{name: found})
    if not isinstance(found.out, jax.ShapeDtypeStruct) or found.out.shape:
        raise TypeError(f"{name} must give one number for one number, got {found.out}")
    return Elementwise(getattr(function, "__name__", type(function).__name__), found)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def _hoisted(closed: core.ClosedJaxpr) -> tuple[core.Jaxpr, list[Any]]:
    """The jaxpr with every constant an argument, in front of the others, those of inner `jax.jit`s too."""
    inner = [constant for eqn in _compiled(closed.jaxpr) for constant in eqn.params["jaxpr"].consts]
    if not inner:
        jaxpr = closed.jaxpr
        return jaxpr.replace(invars=[*jaxpr.constvars, *jaxpr.invars], constvars=[]), list(closed.consts)
    constants = [*closed.consts, *inner]

    def flat(constants: list[Any], *arguments: Any) -> list[Any]:
        own = iter(constants[len(closed.consts) :])
        return _run(closed.jaxpr, [*constants[: len(closed.consts)], *arguments], own)

    avals = [var.aval for var in closed.jaxpr.invars]
    again = jax.make_jaxpr(flat)(constants, *(jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals))
    jaxpr, left = _hoisted(again)
    return jaxpr, [*left, *constants]


def _compiled(jaxpr: core.Jaxpr) -> Iterator[core.JaxprEqn]:
    """Every inner `jax.jit` with constants of its own, in the order in which `_run` meets them."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "jit":
            if eqn.params["jaxpr"].consts:
                yield eqn
            yield from _compiled(eqn.params["jaxpr"].jaxpr)


def _run(jaxpr: core.Jaxpr, arguments: list[Any], inner: Iterator[Any] | None = None) -> list[Any]:
    """The jaxpr on its constants and arguments; `inner` has the constants of inner `jax.jit`s, where they are moved."""
    if inner is None:
        return jax.core.eval_jaxpr(jaxpr, [], *arguments)
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], arguments, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else known[atom]

    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "jit":
            closed = eqn.params["jaxpr"]
            results = _run(closed.jaxpr, [*(next(inner) for _ in closed.consts), *map(read, eqn.invars)], inner)
        else:
            variables = [atom for atom in eqn.invars if not isinstance(atom, core.Literal)]
            alone = jaxpr.replace(constvars=[], invars=variables, outvars=eqn.outvars, eqns=[eqn])
            results = jax.core.eval_jaxpr(alone, [], *map(read, variables))
        known |= zip(eqn.outvars, results, strict=True)
    return [read(atom) for atom in jaxpr.outvars]


def _form(jaxpr: core.Jaxpr) -> tuple:
    """The jaxpr as values: equal for two that do the same."""
    number: dict[Any, int] = {}

    def name(var: Any) -> Any:
        if isinstance(var, core.Literal):
            return (_value(var.val), _value(var.aval))
        return number.setdefault(var, len(number))

    def named(variables: Any) -> tuple:
        return tuple((name(var), var.aval) for var in variables)

    inputs = named([*jaxpr.constvars, *jaxpr.invars])
    body = tuple(
        (
            eqn.primitive,
            tuple(name(atom) for atom in eqn.invars),
            named(eqn.outvars),
            tuple((key, _value(eqn.params[key])) for key in sorted(eqn.params)),
        )
        for eqn in jaxpr.eqns
    )
    return inputs, body, tuple(name(atom) for atom in jaxpr.outvars)


def _value(value: Any) -> Any:
    """A parameter of an operation, such that equal ones are equal; one that cannot be compared is like no other."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | type | enum.Enum | np.dtype):
        return type(value), repr(value) if isinstance(value, float | complex) else value  # -0.0 is not 0.0, NaN is NaN
    if isinstance(value, core.ClosedJaxpr):
        return _form(value.jaxpr), tuple(map(_value, value.consts))
    if isinstance(value, core.Jaxpr):
        return _form(value)
    if isinstance(value, jax.core.Tracer):
        return object()
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return value.dtype, value.shape, np.asarray(value).tobytes()
    if isinstance(value, tuple | list):
        return type(value), tuple(map(_value, value))
    if isinstance(value, dict):
        return tuple((key, _value(value[key])) for key in sorted(value, key=repr))
    if isinstance(value, types.FunctionType | functools.partial | linear_util.WrappedFun):
        rules = list(_functions(value, set()))
        return ("rule", *rules) if rules and None not in rules else object()
    if _of_a_library(type(value)) or type(value).__module__.startswith("jaxlib"):
        try:
            hash(value)
        except TypeError:
            return object()
        return value
    return object()


def _functions(value: Any, seen: set[int]) -> Iterator[str | None]:
    """What a derivative rule is made of: names of functions, and numbers; None for what is the caller's."""
    if isinstance(value, bool | int | float | str):
        yield repr(value)
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    inner: list[Any] = []
    if isinstance(value, linear_util.WrappedFun):
        inner = [value.f, *value.transforms, value.params]
    elif isinstance(value, types.FunctionType):
        yield f"{value.__module__}.{value.__qualname__}" if _of_a_library(value) else None
        inner = [cell.cell_contents for cell in value.__closure__ or ()]
    elif isinstance(value, functools.partial):
        inner = [value.func, *value.args, *value.keywords.values()]
    elif isinstance(value, tuple | list):
        inner = list(value)
    elif hasattr(value, "__wrapped__"):
        inner = [value.__wrapped__]
    elif _is_array(value) or (callable(value) and not _of_a_library(type(value))):
        yield None
    for part in inner:
        yield from _functions(part, seen)


def _of_a_library(value: Any) -> bool:
    return (getattr(value, "__module__", None) or "").split(".")[0] in _LIBRARIES
