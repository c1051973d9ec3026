"""Bad input, made from signatures: every argument of every public function, spoiled in every way its type allows.

`tests/bad_input_page.py` makes a page of what comes of it, and `tests/test_bad_input.py` holds it to what happens.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import traceback
import types
import typing
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import maso_rnn
import path_opt
import srnn
from tests.contracts import table
from tests.contracts.arguments import ARGUMENTS


class Fault(NamedTuple):
    """One argument spoiled in one way.

    Attributes:
        argument: its name, or `ALL`.
        kind: what is wrong with it.
        where: the leaf and the axis, to tell faults of a kind apart.
        value: the spoiled argument.
    """

    argument: str
    kind: str
    where: str
    value: Any


class Outcome(NamedTuple):
    """What came of it.

    Attributes:
        kind: one of `OUTCOMES`, or the complaint.
        detail: the error's words, or what was wrong with the answer.
    """

    kind: str
    detail: str = ""


ERROR, SAME, DOCUMENTED_ANSWER, SHOWN, UNAFFECTED = "error", "same", "documented", "shown", "unaffected"
WRONG = "WRONG"

ALL = "every array"  # at once
VALUES = ("NaN", "infinity")  # faults in numbers, which a trace cannot see
OUTSIDE, TRACED, COMPILED = "outside", "traced", "compiled"


class Documented(NamedTuple):
    """An answer to what looks like a fault, and where it is promised. All but the words are patterns.

    Attributes:
        functions: their names, with the package.
        argument: its name.
        kind: of the fault.
        words: of a docstring: the function's, its package's or one of the package's types'.
        stage: `OUTSIDE` of jit, `TRACED` for shapes and dtypes, or `COMPILED` for numbers.
        where: the leaf within the argument.
    """

    functions: str
    argument: str
    kind: str
    words: str
    stage: str = ".*"
    where: str = ".*"


DOCUMENTED: tuple[Documented, ...] = (
    Documented(".*", ".*", "numpy", "Arrays and numbers may be NumPy's as well as JAX's"),
    Documented(
        ".*",
        ".*",
        "NaN|infinity",
        "traced ones show in the result, as NaN, infinity or a flag, wherever it depends on them",
        COMPILED,
    ),
    # optax's own way: `inject_hyperparams` traces the numbers of a transform
    Documented(
        "path_opt.*", "learning_rate", "zero|negative|traced number", "a concrete `learning_rate` is not", TRACED
    ),
    Documented("path_opt.*", "momentum", "zero|negative|traced number", "a concrete `momentum` not in [0, 1)", TRACED),
    Documented("path_opt.*", "momentum", "zero", "in [0, 1), or None"),
    Documented(
        "path_opt.*",
        "params",
        "wrong container|unknown name",
        "Parameters are a pytree of any form that has the leaves named by the graph; an activation it may hold is not "
        "looked at",
        where="layers a list|activation",
    ),
    Documented("path_opt.reduction_graph", "rnn", "NaN|infinity", "whatever the numbers are"),
    Documented("path_opt.reduction_graph_from_paths", "params", "NaN|infinity", "as for `reduction_graph`"),
    Documented("path_opt.rescale", "log_scales", "float16", "in any floating dtype"),
    Documented("path_opt.rescale", "log_scales", "wrong container", "a list or tuple of (hidden,)", where="list"),
    Documented(
        "maso_rnn.affine_map",
        "step",
        "zero|negative|traced number",
        "from 0 or, if negative, from the end; it may be traced",
    ),
    Documented("maso_rnn.template_margin", "label", "zero|negative|traced number", "it may be traced"),
    Documented("maso_rnn.(match|template_margin)", "affine", ".*", "its slope alone is read", where=r"\.(?!slope).*"),
    Documented("maso_rnn.(match|template_margin)", "affine", "sizes disagree", "its slope alone is read"),
    Documented("maso_rnn.(init|random_initial_state)", "key", "old key", "of the old kind"),
    Documented("maso_rnn.leaky_relu", "slope", "zero|negative", "any finite number"),
    Documented(
        "maso_rnn.linearize|maso_rnn.linearization_error", "xs", "float16", "in any floating dtype that the cell"
    ),
    Documented("maso_rnn.linearization_error", "linearization", "float16", "in floating dtypes of any kind"),
    Documented("maso_rnn.(lyapunov_.*|jacobian_.*|pulse_.*)", "inputs", "float16", "Of any floating dtype"),
    Documented("maso_rnn.(lyapunov_.*|jacobian_.*|pulse_.*)", "inputs", "empty", "(time, 0)", where="input"),
    Documented("maso_rnn.fixed_points", "x", "float16", "of any floating dtype that the cell takes"),
    Documented("maso_rnn.fixed_points", "x", "empty", "(0,), for a cell without input"),
    Documented("maso_rnn.lyapunov_exponents", "warmup", "zero", "0 for none"),
    Documented("maso_rnn.modal_coordinates", "states", "empty", "none or many", where=r"\*batch"),
    Documented("maso_rnn.(noise_penalty|random_initial_state)", "scale", "int32|float16", "of any real dtype"),
    Documented("maso_rnn.random_initial_state", "carry", "float16|list|wrong container|.* layer", "any pytree of them"),
    Documented("maso_rnn.per_gate", "axis", "zero|negative", "-1 in flax, 0 in equinox and torch"),
    Documented("maso_rnn.(recurrent_kernels|spectra)", "cell", ".*", "what else it holds is not looked at"),
    Documented("maso_rnn.spectrum", "kernel", "float16", "Below float32 it is taken to have been rounded"),
    Documented("maso_rnn.spectrum_table", "found", "NaN|infinity|float16", "are printed as they are", OUTSIDE),
    Documented("maso_rnn.(walk_line|partition_plane)", "start|stop|origin|u|v", "float16", "in any floating dtype"),
    Documented("srnn.*", "burn_in", "zero", "0 for none"),
    Documented(
        "srnn.memory_timescales", "kernel", "NaN|infinity", "never for a kernel that is zero or not finite", OUTSIDE
    ),
    Documented("srnn.(response_coefficients|volterra)", "kernels", "missing layer", "or one of order 1"),
    Documented(
        "srnn.(response_coefficients|volterra)",
        "kernels",
        ".*",
        "Their times, lags and values alone are read",
        where=r".*\.(stderr|growth|diverged|drift)( .*)?",
    ),
    Documented(
        "srnn.memory_timescales",
        "kernel",
        ".*",
        "Its values, lags and standard errors alone are read",
        where=r".*\.(times|growth|diverged|drift)( .*)?",
    ),
    Documented("maso_rnn.affine_maps_along", "walk", ".*", "its codes are read", where=r"\.breakpoints.*"),
    Documented("maso_rnn.affine_maps_along", "walk", ".*", "of its outputs how many there are", where=r"\.outputs.*"),
    Documented("srnn.response_feature", "order", "zero", "at least 0"),
    Documented("srnn.response_coefficients", "order", "zero", "as for `response_feature`"),
    Documented("srnn.truncation_bound", "readout_sd", "zero|negative|traced number", "It may be traced", TRACED),
    Documented("srnn.truncation_bound", "readout_sd", "zero", "at least 0"),
    Documented("srnn.truncation_bound", "order", "zero", "0 bounds the entire response"),
    Documented("srnn.signature", "path", "float16", "in any floating dtype"),
    Documented("srnn.init", "radius", "zero", "in [0, 1)"),
    Documented("srnn.init", "noise", "zero", "`noise` is negative"),
    Documented("srnn.*", "model", "rank", "(noise, hidden), or a diagonal (hidden,)", where=".*noise_kernel one more"),
    Documented("srnn.drift", "state", "empty", "none or many", where=r"\*path"),
)


# --- what can be wrong ------------------------------------------------------------------------------------------------


def faults(name: str) -> Iterator[Fault]:
    """Every fault of every argument of a public function."""
    function, arguments = function_of(name), arguments_of(name)
    hints = _hints(function)
    shared = _shared_axes(arguments, hints)
    for argument, value in arguments.items():
        optional = type(None) in typing.get_args(hints.get(argument)) or hints.get(argument) is Any
        yield from _faults(argument, value, hints.get(argument), shared, optional)
    arrays = {argument: value for argument, value in arguments.items() if _array_leaves(value)}
    if arrays:
        yield Fault(ALL, "numpy", "", jax.tree.map(_in_numpy, arrays))


@functools.cache
def arguments_of(name: str) -> Mapping[str, Any]:
    """The valid arguments."""
    return types.MappingProxyType(ARGUMENTS[name]())


def function_of(name: str) -> Any:
    package, function = name.split(".")
    return getattr(importlib.import_module(package), function)


def _hints(function: Any) -> dict[str, Any]:
    return {name: p.annotation for name, p in inspect.signature(function, eval_str=True).parameters.items()}


def _faults(argument: str, value: Any, hint: Any, shared: Counter[str], optional: bool) -> Iterator[Fault]:
    """The faults of one argument."""
    made: list[tuple[str, str, Any]] = []
    if not optional and value is not None:
        made.append(("None", "", None))
    if argument == "key":
        made += _of_key(value)
    elif isinstance(value, bool):
        made += [("wrong container", "", "no"), ("wrong container", "number", 2)]
    elif isinstance(value, str):
        made += [("unknown name", "", "nonsense"), ("wrong container", "", 3), ("wrong container", "list", [value])]
    elif isinstance(value, int):
        made += _of_integer(value)
    elif isinstance(value, float):
        made += _of_number(value)
    elif _is_array(value):
        made += _of_array(value, _axes(hint, value), shared)
    elif isinstance(value, list | tuple) and value and all(isinstance(x, int) for x in value):
        made += _of_integers(value)
    elif _array_leaves(value):
        made += _of_tree(value, hint, shared)
    elif value is not None:
        made += [("wrong container", "number", 3), ("wrong container", "string", "nonsense")]
    yield from (Fault(argument, kind, where, spoiled) for kind, where, spoiled in made)


def _of_key(key: Any) -> list[tuple[str, str, Any]]:
    return [
        ("old key", "", jax.random.key_data(key)),
        ("wrong container", "number", 0),
        ("wrong container", "string", "0"),
        ("wrong dtype", "floating", jnp.zeros(2)),
        ("rank", "a batch of keys", jax.random.split(key)),
        ("numpy", "old key", np.asarray(jax.random.key_data(key))),
    ]


def _of_integer(value: int) -> list[tuple[str, str, Any]]:
    return [
        ("zero", "", 0),
        ("negative", "", -1),
        ("negative", "far", -(10**6)),
        ("not whole", "", value + 0.5),
        ("not whole", "float", float(value)),
        ("NaN", "", float("nan")),
        ("bool", "", True),
        ("complex", "", complex(value)),
        ("wrong container", "string", str(value)),
        ("wrong container", "list", [value]),
        ("numpy", "", np.int32(value)),
        ("traced number", "", jnp.asarray(value)),
    ]


def _of_number(value: float) -> list[tuple[str, str, Any]]:
    return [
        ("zero", "", 0.0),
        ("negative", "", -1.0),
        ("NaN", "", float("nan")),
        ("infinity", "", float("inf")),
        ("complex", "", complex(value)),
        ("wrong container", "string", "nonsense"),
        ("wrong container", "list", [value]),
        ("rank", "", np.full(2, value)),
        ("numpy", "", np.float64(value)),
        ("traced number", "", jnp.asarray(value)),
    ]


def _of_integers(value: Any) -> list[tuple[str, str, Any]]:
    return [
        ("empty", "", type(value)()),
        ("negative", "", type(value)([-1, *value[1:]])),
        ("not whole", "", type(value)([value[0] + 0.5, *value[1:]])),
        ("wrong container", "number", 3),
        ("wrong container", "string", "23"),
        ("traced number", "", jnp.asarray(value)),
    ]


def _of_array(value: Any, axes: tuple[str, ...], shared: Counter[str]) -> list[tuple[str, str, Any]]:
    held = np.asarray(value)  # spoiled in NumPy, which compiles nothing
    made: list[tuple[str, str, Any]] = []
    if (axes or not held.ndim) and not any("*" in axis for axis in axes):
        made.append(("rank", "one more", held[None]))
        if held.ndim:
            made.append(("rank", "one less", held[0]))
    for i, axis in enumerate(axes if len(axes) == held.ndim else ()):
        if shared[axis] > 1:
            made.append(("sizes disagree", axis, np.concatenate([held, held.take([0], axis=i)], axis=i)))
        made.append(("empty", axis, held.take([], axis=i)))
    dtypes: tuple[str, ...] = ("int32", "float64", "complex128")
    if held.dtype.kind == "f":
        for kind, number in (("NaN", np.nan), ("infinity", np.inf)):
            spoiled = held.copy()
            spoiled[(0,) * held.ndim] = number
            made.append((kind, "", spoiled))
        dtypes = ("int32", "bool", "complex128", "float16")
    elif held.dtype.kind == "i":
        dtypes = ("float64", "complex128")
    with np.errstate(all="ignore"):
        plain = held.real if held.dtype.kind == "c" else held
        made += [(dtype, "", plain.astype(dtype)) for dtype in dtypes if dtype != held.dtype]
    made = [(kind, where, jnp.asarray(spoiled)) for kind, where, spoiled in made]
    if held.ndim:
        made.append(("list", "", held.tolist()))
    return [*made, ("wrong container", "string", "nonsense"), ("wrong container", "dict", {"value": value})]


def _of_tree(value: Any, hint: Any, shared: Counter[str]) -> list[tuple[str, str, Any]]:
    """The faults of each leaf, and of what holds them."""
    leaves, structure = jax.tree.flatten_with_path(value)
    named = _leaf_axes(value, hint)
    made = []
    for i, (path, leaf) in enumerate(leaves):
        name = jax.tree_util.keystr(path)
        if not _is_array(leaf):
            continue
        for kind, where, spoiled in _of_array(leaf, named.get(name, ()), shared):
            rest = [other for _, other in leaves]
            rest[i] = spoiled
            made.append((kind, f"{name} {where}".strip(), structure.unflatten(rest)))
    made += [("wrong container", "string", "nonsense"), ("wrong container", "number", 3)]
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        kind = type(value)
        if not all(map(_is_array, value)) or shared["hidden0"] > 1:
            made += [("missing layer", "", kind(value[:-1])), ("extra layer", "", kind([*value, value[-1]]))]
        made += [
            ("empty", "no layers", kind()),
            ("wrong container", "dict", dict(enumerate(value))),
        ]
        if kind is tuple:
            made.append(("wrong container", "list", list(value)))
    elif hasattr(value, "_fields"):
        made.append(("wrong container", "tuple", tuple(value)))
    if isinstance(value, maso_rnn.RNN):
        doubled = value.layers[:1] * 2
        made += [
            ("missing layer", "", value.replace(layers=value.layers[1:])),
            ("extra layer", "", value.replace(layers=(*doubled, *value.layers[1:]))),
            ("empty", "no layers", value.replace(layers=())),
            ("wrong container", "layers a list", value.replace(layers=list(value.layers))),
            ("wrong container", "a tuple of leaves", tuple(jax.tree.leaves(value))),
            ("unknown name", "activation", value.replace(activation="nonsense")),
            ("None", "no readout", value.replace(readout=None)),
            ("None", "no recurrent kernel", _without_kernel(value)),
        ]
    return made


def _in_numpy(leaf: Any) -> Any:
    return np.asarray(leaf) if _is_array(leaf) else leaf


def _without_kernel(rnn: maso_rnn.RNN) -> maso_rnn.RNN:
    first, *rest = rnn.layers
    return rnn.replace(layers=(first.replace(recurrent_kernel=None), *rest))


# --- which sizes must agree -------------------------------------------------------------------------------------------


def _axes(hint: Any, value: Any) -> tuple[str, ...]:
    """The names of an array's axes in an annotation, which may be a union."""
    for part in (hint, *typing.get_args(hint)):
        dims = getattr(part, "dim_str", None)
        if dims is not None and getattr(value, "ndim", None) == len(dims.split()):
            return tuple(dims.replace("?", "").split())
    return ()


