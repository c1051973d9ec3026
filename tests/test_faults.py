"""Every argument of every public function, spoiled: an error that names it, the same answer, or a flag in the result.

What is wrong is made from the valid arguments of `tests/contracts/arguments.py`: rank, the length of an axis, dtype,
emptiness, NaN, and what holds the numbers. `VALID` lists what looks like a fault and is not.
"""

import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.contracts import table
from tests.contracts.arguments import ARGUMENTS

pytestmark = pytest.mark.usefixtures("unchecked")

# function, argument and fault, as patterns, and why it is no fault
VALID = (
    (r".* (xs|codes_[ab]|codes) (\[\d\] )?longer 0", "another sequence, or one more"),
    (r"maso_rnn.pack codes .* longer 1|maso_rnn.match affine .slope longer 0", "another width, one output more"),
    (r"maso_rnn.unpack packed rank more", "a batch"),
    (r"maso_rnn.random_initial_state carry .*", "any pytree of floating arrays"),
    (r".* scale int32", "of any real dtype"),
    (r"path_opt.summary state .*", "a transform's own"),
    (r"srnn.drift state .*", "rows of states, none or many"),
    (r"maso_rnn.modal_coordinates states (rank .*|empty 0|longer 0)", "rows of states, none or many"),
    (r"maso_rnn.\w+ inputs (longer .|empty 1)", "that cell takes any, and none"),
    (r"maso_rnn.(cycles|fixed_points|fixed_points_along) (starts|x|start|stop) (longer .|empty 0)", "as many, of any"),
    (r"maso_rnn.fixed_points_along (start|stop) (nan|inf)", "told of the inputs between them"),
    (r"maso_rnn.sample_states trajectories (a dict|longer 2)", "any pytree, any width"),
    (r"maso_rnn.integrated_gradients_by_quadrature cell .params.*", "weights are between the step and its caller"),
    (r"maso_rnn.\w+ exponents longer 0", "one exponent more"),
    (
        r"maso_rnn.(decisions|decision_boundary|affine_maps_along|spectrum_table) (walk|plane|found) .*",
        "our own results",
    ),
    (
        r"maso_rnn.(cell|affine_maps_along) (network|rnn) .layers.0..input_kernel longer 0",
        "a network of one input more",
    ),
    (r"maso_rnn.(cell|spectra|recurrent_kernels) (network|cell) a dict", "parameters by name, or none"),
    (r"srnn.\w+ (model .)?input_kernel longer 0", "one input more, where there is no control"),
    (r"srnn.from_rate_network noise (array|-1.0)", "a diagonal, and its sign"),
    (r"srnn.\w+ model .noise_kernel rank more", "a matrix, or its diagonal"),
    (r"srnn.(signature|response_feature|response_gram|truncation_bound) (path|control\w*) longer .", "another series"),
    (r"maso_rnn.linearize (h0|xs) longer .", "that cell takes any"),
    (r"maso_rnn.automata.* (automaton|blocks) .(transitions|shifted) longer 0", "one symbol more"),
    (r"maso_rnn.automata.* automaton .final (rank more|longer 1)", "outputs, or one more"),
    (
        r"maso_rnn.automata.* cell .params.* (bool|int32)",
        "weights are between the step and its caller",
    ),
    (r"srnn.(signature_coefficients|kernel_norm) (h0|x0) longer 0", "that field takes any"),
    (r"maso_rnn.init bias_init None", "no biases"),
    (r"maso_rnn.init hidden_sizes (far|list)", "as large as is asked for"),
)


def is_array(value):
    return isinstance(value, jax.Array | np.ndarray)


def of_array(value):
    """Spoiled arrays by what is wrong with them."""
    held = np.asarray(value)
    yield "rank more", held[None]
    if held.ndim:
        yield "rank less", held[0]
        yield "list", held.tolist()
    for axis in range(held.ndim):
        yield f"empty {axis}", held.take([], axis=axis)
        yield f"longer {axis}", np.concatenate([held, held.take([0], axis=axis)], axis=axis)
    if held.dtype.kind == "f":
        for number in (np.nan, np.inf):
            spoiled = held.copy()
            spoiled[(0,) * held.ndim] = number
            yield str(number), spoiled
    for dtype in {"f": (bool, np.int32, complex), "i": (float, complex), "b": (float, complex), "u": (float,)}.get(
        held.dtype.kind, ()
    ):
        with np.errstate(invalid="ignore"):
            yield np.dtype(dtype).name, held.astype(dtype)


