"""What the work costs at any size, in formulas that are held to XLA's own counts: `python -m benchmarks.scaling`.

Writes the tables of `docs/scaling.md`. A cost is a polynomial in the sizes of one example, which is one sequence or one
path: T steps, H hidden units, I inputs, O outputs (fewer than H), one layer, float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import maso_rnn
import srnn
from benchmarks import gpu, results

PAGE = Path(__file__).parents[1] / "docs" / "scaling.md"
RATE = 1e13  # operations a second
MEMORY = 16 * 2**30  # bytes of a device


class Size(NamedTuple):
    """N examples of T steps and I inputs, H hidden units, O outputs."""

    N: int
    T: int
    H: int
    I: int
    O: int


class Cost(dict[str, float]):
    """A polynomial: `Cost(OTI=4, TH=1)` is 4·O·T·I + T·H."""

    def at(self, size: Size) -> float:
        """Its value."""
        return sum(count * math.prod(getattr(size, axis) for axis in axes) for axes, count in self.items())

    def __str__(self) -> str:
        terms = []
        for axes, count in self.items():
            factors = [_power(axis, axes.count(axis)) for axis in dict.fromkeys(axes)]
            terms.append("·".join([str(count)] * (count > 1 or not axes) + factors))
        return " + ".join(terms)


def _power(axis: str, exponent: int) -> str:
    return axis + {1: "", 2: "²", 3: "³"}[exponent]


class Work(NamedTuple):
    """What one example of some work costs.

    Attributes:
        results: bytes.
        temporaries: bytes, at most.
        operations: in one step, of which there are T.
        program: of a size, the function and its arguments.
        applies: whether that is how the work is done at a size.
    """

    results: Cost
    temporaries: Cost
    operations: Cost
    program: Callable[[Size], tuple[Callable, tuple[Any, ...]]]
    applies: Callable[[Size], bool] = lambda size: True


def _examples(function: Callable) -> Callable[[Size], tuple[Callable, tuple[Any, ...]]]:
    def program(size: Size) -> tuple[Callable, tuple[Any, ...]]:
        rnn = maso_rnn.init(jax.random.key(0), size.I, [size.H], size.O, dtype="float32")
        return jax.vmap(function, (None, 0)), (rnn, jnp.ones((size.N, size.T, size.I), "float32"))

    return program


def _ensemble(size: Size) -> tuple[Callable, tuple[Any, ...]]:
    def values(model: srnn.SRNN, key: jax.Array) -> jax.Array:
        return srnn.simulate(model, key=key, paths=size.N, t1=size.T / 8, dt=1 / 8).values

    return values, (srnn.init(jax.random.key(0), size.I, size.H, dtype="float32"), jax.random.key(1))


def _kernel(size: Size) -> tuple[Callable, tuple[Any, ...]]:
    def kernel(model: srnn.SRNN, key: jax.Array) -> srnn.Kernel:
        return srnn.response_kernel(
            model, lambda h: h[0], key=key, paths=size.N, t1=size.T / 8, dt=1 / 8, compare=False
        )

    return kernel, (srnn.init(jax.random.key(0), size.I, size.H, dtype="float32"), jax.random.key(1))


WORKS: Mapping[str, Work] = {
    "output of the last step": Work(
        Cost(O=4), Cost(TI=4, H=12), Cost(HH=2, HI=2, H=16), _examples(maso_rnn.last_output)
    ),
    "affine map": Work(
        Cost(OTI=4, TH=1, OH=4, O=8),
        Cost(OTI=4, TH=1, OH=8),
        Cost(OHH=2, HH=2, OHI=2, HI=2, OH=8),
        _examples(maso_rnn.affine_map),
    ),
    "boundary distance, T·I < 2·H": Work(
        Cost({"": 4}),
        Cost(TIH=9),
        Cost(TIHH=1.25, TIH=10),  # in four parts, each with the rows of the inputs so far
        _examples(maso_rnn.boundary_distance),
        lambda size: size.T * size.I < 2 * size.H,
    ),
    "boundary distance, T·I ≥ 2·H": Work(
        Cost({"": 4}),
        Cost(HH=14, TH=1),
        Cost(HHH=4, HH=16),
        _examples(maso_rnn.boundary_distance),
        lambda size: size.T * size.I >= 2 * size.H,
    ),
    "path of an SRNN": Work(Cost(H=4), Cost(H=28), Cost(HH=2, H=100), _ensemble),
    "first-order kernel, a path": Work(Cost(), Cost(TH=4, H=40), Cost(HH=6, H=125), _kernel),
}

# but for distances: of several loops XLA counts each body once, and one of them runs only where digits are lost
CHECKED = tuple(
    (name, size)
    for name, work in WORKS.items()
    for size in (Size(64, 64, 32, 2, 5), Size(64, 128, 64, 4, 10), Size(64, 28, 256, 8, 10), Size(32, 784, 128, 1, 10))
    if work.applies(size) and not name.startswith("boundary distance")
)

BASE = Size(10_000, 784, 128, 1, 10)
SIZES = {
    "the papers'": BASE,
    "10⁹ examples": BASE._replace(N=10**9),
    "4,096 hidden units": BASE._replace(H=4096),
    "10⁵ steps": BASE._replace(T=10**5),
    "all three": BASE._replace(N=10**9, H=4096, T=10**5),
}


class Check(NamedTuple):
    """What XLA says of a compiled program, over what the formula says."""

    results: float
    temporaries: float
    operations: float


def check(work: Work, size: Size) -> Check:
    """Of a program compiled here; XLA counts the body of a loop once, which is one step."""
    function, arguments = work.program(size)
    compiled = jax.jit(function).lower(*arguments).compile()
    memory: Any = compiled.memory_analysis()
    counted: Any = compiled.cost_analysis()
    results = size.N * work.results.at(size)
    return Check(
        memory.output_size_in_bytes / results if results else math.nan,
        memory.temp_size_in_bytes / (size.N * work.temporaries.at(size)),
        counted["flops"] / (size.N * work.operations.at(size)),
    )


def formulas() -> str:
    """The table of costs."""
    rows = [
        "| one example | bytes of results | bytes of temporaries, at most | operations a step |",
        "|---|---|---|---|",
    ]
    rows += [
        f"| {name} | {work.results or '–'} | {work.temporaries} | {work.operations} |" for name, work in WORKS.items()
    ]
    return "\n".join(rows)


def checks() -> str:
    """The table of what XLA counts over what the formulas say."""
    rows = ["| work | N, T, H, I, O | results | temporaries | operations |", "|---|---|---|---|---|"]
    for name, size in CHECKED:
        ratios = " | ".join("–" if math.isnan(ratio) else f"{ratio:.2f}" for ratio in check(WORKS[name], size))
        rows.append(f"| {name} | {', '.join(map(str, size))} | {ratios} |")
    return "\n".join(rows)


def sizes() -> str:
    """The table of what large work comes to."""
    rows = [
        "| work | size | operations | at 10¹³ a second | bytes of results | bytes of one example | "
        f"examples in {MEMORY // 2**30} GiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, work in WORKS.items():
        for said, size in SIZES.items():
            if not work.applies(size):
                continue
            operations = size.N * size.T * work.operations.at(size)
            one = work.results.at(size) + work.temporaries.at(size)
            rows.append(
                f"| {name} | {said} | {operations:.1e} | {_duration(operations / RATE)} | "
                f"{_bytes(size.N * work.results.at(size))} | {_bytes(one)} | {int(MEMORY // one):,} |"
            )
    return "\n".join(rows)


def parameters(size: Size) -> int:
    """Numbers in a network of one layer with biases: what a gradient's all-reduce adds up."""
    return size.H * (size.H + size.I + 1) + size.O * (size.H + 1)


def gradients() -> str:
    """The table of what a step of training moves."""
    rows = ["| hidden units | parameters | bytes that each device sends and receives |", "|---|---|---|"]
    for size in (SIZES["the papers'"], SIZES["4,096 hidden units"]):
        count = parameters(size)
        rows.append(f"| {size.H:,} | {count:,} | {_bytes(2 * 4 * count)} |")
    return "\n".join(rows)


def on_a_gpu() -> str:
    """The table of what has been measured on a card."""
    return gpu.table(results.read(gpu.FILE))


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if count < 1000 or unit == "PB":
            break
        count /= 1000
    return f"{count:,.3g} {unit}" if count else "–"


def _duration(seconds: float) -> str:
    for unit, length in (("years", 365.25 * 86400), ("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:,.2g} {unit}" if seconds < 100 * length else f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.2g} s"


def with_table(page: str, name: str, table: str) -> str:
    """The page with the table between the marks of that name."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = page.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n\n{table}\n\n{end}{after}"


def main() -> None:
    """Write the tables anew."""
    page = PAGE.read_text(encoding="utf-8")
    for table in (formulas, checks, sizes, gradients, on_a_gpu):
        page = with_table(page, table.__name__, table())
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
