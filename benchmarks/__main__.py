"""`python -m benchmarks COMMAND`: the main job, and the experiments."""

from __future__ import annotations

import dataclasses
import importlib
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from benchmarks.command import parse, refuse

EXPERIMENTS = {
    "path-space": "path space against weight space: learning curves of the optimisers",
    "response": "a stochastic RNN's response to a real signal, and classification by it",
    "eigen-init": "the eigen initializer against the others",
}


@dataclasses.dataclass(frozen=True)
class Run:
    """Run one experiment; what has been computed is kept, and a rerun does only what is missing.

    Attributes:
        experiment: which one; `python -m benchmarks list` names them.
        size: smoke (a minute or two).
        output: the folder for its results.
    """

    experiment: Annotated[str, tyro.conf.Positional]
    size: Literal["smoke"] = "smoke"
    output: Path = Path("reports")


def main(arguments: list[str]) -> None:
    """Hand the arguments to their command."""
    command, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if command == "quickstart":
        if "--smoke" in rest:
            # little is computed and much compiled: half the time goes when the compiler does not try hard
            os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"
        from benchmarks import quickstart

        quickstart.main(rest)
    elif command in ("-h", "--help"):
        print("usage: python -m benchmarks {quickstart,list,run} [--help]")
    elif command == "list":
        if rest:
            refuse(f"takes no arguments, got {' '.join(rest)}", "list")
        for name, what in EXPERIMENTS.items():
            print(f"{name:12} {what}")
        from benchmarks.data import DATA

        print("\ndata sets:")
        for name, entry in DATA.items():
            print(f"{name:20} {entry.what}")
    elif command == "run":
        run = parse(Run, rest, command="run")
        if run.experiment not in EXPERIMENTS:
            refuse(f"experiment must be one of {', '.join(EXPERIMENTS)}, got {run.experiment}", "run")
        module = importlib.import_module(f"benchmarks.{run.experiment.replace('-', '_')}")
        module.run(run.size, run.output / run.experiment)
    else:
        refuse(f"the command must be one of quickstart, list, run; got {command or 'none'}", "COMMAND")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
