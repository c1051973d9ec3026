"""What an accelerator changes: `python -m benchmarks.gpu`, in minutes on a card, in seconds, and smaller, on a CPU.

Where `parallel_forward` overtakes the scan; affine maps, ensembles and Path-SGD's pass; codes that float32 and TF32
flip. JSON lines with the card's name, for `benchmarks/published/gpu.jsonl`; the page on sizes shows what is there.
"""

from __future__ import annotations

import argparse
import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

import maso_rnn
import path_opt
import srnn
from benchmarks import results
from benchmarks.experiment import PUBLISHED

FILE = PUBLISHED / "gpu.jsonl"
Found = tuple[dict[str, Any], dict[str, Any]]


class Scale(NamedTuple):
    """How large everything is.

    Attributes:
        times: steps at which the scan and the parallel rounds are compared.
        hidden: units, there.
        batch: sequences at once, of the other networks.
        steps: of these.
        units: of these.
        paths: of an ensemble.
        repeats: of each timing.
    """

    times: tuple[int, ...]
    hidden: tuple[int, ...]
    batch: int
    steps: int
    units: int
    paths: int
    repeats: int


SCALES = {
    "card": Scale(tuple(256 * 4**k for k in range(5)), (8, 16, 32, 64), 256, 784, 128, 2**16, 9),
    "small": Scale((16, 64), (4, 8), 4, 32, 8, 64, 2),
}