def of_number(value):
    """The same for numbers that are not arrays."""
    yield from (
        ("text", "3.5"),
        ("list", [value]),
        ("complex", 1j * value),
        ("nan", float("nan")),
        ("array", np.ones(2)),
    )
    if isinstance(value, int):
        yield from (("half", value + 0.5), ("far below", -(10**6)), ("True", True))
    else:
        yield from (("-inf", -float("inf")), ("-1.0", -1.0))


def of_key(key):
    yield from (("number", 0), ("batch", jax.random.split(key)), ("floats", np.zeros(2)))


def of_tree(value):
    leaves, structure = jax.tree.flatten_with_path(value)
    for i, (path, leaf) in enumerate(leaves):
        if is_array(leaf):
            for kind, spoiled in of_array(leaf):
                others = [other for _, other in leaves]
                yield (
                    f"{jax.tree_util.keystr(path)} {kind}",
                    structure.unflatten(
                        [*others[:i], spoiled if kind == "list" else jnp.asarray(spoiled), *others[i + 1 :]]
                    ),
                )


def faults(argument, value, optional):
    """Every fault of one argument: what is wrong, and the spoiled value."""
    if value is None:
        return
    yield from (("an object", object()), ("a dict", {"value": value}))
    if not optional:
        yield "None", None
    if argument == "key":
        yield from of_key(value)
    elif isinstance(value, bool):
        yield from (("text", "no"), ("number", 2))
    elif isinstance(value, int | float):
        yield from of_number(value)
    elif isinstance(value, str):
        yield from (("unknown", "nonsense"), ("number", 3))
    elif is_array(value):
        yield from of_array(value)
    elif isinstance(value, list | tuple) and value and all(isinstance(x, int) for x in value):
        yield from (("empty", ()), ("half", (value[0] + 0.5,)), ("far", (10**6,)), ("number", 3))
    else:
        yield from of_tree(value)


def numbers(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree) if is_array(leaf) and leaf.dtype.kind in "biufc"]


def is_same(got, wanted):
    if jax.tree.structure(got) != jax.tree.structure(wanted):
        return not jax.tree.leaves(wanted) and type(got) is type(wanted)
    pairs = list(zip(numbers(got), numbers(wanted), strict=True))
    return all(a.shape == b.shape and np.allclose(a, b, rtol=1e-5, atol=1e-7, equal_nan=True) for a, b in pairs)


def is_flagged(got):
    """NaN or infinity in the result, or that it has not converged."""
    shown = any(leaf.dtype.kind in "fc" and not np.isfinite(leaf).all() for leaf in numbers(got))
    return shown or not np.all(getattr(got, "converged", True))


def names_one(error, arguments):
    """Whether the message names an argument: the spoiled one, or one that it does not fit."""
    told = " ".join([str(error), *getattr(error, "__notes__", ())])
    return any(re.search(rf"\b(\w+_)?{name.split('_')[-1]}\b", told) for name in (*arguments, "rnn", "step", "readout"))


def outcome(name, argument, spoiled, function, arguments, wanted):
    """None if all is well, else what is not."""
    try:
        got = function(**(arguments | {argument: spoiled}))
    except (ValueError, TypeError) as error:
        return None if names_one(error, arguments) else f"says {type(error).__name__}: {str(error)[:100]}"
    except Exception as error:
        if getattr(error, "__notes__", ()):  # from a function of the caller, told with what it was called with
            return None
        return f"raises {type(error).__name__}: {str(error)[:100]}"
    return None if is_same(got, wanted) or is_flagged(got) else "is answered"


def is_valid(name, argument, kind):
    return any(re.fullmatch(pattern, f"{name} {argument} {kind}") for pattern, _ in VALID)


def test_every_argument_of_every_public_function_is_there_to_be_spoiled():
    assert set(ARGUMENTS) == table.public_functions()
    for name, made in ARGUMENTS.items():
        parameters = inspect.signature(table.public(name)).parameters.values()
        assert set(made()) == {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}, name


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in sorted(ARGUMENTS)]
)
def test_bad_input_is_refused_or_shows(name):
    function, arguments = table.public(name), ARGUMENTS[name]()
    parameters = inspect.signature(function).parameters
    wanted = function(**arguments)
    found = {}
    for argument, value in arguments.items():
        optional = parameters[argument].default is None
        for kind, spoiled in faults(argument, value, optional):
            if not is_valid(name, argument, kind):
                wrong = outcome(name, argument, spoiled, function, arguments, wanted)
                if wrong:
                    found[f"{argument} {kind}"] = wrong
    assert not found, found
