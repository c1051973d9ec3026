"""Do the tests see a wrong line? Seeded samples of small mistakes, each put into a copy of the code and tested.

`python -m tests.mutation` draws the mutants, runs the tests of the mutated module on each, and writes one JSON line for
each to `docs/results/mutation.jsonl`, which is also where an interrupted run goes on; `--again` tests survivors once
more. Mutants are known by what they change (the file, the code before and after, and which occurrence it is), so that
the lines stay right when code moves.
"""

from __future__ import annotations

import argparse
import ast
import copy
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "docs" / "results" / "mutation.jsonl", ROOT / "docs" / "mutation.md"
SAMPLE = 150
SEEDS = (0, 1)  # each sample is of mutants that none before it has, drawn once the tests see all of those

# the modules whose mistakes would be plausible numbers, and the tests that must see them
TARGETS = {
    "maso_rnn/affine.py": ["tests/test_affine.py"],
    "maso_rnn/regions.py": ["tests/test_regions.py", "tests/test_scaling.py"],
    "path_opt/coordinates.py": ["tests/test_path_coordinates.py"],
    "path_opt/norms.py": ["tests/test_path_norms.py"],
    "srnn/response.py": ["tests/test_srnn_response.py"],
    "srnn/signatures.py": ["tests/test_srnn_signatures.py", "tests/test_srnn_features.py"],
}
EVERYWHERE = ["tests/test_properties.py"]

_SWAPS: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div, ast.Add),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,),
    ast.Pow: (ast.Mult,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}


# why a mutant that survives is no mistake
ONE_LENGTH = "what is zipped has one length, by the lines before"
WEIGHTS = "the weight is the number of paths, in every row the same"
NO_RANK = "values that have no rank are refused whichever is taken"
MEMORY = (
    "a bound on the memory of a path, which holds to a tenth only, and may be an eighth of a part of it more or less"
)
REASONS: dict[str, str] = {
    "maso_rnn/regions.py: True -> (False) #0": ONE_LENGTH,
    "maso_rnn/regions.py: True -> (False) #1": ONE_LENGTH,
    "maso_rnn/regions.py: True -> (False) #2": ONE_LENGTH,
    "maso_rnn/regions.py: rows + gradients[-1] @ layer.input_kernel -> "
    "(rows - gradients[-1] @ layer.input_kernel) #0": "turns all gradients of a layer, whose norms are the same",
    "path_opt/coordinates.py: True -> (False) #4": ONE_LENGTH,
    "path_opt/norms.py: 1 -> (2) #18": "what comes after the last step is zero, in whatever units",
    "path_opt/norms.py: 1 -> (2) #38": "the last sums are taken before they are brought to the units of a next step",
    "path_opt/norms.py: True -> (False) #2": ONE_LENGTH,
    "path_opt/norms.py: k <= 0 -> (k < 0) #1": "where it divides by zero, the outer `where` takes the zero",
    "srnn/response.py: 0 -> (1) #8": WEIGHTS,
    "srnn/response.py: 0 -> (1) #22": WEIGHTS,
    "srnn/response.py: 2 -> (1) #18": NO_RANK,
    "srnn/response.py: 2 -> (3) #18": NO_RANK,
    "srnn/response.py: 4 -> (5) #0": MEMORY,
    "srnn/response.py: 8 -> (7) #1": MEMORY,
    "srnn/response.py: 8 -> (9) #1": MEMORY,
}


class Mutant(NamedTuple):
    """One mistake.

    Attributes:
        file: the module, from the root.
        before: the code that is replaced.
        after: what replaces it.
        occurrence: which of the equal pieces of code it is, from 0.
        start: where it begins in the source.
    """

    file: str
    before: str
    after: str
    occurrence: int
    start: int

    @property
    def name(self) -> str:
        return f"{self.file}: {self.before} -> {self.after} #{self.occurrence}"

    def applied(self, source: str) -> str:
        return source[: self.start] + self.after + source[self.start + len(self.before) :]


