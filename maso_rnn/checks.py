"""What a public function is given, looked at once: shapes and dtypes always, values where they are concrete.

Every public function of the three packages calls these at its boundary; nothing calls them again inside. Axes are named
by one word each, as in a docstring: `array("xs", xs, "time input", sizes)` wants rank 2, and axes of one name must be
equally long wherever the same `sizes` is passed. Values are looked at by one call of `finite` for all arguments.
"""

from __future__ import annotations

import contextlib
import math
import operator
from collections.abc import Collection, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr

_NUMBERS = (int, float, np.generic, np.ndarray, jax.Array)
_FLOATING = (jnp.floating,)


def is_concrete(*values: Any) -> bool:
    """Whether no leaf of `values` is traced, so that its numbers can be looked at."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))


def known(reason: str, **values: Any) -> None:
    """Nothing traced, for that reason."""
    if not is_concrete(values):
        raise TypeError(f"{', '.join(values)} must be known, not traced: {reason}")


def instance(name: str, value: Any, kind: type, source: str) -> Any:
    """An object of that type; `source` is the call that makes one."""
    if not isinstance(value, kind):
        wanted = f"{kind.__module__.split('.')[0]}.{kind.__name__}"
        raise TypeError(f"{name} must be a {wanted}, got {type(value).__name__}; {source} makes one")
    return value


def array(
    name: str, value: Any, axes: str, sizes: dict[str, Any] | None = None, dtype: Any = None, *, kinds: Any = _FLOATING
) -> jax.Array:
    """An array with those axes, none of them empty, of floating numbers or of other kinds.

    Args:
        name: how messages call it.
        value: of JAX or NumPy.
        axes: a word for each axis. One that ends in "?" may be empty; "*batch" in front stands for any number of axes.
        sizes: how long axes of these names are, and of which shape leading ones; those met first are added.
        dtype: the dtype that it must have, where one is asked for.
        kinds: the kinds of numbers that will do.
    """
    if not isinstance(value, jax.Array | np.ndarray):
        raise TypeError(f"{name} must be an array {_axes(axes)}, got {type(value).__name__}; numpy.asarray makes one")
    if not any(jnp.issubdtype(value.dtype, kind) for kind in kinds):
        raise TypeError(f"{name} must be {' or '.join(kind.__name__ for kind in kinds)}, got {value.dtype}; convert it")
    _shape(name, value.shape, axes, {} if sizes is None else sizes)
    if dtype is not None and value.dtype != dtype:
        raise TypeError(f"{name} must be {dtype}, as the rest is, got {value.dtype}; convert one of them")
    return value if isinstance(value, jax.Array) else concretely(jnp.asarray, value)


def fields(name: str, holder: Any, sizes: dict[str, Any], dtype: Any, **axes: str) -> None:
    """The arrays in fields of that name, with those axes; a field whose axes end in "| None" may be None."""
    for field, words in axes.items():
        value, axis_names, *may_be_none = getattr(holder, field), *words.split(" | ")
        if value is not None or not may_be_none:
            array(f"{name}.{field}", value, axis_names, sizes, dtype)


def layers(
    name: str, value: Any, axes: str, sizes: dict[str, Any], dtype: Any = None, *, kinds: Any = _FLOATING
) -> tuple[jax.Array, ...]:
    """A tuple of one array for each `layer`, of one dtype; of axes named "hidden" each layer has its own."""
    if not isinstance(value, tuple) or not value:
        raise TypeError(f"{name} must be a tuple of one array for each layer, got {type(value).__name__}")
    if len(value) != (count := sizes.setdefault("layer", len(value))):
        raise ValueError(f"{name} must have one array for each of {count} layers, got {len(value)}")
    dtype = getattr(value[0], "dtype", None) if dtype is None else dtype
    own = [axes.replace("hidden", f"hidden{l}") for l in range(len(value))]
    return tuple(array(f"{name}[{l}]", one, own[l], sizes, dtype, kinds=kinds) for l, one in enumerate(value))


def _shape(name: str, shape: tuple[int, ...], axes: str, sizes: dict[str, Any]) -> None:
    words, whole = axes.split(), shape
    fits = True
    if words and words[0].startswith("*"):
        first, *words = words
        cut = max(len(shape) - len(words), 0)
        fits = sizes.setdefault(first, shape[:cut]) == shape[:cut]
        shape = shape[cut:]
    fits = fits and len(words) == len(shape)
    own = dict(zip(words, shape, strict=False)) | sizes
    for word, length in zip(words, shape, strict=False):
        fits = fits and own[word] == length and (length > 0 or word.endswith("?"))
    if not fits:
        met = [f"{word.rstrip('?')} = {sizes[word]}" for word in dict.fromkeys(axes.split()) if word in sizes]
        wanted = _axes(axes) + (f" with {', '.join(met)}" if met else "") + ", not empty" * (0 in shape)
        hint = "; jax.vmap takes a batch of them" if len(shape) == len(words) + 1 else ""
        raise ValueError(f"{name} must be {wanted}, got shape {whole}{hint}")
    sizes |= zip(words, shape, strict=True)


def equally_long(name: str, value: Any) -> None:
    """No sequences of unequal length, in a list or in an array of objects, anywhere in a pytree."""
    for path, held in jax.tree.leaves_with_path(value, is_leaf=lambda node: isinstance(node, list)):
        objects = isinstance(held, np.ndarray) and held.dtype.hasobject and held.ndim
        steps = [_steps(sequence) for sequence in held] if objects or isinstance(held, list) else []
        if len(set(steps)) > 1:
            least, most = int(np.argmin(steps)), int(np.argmax(steps))
            told = f"{steps[least]} steps in [{least}] and {steps[most]} in [{most}]"
            raise ValueError(
                f"{name}{keystr(path)} must be one array, got {told}; pad them to one length, and pass `lengths`"
            )


def _steps(sequence: Any) -> int:
    """Of an array, a list of steps, or a tuple of arrays that begin with their steps."""
    first = sequence[0] if isinstance(sequence, tuple) and sequence else None
    sequence = first if getattr(first, "ndim", 0) else sequence
    has_steps: bool = np.iterable(sequence)
    return len(sequence) if has_steps else 1


def finite(**values: Any) -> None:
    """All numbers finite, where they are concrete: one look at everything, one wait for the device."""
    leaves = [leaf for leaf in jax.tree.leaves(values) if not isinstance(leaf, jax.core.Tracer)]
    if not _are_finite(leaves):
        for name, value in values.items():
            for path, leaf in jax.tree.leaves_with_path(value):
                if is_concrete(leaf) and not _are_finite([leaf]):
                    raise ValueError(f"{name}{keystr(path)} must be finite, got NaN or infinity in it")


def _are_finite(leaves: list[Any]) -> bool:
    """By NumPy, without waking the device, where all of them are NumPy's."""
    if all(isinstance(leaf, np.ndarray) for leaf in leaves):
        return all(np.isfinite(leaf).all() for leaf in leaves)
    return concretely(lambda: bool(_all_finite(leaves)))


