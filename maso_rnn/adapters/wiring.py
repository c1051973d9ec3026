"""In which order data pass through a network's modules: as it is run, as it is said, or not known and asked for.

Another library's network is looked at as a `Source`: its modules by name, what each is made of, and a way to run it. A
run shows which module is called after which and what stands between them: what a module is given must be what the one
before it returned, or a known function of that. The chain so found is then held against the network itself on another
batch, and refused where the outputs differ by more than rounding.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from maso_rnn.activations import PiecewiseAffine
from maso_rnn.adapters.parts import ACROSS_UNITS, FUNCTIONS, Affine, Embedding, Named, Part, Pointwise, Recurrent
from maso_rnn.cells import Cell
from maso_rnn.network import RNN, embedded, forward, with_head_read_once

Network = TypeVar("Network", RNN, Cell)

EXAMPLES, BATCH, TIME = 64, 3, 5  # many examples of one step to see the wiring by, few of several to compare
FEW = 8  # numbers that show most functions not to be what made them


class NotAChain(ValueError):
    """A module is given something else than what the one before it returned."""


class Call(NamedTuple):
    """A module at work: what it was given, what it returned, and the state that it began with, where it got one."""

    name: str
    given: np.ndarray
    returned: np.ndarray
    state: Any = None


class Run(NamedTuple):
    """A network at work on a batch: the calls of its modules, and every floating array that it returned."""

    calls: list[Call]
    outputs: list[np.ndarray]


class Source(NamedTuple):
    """A network of another library.

    Attributes:
        modules: those that compute something, by name, in the order in which they were made.
        parts: what a module is made of, from its name and itself; it refuses by name what is not known.
        run: the network at work on a batch; without calls where the library does not show them. None where there is
            nothing to be run.
        is_chain: whether data pass through the modules in that order, as through a list of them.
        loose: names of weights that no module holds.
        gated: modules whose gates have functions of their own, where an activation was given and no module takes it.
    """

    modules: dict[str, Any]
    parts: Callable[[str, Any], list[Part]]
    run: Callable[[np.ndarray], Run] | None
    is_chain: bool = False
    loose: Sequence[str] = ()
    gated: Sequence[str] = ()


def assembled(source: Source, order: Sequence[str] | None, build: Callable[[list[Named]], Network]) -> Network:
    """The network that `build` makes of the parts in their order, held against the source where that can be run."""
    if source.gated:
        held = f"{', '.join(source.gated)} has gates, whose functions are known"
        raise ValueError(f"activation is that of a layer without gates, and {held}; leave it out")
    for name, module in source.modules.items():
        if _trains(module):
            raise ValueError(f"{name} ({type(module).__name__}) is in training mode; switch to evaluation first")
    said = None if order is None else _said(source, order)
    if source.run is None:
        if said is None:
            said = _said(source, list(source.modules) if source.is_chain else _only_order(source))
        return build(said)
    failures: list[Any] = []
    nearest, tried, takes_batches, was_built = math.inf, [*source.modules], False, False
    for batch, one_step, layout in _batches(source):
        if takes_batches and layout is _alone:
            continue  # it gives outputs for each sequence of a batch, and they are others
        try:
            short: Run = source.run(one_step)
            long: Run = source.run(batch)
            if not long.outputs:
                raise TypeError("it returns no floating array")
        except Exception as error:  # of any library: another layout of the data may be the right one
            failures.append(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
            continue
        try:
            named = said or (_seen(source, one_step, short, long) if short.calls else _said(source, [*source.modules]))
        except NotAChain as error:
            failures.insert(0, error)
            continue
        network: Any = build(_with_states(named, short.calls))
        ours, theirs = _outputs(network, layout(batch)), list(long.outputs)
        last = [call.returned for call in long.calls if call.name == named[-1][0]]
        if said is not None and last:  # what stands behind the last of them is left out on purpose
            theirs.append(np.stack(last))
        at_every_step, at_the_last = _differences(ours, theirs)
        if min(at_every_step, at_the_last) <= 1:
            reads_once = at_every_step > 1 and isinstance(network, RNN)
            found: Any = with_head_read_once(network) if reads_once else network
            return found
        difference = min(at_every_step, at_the_last)
        takes_batches |= difference < math.inf
        nearest, tried, was_built = min(nearest, difference), [name for name, _ in named], True
    if was_built:
        why = f"does something else than its modules in turn, {tried}: outputs "
        why += f"are {nearest:.2g} roundings apart" if nearest < math.inf else "have another size"
        why += f", and {list(source.loose)} are in none of them" if source.loose else ""
        raise ValueError(f"network {why}; functions between them are told by order=(module, 'relu', module, …)")
    if failures and isinstance(failures[0], NotAChain):
        raise failures[0]
    first_of_each_kind = {failure.partition(":")[0]: failure for failure in reversed(failures)}
    hint, told = "", "; ".join(first_of_each_kind.values()) or "no module takes one"
    for name, module in source.modules.items():
        try:
            source.parts(name, module)  # a refusal says more than that nothing could be run
        except (TypeError, ValueError) as error:
            hint = f"; {error}"
            break
    raise ValueError(
        f"network could not be run on a batch of sequences ({told}); give its weights with their order, or its "
        f"modules, of {tried}, as a list in the order of the data{hint}"
    )


def _trains(module: Any) -> bool:
    """Whether a dropout or batch norm of any library is in training mode: random, or of statistics of the batch."""
    is_random = any(getattr(module, rate, 0) for rate in ("p", "rate", "dropout"))
    has_statistics = hasattr(module, "running_mean") or hasattr(module, "use_running_average")
    evaluates = (getattr(module, field, True) for field in ("deterministic", "inference", "use_running_average"))
    return (is_random or has_statistics) and (getattr(module, "training", False) or not all(evaluates))


def _said(source: Source, order: Sequence[str]) -> list[Named]:
    """The parts in the order that was asked for: names of modules, and of functions between them."""
    if isinstance(order, str) or not all(isinstance(entry, str) for entry in order):
        raise TypeError(f"order must be a sequence of names, as ('rnn', 'head'), got {order!r}")
    unknown = [entry for entry in order if entry not in source.modules and entry not in FUNCTIONS]
    if unknown or not order:
        raise ValueError(f"order must name some of {[*source.modules, *FUNCTIONS]}, got {unknown or 'nothing'}")
    left = [name for name in source.modules if name not in order]
    if left and source.run is None:
        raise ValueError(f"order must name every module whose weights are given, it lacks {left}")
    named: list[Named] = []
    for entry in order:
        named += _named(source, entry) if entry in source.modules else [(entry, Pointwise(FUNCTIONS[entry]))]
    return named


def _named(source: Source, name: str) -> list[Named]:
    return [(name, part) for part in source.parts(name, source.modules[name])]


def _only_order(source: Source) -> list[str]:
    """A recurrent module and its readout: all that there is only one order for."""
    kinds: dict[str, list[Part]] = {}
    if len(source.modules) <= 2:
        kinds = {name: source.parts(name, module) for name, module in source.modules.items()}
    first = [name for name, parts in kinds.items() if all(isinstance(part, Recurrent) for part in parts)]
    then = [name for name, parts in kinds.items() if [type(part) for part in parts] == [Affine]]
    if len(first) == 1 and len(first + then) == len(kinds):
        return first + then
    raise ValueError(
        f"order must be given: weights do not show in which order data pass through {sorted(source.modules)}; "
        "name them first to last, with functions without weights, as 'relu', in their places; take what is no part of "
        "the network out of the weights before"
    )


def _seen(source: Source, one_step: np.ndarray, short: Run, long: Run) -> list[Named]:
    """The parts in the order in which their modules were called, with the functions before and between them."""
    first = _function([(one_step.astype(np.float64), short.calls[0].given)])
    if first is None:
        raise NotAChain(
            f"{short.calls[0].name} is not given the data, nor a known function of them; apply what is done to them "
            "before"
        )
    named = _unless_identity(first, "the data")
    runs = [short, long] if len(short.calls) == len(long.calls) else [short]  # of loops there are as many as steps
    for place, call in enumerate(short.calls):
        if place:
            between = [(run.calls[place - 1].returned, run.calls[place].given) for run in runs]
            name = _function(between)
            if name is None:
                why = f"{call.name} is not given what {short.calls[place - 1].name} returns, nor a known function of it"
                raise NotAChain(f"{why}; where a part of network is a chain, give its modules as a list or by `order`")
            named += _unless_identity(name, short.calls[place - 1].name)
        named += _named(source, call.name)
    # what is done to the output otherwise shows when the two networks are compared
    name = _function([(run.calls[-1].returned, run.outputs[0]) for run in runs])
    return named + _unless_identity(name or "identity", short.calls[-1].name)


def _function(pairs: list[tuple[np.ndarray, np.ndarray]]) -> str | None:
    """The function that makes what is given of what was returned before, in the first run and wherever it shows.

    Of one step, the numbers stand in one order wherever the axis of time is. Of several they need not, and then they
    say nothing; but a unit that is silent in one step may speak in the next.
    """
    found = [name for name, compute in FUNCTIONS.items() if _is_made(compute, *pairs[0])]
    for pair in pairs[1:]:
        found = [name for name in found if _is_made(FUNCTIONS[name], *pair)] or found
    return found[0] if found else None


def _is_made(compute: Callable[..., Any], returned: np.ndarray, given: np.ndarray) -> bool:
    if returned.size != given.size:
        return False
    if compute not in ACROSS_UNITS and not _are_values(compute, returned.ravel()[:FEW], given.ravel()[:FEW]):
        return False  # most are not, and the whole is of a shape that each would be compiled for
    return _are_values(compute, returned, given)


def _are_values(compute: Callable[..., Any], returned: np.ndarray, given: np.ndarray) -> bool:
    values = np.asarray(compute(jnp.asarray(returned)), np.float64).ravel()
    exact = isinstance(compute, PiecewiseAffine)  # other libraries round smooth functions otherwise
    return np.allclose(given.ravel(), values, rtol=1e-5, atol=0 if exact else 1e-6)


def _unless_identity(name: str, before: str) -> list[Named]:
    return [] if name == "identity" else [(f"{name} after {before}", Pointwise(FUNCTIONS[name]))]


def _with_states(named: list[Named], calls: list[Call]) -> list[Named]:
    """The parts with the states that their modules were given at the start, where these are the same for all data."""
    states = {call.name: call.state for call in calls if call.state is not None}
    found: list[Named] = []
    for place, (name, part) in enumerate(named):
        if name in states and isinstance(part, Recurrent):
            number = sum(name == other for other, _ in named[:place])
            own = jax.tree.map(lambda leaf, number=number: leaf[number], states[name])
            if any(np.ptp(leaf, axis=0).any() for leaf in jax.tree.leaves(own)):
                raise ValueError(f"{name} begins with a state that depends on the data, which a network here does not")
            if any(leaf.any() for leaf in jax.tree.leaves(own)):
                dtype = part.recurrent_kernel.dtype
                part = dataclasses.replace(
                    part, initial=jax.tree.map(lambda leaf, dtype=dtype: jnp.asarray(leaf[0], dtype), own)
                )
        found.append((name, part))
    return found


def _batches(source: Source) -> Iterator[tuple[np.ndarray, np.ndarray, Callable[[np.ndarray], np.ndarray]]]:
    """Batches that the network may take: of several steps, of one step, and how to make (example, time, …) of them."""
    random, tried = np.random.default_rng(0), set[tuple[int, bool]]()
    batch: np.ndarray
    for name, module in list(source.modules.items()):  # a run may meet more
        try:
            first = source.parts(name, module)[:1]
        except (TypeError, ValueError):  # refused by name once it is met
            continue
        for part in first:
            kernel = getattr(part, "input_kernel", getattr(part, "kernel", getattr(part, "table", None)))
            if kernel is None or (kind := (kernel.shape[0], isinstance(part, Embedding))) in tried:
                continue
            tried.add(kind)
            if isinstance(part, Embedding):
                batch = random.integers(0, kernel.shape[0], (EXAMPLES, TIME))
            else:  # small and large, so that functions that saturate do
                batch = random.standard_normal((EXAMPLES, TIME, kernel.shape[0]))
                batch = (batch * np.resize([0.5, 2, 8], (EXAMPLES, 1, 1))).astype(kernel.dtype)
            short, batch = batch[:, :1], batch[:BATCH]
            yield batch, short, lambda xs: xs
            yield batch.swapaxes(0, 1), short.swapaxes(0, 1), lambda xs: xs.swapaxes(0, 1)
            yield batch[0], short[0], _alone


def _alone(xs: np.ndarray) -> np.ndarray:
    return xs[None]


def _outputs(network: RNN | Cell, batch: np.ndarray) -> np.ndarray:
    """(example, time, output)."""
    xs = jax.vmap(lambda tokens: embedded("xs", tokens, network.embedding))(jnp.asarray(batch))
    if isinstance(network, RNN):
        return np.asarray(jax.vmap(forward, (None, 0))(network, xs))

    def one(cell: Cell, xs: jax.Array) -> jax.Array:
        def body(carry: Any, x: jax.Array) -> tuple[Any, jax.Array]:
            carry = cell(carry, x)
            return carry, cell.read(carry)

        return jax.lax.scan(body, cell.initial, xs)[1]

    return np.asarray(jax.jit(jax.vmap(one, (None, 0)))(network, xs))


def _differences(ours: np.ndarray, theirs: list[np.ndarray]) -> tuple[float, float]:
    """How far the outputs of every step, and of the last, are from any of theirs, in units of rounding."""
    unit = 200 * float(jnp.finfo(ours.dtype).eps)
    wide = ours.astype(np.float64)

    def nearest(*ways: np.ndarray) -> float:
        pairs = [(array, way) for array in theirs for way in ways if array.size == way.size]
        scales = [max(1.0, np.abs(way).max(initial=0)) for _, way in pairs]
        apart = [np.abs(array.astype(np.float64).reshape(way.shape) - way).max() for array, way in pairs]
        return min((float(far) / (unit * scale) for far, scale in zip(apart, scales, strict=True)), default=math.inf)

    return nearest(wide, wide.swapaxes(0, 1)), nearest(wide[:, -1])