def mutants(file: str) -> list[Mutant]:
    """Every mutant of a module: other comparisons, operators, constants and indices, and dropped negations."""
    source = (ROOT / file).read_text()
    lines = [0]
    for line in source.encode().splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    found, seen = [], Counter[tuple[str, str]]()
    for node in _code(ast.parse(source)):
        if not isinstance(node, ast.expr):
            continue
        first = lines[node.lineno - 1] + node.col_offset
        last = lines[node.end_lineno - 1] + node.end_col_offset
        before = source.encode()[first:last].decode()
        for changed in _changes(node):
            after = f"({ast.unparse(changed)})"
            found.append(Mutant(file, before, after, seen[before, after], len(source.encode()[:first].decode())))
            seen[before, after] += 1
    return found


def _code(node: ast.AST) -> Iterator[Any]:
    """Every node that runs: no annotations, no f-strings of messages, no decorators, nothing that raises."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list") or isinstance(node, ast.Raise | ast.JoinedStr):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield child
                yield from _code(child)


def _changes(node: Any) -> Iterator[Any]:
    def with_field(field: str, value: Any) -> Any:
        changed = copy.copy(node)
        setattr(changed, field, value)
        return changed

    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield from (with_field("ops", [swap()]) for swap in _SWAPS.get(type(node.ops[0]), ()))
    elif isinstance(node, ast.BinOp | ast.BoolOp):
        yield from (with_field("op", swap()) for swap in _SWAPS.get(type(node.op), ()))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not | ast.Invert):
        yield node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield ast.Constant(node.value + 1)
        if node.value not in (0, 1):
            yield ast.Constant(node.value - 1)


def samples() -> dict[int, list[Mutant]]:
    """The sample of each seed: mutants whose names have the least hashes with it, which stay while the code does."""
    left, drawn = [mutant for file in TARGETS for mutant in mutants(file)], {}
    for seed in SEEDS:
        left.sort(key=lambda mutant: hashlib.sha256(f"{seed} {mutant.name}".encode()).hexdigest())
        drawn[seed], left = left[:SAMPLE], left[SAMPLE:]
    return drawn


def passed(file: str, folder: Path, limit: float) -> tuple[bool, str]:
    """Whether the tests of a module pass in a copy of the code, the quick ones first, and which one does not."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"]
    flags = {"XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"}
    # what a mutant does not change is compiled once for all of them
    flags |= {"JAX_COMPILATION_CACHE_DIR": str(folder / "compiled")}
    flags |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
    for some in ([*TARGETS[file], *EVERYWHERE, "-m", "not slow"], [*TARGETS[file], "-m", "slow"]):
        try:
            run = subprocess.run(
                [*command, *some], cwd=folder, env=os.environ | flags, capture_output=True, text=True, timeout=limit
            )
        except subprocess.TimeoutExpired:
            return False, "the time limit"
        if run.returncode not in (0, 5):  # 5: there are no such tests
            failed = [line for line in run.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
            if not failed:
                raise RuntimeError(f"pytest ended with {run.returncode} and names no test:\n{run.stdout}{run.stderr}")
            return False, failed[0].split(" - ")[0].removeprefix("FAILED ").removeprefix("ERROR ")
    return True, ""


def tested(seed: int, mutant: Mutant, folder: Path, limit: float) -> dict[str, Any]:
    """What the tests make of the mutant of a sample in a copy of the code."""
    target = folder / mutant.file
    whole = target.read_text()
    target.write_text(mutant.applied(whole))
    begin = time.monotonic()
    try:
        survived, killer = passed(mutant.file, folder, limit)
    finally:
        target.write_text(whole)
    outcome = "survived" if survived else "killed"
    seconds = round(time.monotonic() - begin)
    return {"seed": seed, "mutant": mutant.name, "outcome": outcome, "by": killer, "seconds": seconds}


HEADER = """# Mutants

Do the tests see a wrong line? Samples of {sample} small mistakes, drawn by hash from all other comparisons,
operators, constants, indices and dropped negations in {files} modules, each mistake put into a copy of the code and
tested by the module's own tests and the property tests; what survived got a test, or a reason why it is no mistake.
A later sample has none of the mutants of those before it, and shows how good the tests had become. Where code has
changed since, a sample has lost some mutants and been given others. Made by `python -m tests.mutation`.

"""


def page(lines: list[dict[str, Any]]) -> str:
    """What became of the samples."""
    first = {line["mutant"]: line for line in reversed(lines)}
    last = {line["mutant"]: line for line in lines}
    late = [name for name in first if first[name]["outcome"] != last[name]["outcome"]]
    text = HEADER.format(sample=SAMPLE, files=len(TARGETS))
    for seed in sorted({line["seed"] for line in lines}):
        counts = {
            file: [
                len(names),
                sum(first[name]["outcome"] == "killed" for name in names),
                sum(name in late for name in names),
                sum(name in REASONS for name in names),
            ]
            for file in TARGETS
            for names in [[name for name in first if name.startswith(f"{file}:") and first[name]["seed"] == seed]]
        }
        drawn, killed, later, alike = total = [sum(column) for column in zip(*counts.values(), strict=True)]
        rows = [[f"`{file}`", *row] for file, row in counts.items()] + [["**all**", *total]]
        text += f"## Seed {seed}\n\nOf those that are mistakes, {killed / (drawn - alike):.0%} were killed at first"
        text += f"; {drawn - killed - later - alike} are left.\n\n" + _table(
            ["module", "mutants", "killed at first", "killed by tests since", "no mistake"], rows
        )
    text += "## No mistake\n\n"
    text += _table(["mutant", "why"], [[f"`{name}`", REASONS[name]] for name in sorted(REASONS) if name in first])
    text += "## Killed by tests since\n\n"
    return text + _table(["mutant", "killed by"], [[f"`{name}`", f"`{last[name]['by']}`"] for name in sorted(late)])


def _table(head: list[str], rows: list[list[Any]]) -> str:
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in [head, ["---"] * len(head), *rows]) + "\n\n"