@jax.jit
def _all_finite(leaves: list[Any]) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()


def concretely(compute: Any, *arguments: Any) -> Any:
    """`compute` of the arguments; what is made of concrete ones stays concrete, whatever else is being traced."""
    if not is_concrete(arguments):
        return compute(*arguments)
    with jax.ensure_compile_time_eval():
        return compute(*arguments)


def carry(name: str, value: Any) -> Any:
    """A pytree of floating arrays that holds at least one number."""
    held = jax.tree.map_with_path(lambda path, leaf: array(name + keystr(path), leaf, "*shape"), value)
    if not sum(leaf.size for leaf in jax.tree.leaves(held)):
        raise ValueError(f"{name} must hold at least one number, got an empty carry")
    return held


def like(name: str, value: Any, what: str, wanted: Any) -> None:
    """A pytree of arrays of the same structure, shapes and dtypes as another, `what`."""
    wanted, got = (jax.tree.map(lambda leaf: f"{leaf.dtype}{[*leaf.shape]}", tree) for tree in (wanted, value))
    if wanted != got:
        raise TypeError(f"{name} must be like {what}, {wanted}, got {got}")


def size(name: str, value: Any, *, least: int = 1) -> int:
    """A whole number known when the function is traced, of any integer type but bool, at least `least`."""
    known("it is static; close over it, or name it in static_argnames of jax.jit", **{name: value})
    whole: Any = None
    with contextlib.suppress(TypeError):
        whole = operator.index(value)
    if whole is None or isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be an integer, got {_given(value)}")
    if whole < least:
        raise ValueError(f"{name} must be at least {least}, got {whole}")
    return int(whole)


def number(
    name: str, value: Any, *, least: float = -math.inf, above: float = -math.inf, most: float = math.inf
) -> float:
    """A finite real number that is known when the function is traced, within [least, most] and above `above`."""
    known("it is static; close over it", **{name: value})
    real = math.inf
    with contextlib.suppress(OverflowError):
        real = float(real_number(name, value))
    if not (math.isfinite(real) and least <= real <= most and real > above):
        bounds = {"at least": least, "above": above, "at most": most}
        told = "".join(f" and {word} {bound:g}" for word, bound in bounds.items() if math.isfinite(bound))
        raise ValueError(f"{name} must be finite{told}, got {value}")
    return real


