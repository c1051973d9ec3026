"""`python -m benchmarks COMMAND`: the main job, and the experiments."""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from pathlib import Path

from maso_rnn.command import Parser

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
    "automata": "weighted automata learned back, and learned from networks that learned grammars",
    "cornn": "coupled oscillators beside LSTM and IRNN, and shares of the bounds on their gradients",
    "kernel-machine": "networks as functions of the signature, and their norm as a penalty against attacks",
    "lyapunov": "Lyapunov spectra as predictors of the accuracy at the end of training",
    "constant": "what a prediction scores that never looks at its input",
}


def parser() -> tuple[Parser, Parser]:
    """The parser of the program, and that of `quickstart`."""
    whole = Parser(
        prog="python -m benchmarks",
        description="The demo, and the experiments behind benchmarks/CLAIMS.md.",
        epilog="examples:\n  python -m benchmarks quickstart\n  python -m benchmarks run spline --size smoke",
    )
    commands = whole.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)

    quickstart = commands.add_parser("quickstart", help="train an RNN on real digits and open it up: two minutes")
    _add_output(quickstart, "reports/quickstart", "the folder of the report; an earlier report there is replaced")
    quickstart.add_argument(
        "--smoke", action="store_true", help="a small network on few digits: it shows that all runs"
    )
    quickstart.add_argument("--seed", type=int, default=0, help="of the start, the batches and the noise")
    quickstart.add_argument("--sigma", type=float, default=0.1, help="standard deviation of the initial-state noise")
    quickstart.add_argument("--epochs", type=int, help="passes over the training digits; 80, or 3 with --smoke")

    commands.add_parser("list", help="name the experiments and the data sets")

    run = commands.add_parser("run", help="run one experiment; a rerun does only what is missing")
    run.add_argument("experiment", choices=EXPERIMENTS)
    sizes = {"smoke": "seconds", "small": "minutes to hours, what is published", "paper": "the papers' own sizes"}
    told = "; ".join(f"{name}: {what}" for name, what in sizes.items())
    run.add_argument("--size", choices=sizes, default="smoke", help=told)
    _add_output(run, "reports", "the folder for its results")
    run.add_argument(
        "--minutes", type=float, default=math.inf, help="after which to stop; run again, it goes on to the same bits"
    )
    run.add_argument(
        "--only",
        default="",
        metavar="PATTERN",
        help="a regular expression found in what is done: task=digits.*; no report",
    )

    publish = commands.add_parser("publish", help="copy what a run has completed into benchmarks/published")
    publish.add_argument("experiment", choices=EXPERIMENTS)
    publish.add_argument("--size", choices=("small", "paper"), default="small", help="that it was run at")
    _add_output(publish, "reports", "the folder that it was run into")

    report = commands.add_parser("report", help="make every report and every table from the published results")
    _add_output(report, "reports/published", "the folder for the reports")
    return whole, quickstart


def _add_output(command: argparse.ArgumentParser, default: str, what: str) -> None:
    command.add_argument("--output", type=Path, default=Path(default), metavar="DIR", help=what)


def main(arguments: list[str]) -> None:
    """Hand the arguments to their command."""
    whole, at = parser()
    settings = whole.parse_args(arguments)
    if getattr(settings, "smoke", False) or getattr(settings, "size", "") == "smoke":
        os.environ["XLA_FLAGS"] = QUICKLY
    # imported only now, when the environment says how to compile
    if settings.command == "quickstart":
        from benchmarks import quickstart

        quickstart.main(settings, at)
    elif settings.command == "list":
        from benchmarks.data import DATA

        for name, what in EXPERIMENTS.items():
            print(f"{name:12} {what}")
        print("\ndata sets:")
        for name, entry in DATA.items():
            print(f"{name:20} {entry.what}")
    elif settings.command == "report":
        from benchmarks import documents

        documents.make(EXPERIMENTS, settings.output)
    else:
        from benchmarks import experiment

        chosen, folder = experiment.load(settings.experiment), settings.output / settings.experiment
        try:
            if settings.command == "publish":
                print(experiment.publish(chosen, settings.size, folder))
                return
            experiment.setting_of(chosen, settings.size, settings.only)
        except (ValueError, re.error) as error:
            whole.error(str(error))
        experiment.run(chosen, settings.size, folder, minutes=settings.minutes, only=settings.only)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except OSError as error:
        print(f"python -m benchmarks: {error}", file=sys.stderr)
        raise SystemExit(1) from None
