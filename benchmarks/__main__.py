"""`python -m benchmarks COMMAND`: the main job, and the experiments."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from benchmarks.command import parse, refuse

# where little is computed and much compiled, half the time goes when the compiler does not try hard
QUICKLY = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"

EXPERIMENTS = {
    "spline": "noise on the initial state: accuracy, gradients, partitions and templates",
    "path-space": "path space against weight space: learning curves of the optimisers",
    "response": "a stochastic RNN's response: kernels, what they predict, and what can be learned from it",
    "path-metric": "Path-SGD with the whole metric of shared weights against its first term",
    "memory": "how long recurrent networks remember, against what their eigenvalues predict",
    "exact": "what the papers say exactly, computed exactly on random networks",
    "eigen-init": "the eigen initializer against the others",
    "constant": "what a prediction scores that never looks at its input",
}


@dataclasses.dataclass(frozen=True)
class Run:
    """Run one experiment; what has been computed is kept, and a rerun does only what is missing.

    Attributes:
        experiment: which one; `python -m benchmarks list` names them.
        size: smoke (seconds: it shows that all of it runs), small (what is published: minutes to hours) or paper (the
            papers' own sizes, for a GPU).
        output: the folder for its results.
        minutes: after which to stop, with the state of training saved; run again, it goes on to the same bits.
        only: a regular expression; done is what it is found in, as "task=digits.* method=SGD", and what is trained in
            one program with it; no report.
    """

    experiment: Annotated[str, tyro.conf.Positional]
    size: Literal["smoke", "small", "paper"] = "smoke"
    output: Path = Path("reports")
    minutes: float = math.inf
    only: str = ""


@dataclasses.dataclass(frozen=True)
class Publish:
    """Copy the results of a run, as far as they are complete, into benchmarks/published.

    Attributes:
        experiment: which one.
        size: that it was run at.
        output: the folder that it was run into.
    """

    experiment: Annotated[str, tyro.conf.Positional]
    size: Literal["small", "paper"] = "small"
    output: Path = Path("reports")


@dataclasses.dataclass(frozen=True)
class Report:
    """Make every report, and every table of the documentation, from the published results.

    Attributes:
        output: the folder for the reports.
    """

    output: Path = Path("reports/published")


def main(arguments: list[str]) -> None:
    """Hand the arguments to their command."""
    command, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if command == "quickstart":
        if "--smoke" in rest:
            os.environ["XLA_FLAGS"] = QUICKLY
        from benchmarks import quickstart

        quickstart.main(rest)
    elif command in ("-h", "--help"):
        print("usage: python -m benchmarks {quickstart,list,run,publish,report} [--help]")
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
        _require_known(run.experiment, command)
        if run.size == "smoke":
            os.environ["XLA_FLAGS"] = QUICKLY
        from benchmarks import experiment

        found = experiment.load(run.experiment)
        try:
            experiment.setting_of(found, run.size, run.only)
        except (ValueError, re.error) as error:
            refuse(str(error), command)
        output = run.output / run.experiment
        experiment.run(found, run.size, output, minutes=run.minutes, only=run.only)
    elif command == "publish":
        copied = parse(Publish, rest, command="publish")
        _require_known(copied.experiment, command)
        from benchmarks import experiment

        try:
            found = experiment.load(copied.experiment)
            print(experiment.publish(found, copied.size, copied.output / copied.experiment))
        except ValueError as error:
            refuse(str(error), command)
    elif command == "report":
        made = parse(Report, rest, command="report")
        from benchmarks import documents

        documents.make(EXPERIMENTS, made.output)
    else:
        refuse(f"the command must be one of quickstart, list, run, publish, report; got {command or 'none'}", "COMMAND")


def _require_known(experiment: str, command: str) -> None:
    if experiment not in EXPERIMENTS:
        refuse(f"experiment must be one of {', '.join(EXPERIMENTS)}, got {experiment}", command)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except OSError as error:
        print(f"python -m benchmarks: {error}", file=sys.stderr)
        raise SystemExit(1) from None