def real_number(name: str, value: Any) -> Any:
    """One real number, traced or not."""
    dtype = getattr(value, "dtype", jnp.dtype(bool if isinstance(value, bool) else float))
    is_real = jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
    if not isinstance(value, _NUMBERS) or not is_real or jnp.ndim(value):
        raise TypeError(f"{name} must be a real number, got {_given(value)}")
    return value


def scale(name: str, value: Any) -> jax.Array:
    """A standard deviation: one real number, traced or not, finite and not negative where it is concrete."""
    checked = concretely(jnp.asarray, real_number(name, value))
    checked = checked if jnp.issubdtype(checked.dtype, jnp.floating) else checked.astype(float)
    if is_concrete(checked) and not 0 <= float(checked) < math.inf:
        raise ValueError(f"{name} must be a standard deviation, finite and at least 0, got {float(checked)}")
    return checked


def flag(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {_given(value)}")
    return bool(value)


def choice(name: str, value: Any, options: Collection[Any]) -> Any:
    """One of the options."""
    if not any(value is option or (type(value) is type(option) and value == option) for option in options):
        raise ValueError(f"{name} must be one of {', '.join(sorted(map(repr, options)))}, got {_given(value)}")
    return value


def random_key(name: str, value: Any) -> jax.Array:
    """One random key, typed; an old one, as from `jax.random.PRNGKey`, is wrapped."""
    if isinstance(value, jax.Array | np.ndarray):
        if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key) and value.ndim == 0:
            return value
        if value.dtype == jnp.uint32 and value.ndim == 1:
            return jax.random.wrap_key_data(jnp.asarray(value))
    raise TypeError(f"{name} must be one random key, as jax.random.key(0), got {_given(value)}")


def function(name: str, value: Any) -> None:
    """Something that can be called."""
    if not callable(value) or isinstance(value, type):
        raise TypeError(f"{name} must be a function, got {_given(value)}")


@contextlib.contextmanager
def calling(name: str, arguments: str) -> Iterator[None]:
    """While a function of the caller's runs: what it raises is passed on, with a note of what it was called with."""
    try:
        yield
    except Exception as error:
        error.add_note(f"raised by {name}, called with {arguments}")
        raise


def index(name: str, value: Any, start: int, stop: int) -> tuple[jax.Array, jax.Array]:
    """One integer, and whether it is in [start, stop): refused where it is concrete and is not."""
    if is_concrete(value):
        if not start <= (value := size(name, value, least=-(2**62))) < stop:
            raise ValueError(f"{name} must be in [{start}, {stop}), got {value}")
        return concretely(jnp.asarray, value), concretely(jnp.asarray, True)
    wide = array(name, value, "", kinds=(jnp.integer,)).astype(int)  # a narrow integer could wrap in what follows
    return wide, (wide >= start) & (wide < stop)


def label(value: Any, outputs: int) -> tuple[jax.Array, jax.Array]:
    """As `index`, a class among the outputs of a network, which are two at least."""
    if outputs < 2:
        raise ValueError(f"label must be one of at least two outputs, got {outputs}")
    return index("label", value, 0, outputs)


def integers(name: str, value: Any, axes: str, sizes: dict[str, Any], start: int, stop: int) -> jax.Array:
    """An array of whole numbers with those axes, in [start, stop) where they are concrete."""
    value = array(name, value, axes, sizes, kinds=(jnp.integer,))
    if is_concrete(value) and not concretely(lambda: bool(((value >= start) & (value < stop)).all())):
        raise ValueError(f"{name} must be in [{start}, {stop - 1}], got {int(value.min())} to {int(value.max())}")
    return value


def floating(name: str, dtype: Any) -> Any:
    """A floating dtype, by default JAX's own; one that JAX is not set to hold is refused."""
    wanted: Any = None
    with contextlib.suppress(TypeError):
        wanted = jnp.dtype(jax.dtypes.canonicalize_dtype(float) if dtype is None else dtype)
    if wanted is None or not jnp.issubdtype(wanted, jnp.floating):
        raise TypeError(f"{name} must be a floating dtype, got {dtype!r}")
    if jax.dtypes.canonicalize_dtype(wanted) != wanted:
        raise ValueError(f"{name} {wanted} needs jax.config.update('jax_enable_x64', True) first")
    return wanted


def _axes(axes: str) -> str:
    words = [word.rstrip("?").replace("*", "...") for word in axes.split()]
    return f"({', '.join(words)}{',' * (len(words) == 1)})"


def _given(value: Any) -> str:
    """What came, in few words: an array's shape, never its numbers."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    return f"{type(value).__name__} {str(value)[:40]!r}"