def results() -> list[dict[str, Any]]:
    """What has been found, in the order in which it was."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def main() -> None:
    """Test the mutants that have no line yet."""
    parser = argparse.ArgumentParser(description="the mutation sample")
    parser.add_argument("--limit", type=float, default=900, help="seconds for the tests of one mutant")
    parser.add_argument("--share", default="1/1", help="which of how many processes that divide the sample: 1/2, 2/2")
    parser.add_argument("--again", action="store_true", help="test survivors again, with the tests as they are now")
    options = parser.parse_args()
    last = {line["mutant"]: line["outcome"] for line in results()}
    first, step = map(int, options.share.split("/"))
    left = [
        (seed, mutant)
        for seed, drawn in samples().items()
        for mutant in drawn
        if mutant.name not in REASONS and last.get(mutant.name) == ("survived" if options.again else None)
    ][first - 1 :: step]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("maso_rnn", "path_opt", "srnn", "tests", "benchmarks", "docs", "setup.cfg"):
            source = ROOT / part
            (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / part)
        for file in dict.fromkeys(mutant.file for _, mutant in left):
            whole, failed = passed(file, folder, options.limit)
            if not whole:
                sys.exit(f"{failed} fails without any mutant")
        for seed, mutant in left:
            line = tested(seed, mutant, folder, options.limit)
            RESULTS.parent.mkdir(exist_ok=True)
            with RESULTS.open("a") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            print(f"{line['outcome']:>9} {line['seconds']:>4} s  {line['mutant']}", flush=True)
    # of code that has gone since, nothing is told
    names = {mutant.name for drawn in samples().values() for mutant in drawn}
    kept = [line for line in results() if line["mutant"] in names]
    RESULTS.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))
    PAGE.write_text(page(kept))


if __name__ == "__main__":
    main()