def _leaf_axes(value: Any, hint: Any) -> dict[str, tuple[str, ...]]:
    """The names of the axes of every array in an argument, by key path; layers have their own `hidden`."""
    if isinstance(value, maso_rnn.RNN):
        names: dict[str, tuple[str, ...]] = {}
        for l in range(len(value.layers)):
            below = f"hidden{l - 1}" if l else "input"
            names[f".layers[{l}].input_kernel"] = (below, f"hidden{l}")
            names[f".layers[{l}].recurrent_kernel"] = (f"hidden{l}", f"hidden{l}")
            names[f".layers[{l}].bias"] = names[f".initial[{l}]"] = (f"hidden{l}",)
        names[".readout.kernel"], names[".readout.bias"] = (f"hidden{len(value.layers) - 1}", "output"), ("output",)
        return names
    if isinstance(value, path_opt.PathValues):
        names = {f".values{name}": axes for name, axes in _leaf_axes(value.values, None).items()}
        return names | {f".frozen[{l}]": (f"hidden{l}",) for l in range(len(value.frozen))}
    if isinstance(value, srnn.SRNN):
        return {
            ".decay": ("hidden",),
            ".recurrent_kernel": ("hidden", "hidden"),
            ".bias": ("hidden",),
            ".input_kernel": ("input", "hidden"),
            ".noise_kernel": ("hidden",),
        }
    if hasattr(value, "_fields"):
        hints = typing.get_type_hints(type(value))
        named = {}
        for field in value._fields:
            held = getattr(value, field)
            if _is_array(held):
                named[f".{field}"] = _axes(hints[field], held)
            elif isinstance(held, tuple):
                axes = _axes(typing.get_args(hints[field])[0], held[0])
                for l in range(len(held)):
                    named[f".{field}[{l}]"] = tuple(f"hidden{l}" if axis == "hidden" else axis for axis in axes)
        return named
    if isinstance(value, list | tuple):
        if all(hasattr(held, "_fields") for held in value):
            return {
                f"[{i}]{name}": axes for i, held in enumerate(value) for name, axes in _leaf_axes(held, None).items()
            }
        spelled = re.search(r"\w+\[[^\]]*,\s*['\"]([^'\"]*)['\"]\]", str(hint))
        axes = tuple(spelled[1].replace("?", "").split()) if spelled else ("hidden",)
        axes = tuple(axis for axis in axes if not axis.startswith(("*", ".")))
        return {
            f"[{l}]": tuple(f"hidden{l}" if axis in ("hidden", "_") else axis for axis in axes[-held.ndim :])
            for l, held in enumerate(value)
            if _is_array(held)
        }
    return {}