def seconds(programs: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median wall seconds of each, run in turn after one run to warm up; NaN where the memory does not suffice."""
    taken: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(repeats + 1):
        for name, program in programs.items():
            began = time.perf_counter()
            try:
                jax.block_until_ready(program())
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                taken[name].append(math.nan)
            else:
                taken[name] += [time.perf_counter() - began] * (turn > 0)
    return {name: float(np.median(values)) for name, values in taken.items()}


def parallel(scale: Scale) -> Iterator[Found]:
    """The scan over time against rounds that are parallel over time."""
    scan, rounds = jax.jit(maso_rnn.trajectory), jax.jit(maso_rnn.parallel_forward)
    for hidden in scale.hidden:
        rnn = maso_rnn.init(jax.random.key(0), 1, [hidden], 1, dtype="float32")
        for steps in scale.times:
            xs = jax.random.normal(jax.random.key(1), (steps, 1), "float32")
            programs = {"scan": functools.partial(scan, rnn, xs), "rounds": functools.partial(rounds, rnn, xs)}
            taken = seconds(programs, scale.repeats)
            counted = {}
            if not math.isnan(taken["rounds"]):
                found = rounds(rnn, xs)
                counted = {"iterations": int(found.iterations), "converged": bool(found.converged)}
            yield {"work": "parallel_forward", "hidden": hidden, "steps": steps}, taken | counted


def affine(scale: Scale) -> Iterator[Found]:
    """Affine maps of a batch, against the forward pass alone."""
    rnn, xs = _network(scale)
    maps, outputs = (jax.jit(jax.vmap(f, (None, 0))) for f in (maso_rnn.affine_map, maso_rnn.last_output))
    taken = seconds({"maps": lambda: maps(rnn, xs), "outputs": lambda: outputs(rnn, xs)}, scale.repeats)
    yield {"work": "affine_map", "batch": scale.batch, "steps": scale.steps, "hidden": scale.units}, taken


def ensembles(scale: Scale) -> Iterator[Found]:
    """Paths of a stochastic RNN with both kinds of increments."""
    model = srnn.init(jax.random.key(0), 1, scale.units, dtype="float32")

    run: Callable[..., Any] = functools.partial(
        srnn.simulate, model, key=jax.random.key(1), paths=scale.paths, t1=scale.steps / 8, dt=1 / 8
    )
    kinds = ("gaussian", "two_point")
    taken = seconds({kind: functools.partial(run, increments=kind) for kind in kinds}, scale.repeats)
    yield {"work": "simulate", "paths": scale.paths, "steps": scale.steps, "hidden": scale.units}, taken


def path_sgd(scale: Scale) -> Iterator[Found]:
    """A step of Path-SGD, whose pass over time is sequential, against the gradient that it is given."""
    rnn, xs = _network(scale)
    optimiser = path_opt.path_sgd(0.1, graph=path_opt.reduction_graph(rnn), num_steps=scale.steps)
    state = optimiser.init(rnn)

    def loss(rnn: maso_rnn.RNN) -> jax.Array:
        outputs = jax.vmap(lambda x: maso_rnn.last_output(rnn, x))(xs)
        return optax.softmax_cross_entropy_with_integer_labels(outputs, jnp.zeros(len(xs), int)).mean()

    gradient, update = jax.jit(jax.grad(loss)), jax.jit(optimiser.update)
    given = gradient(rnn)
    taken = seconds({"gradient": lambda: gradient(rnn), "update": lambda: update(given, state, rnn)}, scale.repeats)
    yield {"work": "path_sgd", "batch": scale.batch, "steps": scale.steps, "hidden": scale.units}, taken


def flips(scale: Scale) -> Iterator[Found]:
    """The share of codes that are not those of float64, with products in float32 and in TF32."""
    rnn, xs = _network(scale)

    def codes(rnn: maso_rnn.RNN, xs: jax.Array) -> np.ndarray:
        return np.asarray(jax.jit(jax.vmap(lambda x: maso_rnn.affine_map(rnn, x).codes[0]))(xs))

    with jax.enable_x64(True):
        exact = codes(*jax.tree.map(lambda leaf: leaf.astype("float64"), (rnn, xs)))
    shares = {}
    for name, precision in (("float32", "highest"), ("TF32", "tensorfloat32")):
        with jax.default_matmul_precision(precision):
            shares[name] = float((codes(rnn, xs) != exact).mean())
    yield {"work": "codes", "batch": scale.batch, "steps": scale.steps, "hidden": scale.units}, shares


def _network(scale: Scale) -> tuple[maso_rnn.RNN, jax.Array]:
    rnn = maso_rnn.init(
        jax.random.key(0), 1, [scale.units], 10, bias_init=jax.nn.initializers.normal(0.1), dtype="float32"
    )
    return rnn, jax.random.normal(jax.random.key(1), (scale.batch, scale.steps, 1), "float32")


WORKS: Sequence[Callable[[Scale], Iterator[Found]]] = (parallel, affine, ensembles, path_sgd, flips)


def measure(scale: Scale) -> list[results.Line]:
    """Everything at one scale, on the device that JAX runs on."""
    lines = []
    for work in tqdm(WORKS, desc="works"):
        with results.timed() as run:
            found = list(work(scale))
        lines += [results.Line(configuration, result, run) for configuration, result in found]
    return lines


def table(lines: Sequence[results.Line]) -> str:
    """What was measured on a card, in Markdown."""
    on_card = [line for line in lines if ", cpu (" not in line.run["machine"]]
    rows = ["| on a GPU | found | card |", "|---|---|---|"]
    for name, (what, say) in _SAID.items():
        chosen = [line for line in on_card if line.configuration["work"] == name]
        said, card = (say(chosen), chosen[0].run["machine"]) if chosen else ("not measured", "–")
        rows.append(f"| {what} | {said} | {card} |")
    return "\n".join(rows)


def _crossover(lines: Sequence[results.Line]) -> str:
    """For each width the first number of steps from which on the rounds are faster."""
    said = []
    for hidden in sorted({line.configuration["hidden"] for line in lines}):
        rows = sorted((line for line in lines if line.configuration["hidden"] == hidden), key=_steps)
        slower = [_steps(line) for line in rows if not line.result["rounds"] < line.result["scan"]]
        faster = [_steps(line) for line in rows if _steps(line) > max(slower, default=0)]
        said.append(f"{hidden} units: {f'{faster[0]:,} steps' if faster else f'not up to {_steps(rows[-1]):,} steps'}")
    return "; ".join(said)


def _steps(line: results.Line) -> int:
    return line.configuration["steps"]


def _times(lines: Sequence[results.Line]) -> str:
    return "; ".join(f"{name} {1e3 * taken:,.1f} ms" for name, taken in lines[0].result.items())


def _shares(lines: Sequence[results.Line]) -> str:
    return "; ".join(f"{name} {share:.1e}" for name, share in lines[0].result.items())


_SAID: Mapping[str, tuple[str, Callable[[Sequence[results.Line]], str]]] = {
    "parallel_forward": ("`parallel_forward` is faster than the scan from", _crossover),
    "affine_map": ("affine maps of 256 sequences, and their outputs alone", _times),
    "simulate": ("an ensemble of 65,536 paths", _times),
    "path_sgd": ("a gradient, and Path-SGD's update", _times),
    "codes": ("share of codes that are not float64's", _shares),
}


def main() -> None:
    """Measure, print the table and write the lines."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("reports/gpu.jsonl"), help="where the JSON lines go")
    output = parser.parse_args().output
    lines = measure(SCALES["small" if jax.default_backend() == "cpu" else "card"])
    output.parent.mkdir(parents=True, exist_ok=True)
    results.replace(output, results.text(lines).encode())
    print(table(lines))


if __name__ == "__main__":
    main()
