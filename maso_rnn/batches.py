"""A data set of any size, batch by batch: one program, compiled once, on every device of the process.

The memory of a batch is known when the program is compiled, from XLA's own plan of its buffers, and a batch that needs
more than it may is refused then.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, PyTree

from maso_rnn import checks, functions

__all__ = ["map_batches"]


def map_batches(
    function: Callable[[PyTree, PyTree], PyTree],
    shared: PyTree,
    examples: PyTree,
    *,
    batch_size: int,
    lengths: Int[np.ndarray | Array, " example"] | None = None,
    devices: Sequence[jax.Device] | None = None,
    memory: int = 2**30,
) -> Iterator[PyTree]:
    """What a function says of every example of a data set, a batch at a time, as NumPy arrays.

    Equation: `function(shared, example)` for each example, by one compiled `jax.vmap` with the examples sharded over
    the devices. The last batch is filled up with its last example, and what comes of that is cut off.

    A host function. The program is compiled once for what the function does and for these shapes. Each batch leaves the
    devices before the next begins: write it to a memory-mapped array, or keep what it adds to a mean. Wrapped in
    `tqdm.tqdm`, it shows how far it is.

    Args:
        function: of the shared arguments and one example, to a pytree of arrays: `maso_rnn.affine_map`, or what you
            need of it.
        shared: the network, or any pytree that every example is given whole.
        examples: (example, ...), an array or a pytree of arrays with one leading axis; a memory-mapped one stays on
            disk.
        batch_size: how many examples at a time, over all devices; a multiple of their number.
        lengths: (example,), how many steps of each example count; the function is then called with `length=`, as every
            function of one sequence here takes it.
        devices: where to run; by default all devices of this process, `jax.local_devices()`.
        memory: the most bytes that the arguments, results and temporaries of a batch may take on all devices together.

    Returns:
        An iterator over the results, each with a leading axis of `batch_size` examples, fewer in the last.

    Raises:
        ValueError: at the call, before anything has run, if a batch needs more than `memory`, the devices do not divide
            `batch_size`, there are no examples or no common number of them, as in a list of sequences that are not
            padded, or a length is below 1 or beyond them.
        TypeError: if `function` is none, `examples` hold objects, or `batch_size` or `memory` is not an integer.

    Example:
        >>> from maso_rnn import boundary_distance, init
        >>> rnn, xs = init(jax.random.key(0), 1, [8], 3), np.ones((10, 5, 1))
        >>> devices = jax.devices()[:1]
        >>> [len(found) for found in map_batches(boundary_distance, rnn, xs, batch_size=4, devices=devices)]
        [4, 4, 2]

    Source:
        `jax.vmap`, `jax.sharding` and `jax.stages.Compiled.memory_analysis`.
    """
    checks.function("function", function)
    batch_size, memory = checks.size("batch_size", batch_size), checks.size("memory", memory)
    examples, count = _checked_examples(examples)
    mesh = Mesh(np.asarray(jax.local_devices() if devices is None else devices), ("examples",))
    whole, rows = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("examples",)))
    if batch_size % mesh.size:
        raise ValueError(f"batch_size must be a multiple of the {mesh.size} devices, got {batch_size}")
    batch_size = min(batch_size, -(-count // mesh.size) * mesh.size)

    if lengths is not None:
        steps = min(leaf.shape[1] if leaf.ndim > 1 else 1 for leaf in jax.tree.leaves(examples))
        lengths = checks.integers("lengths", jnp.asarray(lengths), "example", {"example": count}, 1, steps + 1)
        lengths = np.asarray(lengths)
    shared = jax.device_put(shared, whole)
    arguments = (examples, lengths)
    one = jax.tree.map(lambda leaf: _form(leaf.shape[1:], leaf.dtype), arguments)
    mapped = functions.traced("function", _called(function), shared, one)
    mapped = jax.device_put(mapped, whole)
    batch = jax.tree.map(lambda leaf: _form((batch_size, *leaf.shape[1:]), leaf.dtype, rows), arguments)
    program = _compiled(mapped, shared, batch, rows)
    _require_room(program, shared, batch_size, mesh.size, memory)
    return _run(lambda batch: program(mapped, shared, batch), arguments, count, batch_size, rows)


def _called(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """The function of the shared arguments, and of an example with its length."""

    def call(shared: PyTree, given: tuple[PyTree, Any]) -> PyTree:
        example, length = given
        return function(shared, example) if length is None else function(shared, example, length=length)

    return call


def _form(shape: tuple[int, ...], dtype: Any, sharding: Any = None) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(dtype), sharding=sharding)


def _compiled(mapped: functions.Traced, shared: PyTree, batch: PyTree, rows: NamedSharding) -> jax.stages.Compiled:
    """The program for a batch; kept by what the function does, not by which object it is."""
    leaves, structure = jax.tree.flatten((mapped, shared, batch))
    forms = tuple((leaf.shape, leaf.dtype, leaf.sharding) for leaf in leaves)
    return _compiled_for(structure, forms, rows)


@functools.lru_cache(maxsize=32)
def _compiled_for(structure: Any, forms: tuple[Any, ...], rows: NamedSharding) -> jax.stages.Compiled:
    given = structure.unflatten([jax.ShapeDtypeStruct(*form[:2], sharding=form[2]) for form in forms])
    batched = jax.vmap(lambda mapped, shared, row: mapped(shared, row), in_axes=(None, None, 0))
    return jax.jit(batched, out_shardings=rows).lower(*given).compile()


def _run(
    program: Callable[[PyTree], PyTree], examples: PyTree, count: int, batch_size: int, rows: NamedSharding
) -> Iterator[PyTree]:
    for first in range(0, count, batch_size):
        chosen = np.minimum(np.arange(first, first + batch_size), count - 1)
        batch = jax.device_put(jax.tree.map(lambda leaf, chosen=chosen: leaf[chosen], examples), rows)
        found = program(batch)
        yield jax.tree.map(lambda leaf, left=count - first: np.asarray(leaf)[:left], found)


def _checked_examples(examples: PyTree) -> tuple[PyTree, int]:
    """NumPy arrays, and how many examples they hold."""
    arrays = jax.tree.map(np.asarray, examples)
    counts = {len(leaf) if leaf.ndim else 0 for leaf in jax.tree.leaves(arrays)}
    holds_objects = any(leaf.dtype.hasobject for leaf in jax.tree.leaves(arrays))
    if holds_objects or len(counts) != 1 or 0 in counts:
        checks.equally_long("examples", examples)
    if holds_objects:
        raise TypeError("examples must be arrays of numbers, got one of objects; numpy.stack makes one")
    if len(counts) != 1 or 0 in counts:
        raise ValueError(f"examples must be arrays with one leading axis of at least one example, got {counts} of them")
    return arrays, counts.pop()


def _require_room(program: Any, shared: PyTree, batch_size: int, devices: int, memory: int) -> None:
    """Refuse a program whose buffers, as XLA has planned them for each device, are more than may be."""
    plan = program.memory_analysis()  # some backends have none
    kinds = ("argument", "output", "temp")
    needed = devices * sum(getattr(plan, f"{kind}_size_in_bytes", 0) for kind in kinds)
    if needed > memory:
        fixed = devices * sum(leaf.nbytes for leaf in jax.tree.leaves(shared))
        most = max(int((memory - fixed) / (needed - fixed) * batch_size) // devices * devices, 0)
        raise ValueError(f"batch_size: {batch_size} examples need {needed:,} bytes of {memory:,}; about {most} fit")