def _shared_axes(arguments: Mapping[str, Any], hints: Mapping[str, Any]) -> Counter[str]:
    """How many arrays of the call have each axis."""
    count: Counter[str] = Counter()
    for argument, value in arguments.items():
        if _is_array(value):
            count.update(_axes(hints.get(argument), value))
        elif isinstance(value, path_opt.ReductionGraph):
            count.update(["input", "output", *(f"hidden{l}" for l in range(len(value.widths)))] * 2)
        else:
            for axes in _leaf_axes(value, hints.get(argument)).values():
                count.update(axes)
    return count


def _is_array(value: Any) -> bool:
    return isinstance(value, jax.Array | np.ndarray) and not jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def _array_leaves(value: Any) -> bool:
    return any(_is_array(leaf) for leaf in jax.tree.leaves(value))


# --- what comes of it -------------------------------------------------------------------------------------------------


@functools.cache
def _reference(name: str) -> Any:
    return function_of(name)(**arguments_of(name))


def outside(name: str, fault: Fault) -> Outcome:
    """The outcome of a call with concrete arguments."""
    spoiled = fault.value if fault.argument == ALL else {fault.argument: fault.value}
    arguments = {**arguments_of(name), **spoiled}
    try:
        answer = jax.block_until_ready(function_of(name)(**arguments))
    except Exception as error:
        return _judged_error(name, fault, error)
    if fault.kind == "numpy":
        if not _equal(answer, _reference(name)):
            return Outcome(WRONG, "another answer than for a JAX array")
        return _as_documented(name, fault, SAME, OUTSIDE)
    return _as_documented(name, fault, DOCUMENTED_ANSWER, OUTSIDE)


def traced(name: str, fault: Fault) -> Outcome | None:
    """The outcome of tracing a call whose arrays are all traced, the spoiled argument among them; None if it cannot."""
    leaves = jax.tree.leaves(fault.value)
    if not leaves or not all(isinstance(leaf, jax.Array | np.ndarray | int | float | complex) for leaf in leaves):
        return None
    given, fixed = _split(arguments_of(name), fault.argument)
    if name in table.exempt("HOST"):
        given, fixed = {}, fixed | given  # so that only the spoiled one can be at fault
    given[fault.argument] = fault.value
    try:
        jax.eval_shape(lambda given: _arrays(function_of(name)(**fixed, **given)), given)
    except Exception as error:
        return _judged_error(name, fault, error)
    return _as_documented(name, fault, DOCUMENTED_ANSWER, TRACED)


def compiled(name: str, value_faults: list[Fault]) -> Iterator[tuple[Fault, Outcome]]:
    """The outcomes of faults in numbers, which a compiled call can only show in its result."""
    given, fixed = _split(arguments_of(name), "")
    run = jax.jit(lambda given: _arrays(function_of(name)(**fixed, **given)))
    reference = run(given)
    for fault in value_faults:
        answer = run(given | {fault.argument: fault.value})
        if _equal(answer, reference):
            yield fault, _as_documented(name, fault, UNAFFECTED, COMPILED)
        elif _flags(answer) != _flags(reference) or _is_worse(answer, reference):
            yield fault, _as_documented(name, fault, SHOWN, COMPILED)
        else:
            yield fault, Outcome(WRONG, "finite numbers, and no flag")


def _split(arguments: Mapping[str, Any], spoiled: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments that can be traced, and the others."""
    given, fixed = {}, {}
    for argument, value in arguments.items():
        if argument == spoiled:
            continue
        leaves = jax.tree.leaves(value)
        is_traceable = bool(leaves) and all(isinstance(leaf, jax.Array) for leaf in leaves)
        (given if is_traceable else fixed)[argument] = value
    return given, fixed


def _arrays(answer: Any) -> Any:
    """What of an answer can leave a trace."""
    return [leaf for leaf in jax.tree.leaves(answer) if isinstance(leaf, jax.Array | np.ndarray)]


def _judged_error(name: str, fault: Fault, error: Exception) -> Outcome:
    """An error of ours that names the argument, or what is wrong with it."""
    words = f"{type(error).__name__}: {error}"
    notes = " ".join(getattr(error, "__notes__", []))
    if "raised by" in notes and re.search(rf"\b{fault.argument}\b", notes):
        return Outcome(ERROR, notes)  # of a function of the caller's, told what it was called with
    if type(error) not in (ValueError, TypeError):
        return Outcome(WRONG, words)
    raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    is_signature = "missing 1 required" in words or "unexpected keyword" in words
    if not is_signature and not {"maso_rnn", "path_opt", "srnn"} & set(raised_in.parts):
        return Outcome(WRONG, f"raised in {raised_in.name}: {words}")
    names = [fault.argument]
    if fault.kind in ("sizes disagree", "missing layer", "extra layer", "empty", "rank", "float16"):
        names += arguments_of(name)  # which of two disagrees cannot be told
    if not any(re.search(rf"\b{argument.removeprefix('name_or_')}\b", words) for argument in names):
        return Outcome(WRONG, f"does not name {fault.argument}: {words}")
    return Outcome(ERROR, words)


def _as_documented(name: str, fault: Fault, kind: str, stage: str) -> Outcome:
    entry = documented(name, fault, stage)
    return Outcome(WRONG, "an answer that no docstring speaks of") if entry is None else Outcome(kind, entry.words)


def documented(name: str, fault: Fault, stage: str) -> Documented | None:
    """Where the answer to a fault is promised."""
    told = (name, fault.argument, fault.kind, stage, fault.where)
    for entry in DOCUMENTED:
        patterns = (entry.functions, entry.argument, entry.kind, entry.stage, entry.where)
        if all(re.fullmatch(pattern, text) for pattern, text in zip(patterns, told, strict=True)):
            return entry
    return None


def docstrings(name: str) -> str:
    """What a function's users can read: its docstring, its package's, and those of the package's types."""
    package = importlib.import_module(name.split(".")[0])
    classes = [getattr(package, exported) for exported in package.__all__]
    texts = [package, function_of(name), *(held for held in classes if inspect.isclass(held))]
    return " ".join(" ".join(inspect.getdoc(text) or "" for text in texts).split())


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, optax.GradientTransformation) or callable(a):
        return type(a) is type(b)  # closures: what they do is the optax battery's, and the initializers' tests'
    if jax.tree.structure(a) != jax.tree.structure(b):
        return False
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(
        np.array_equal(np.asarray(_plain(x)), np.asarray(_plain(y)), equal_nan=_plain(x).dtype.kind in "fc")
        for x, y in pairs
    )


def _plain(leaf: Any) -> np.ndarray:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def _flags(answer: Any) -> list[Any]:
    """The bools and counts of a result."""
    return [
        np.asarray(leaf).tolist()
        for leaf in jax.tree.leaves(answer)
        if np.asarray(leaf).ndim == 0 and np.asarray(leaf).dtype.kind in "bi"
    ]


def _is_worse(answer: Any, reference: Any) -> bool:
    """Whether numbers that were finite are not."""
    return any(
        (np.isfinite(before) & ~np.isfinite(after)).any()
        for after, before in zip(
            map(np.asarray, jax.tree.leaves(answer)), map(np.asarray, jax.tree.leaves(reference)), strict=True
        )
        if before.dtype.kind in "fc"
    )


# --- all of them -----------------------------------------------------------------------------------------------------


def outcomes(name: str) -> Iterator[tuple[str, Fault, Outcome]]:
    """Stage, fault and outcome of everything that needs no compiled program: shapes, dtypes and known values."""
    for fault in faults(name):
        if fault.kind != "traced number":
            yield OUTSIDE, fault, outside(name, fault)
        if fault.kind not in (*VALUES, "numpy"):
            outcome = traced(name, fault)
            if outcome is not None:
                yield TRACED, fault, outcome


def compiled_outcomes(name: str) -> Iterator[tuple[str, Fault, Outcome]]:
    """The same of numbers that are not finite, inside a compiled program."""
    given, _ = _split(arguments_of(name), "")
    found = [fault for fault in faults(name) if fault.kind in VALUES and fault.argument in given]
    if found and name not in table.exempt("HOST"):
        yield from ((COMPILED, fault, outcome) for fault, outcome in compiled(name, found))


def complaints(found: list[tuple[str, Fault, Outcome]]) -> list[str]:
    """What must not be: a wrong answer, somebody else's error."""
    return [
        f"{stage}: {fault.argument} {fault.kind} {fault.where}: {outcome.detail}"
        for stage, fault, outcome in found
        if outcome.kind == WRONG
    ]
