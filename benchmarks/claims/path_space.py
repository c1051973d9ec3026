"""Claims of the papers on path space and Path-SGD about training."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.claims.evidence import Comparison, Evidence, constant, contender, setting
from benchmarks.path_metric import METRICS
from benchmarks.path_space.training import SKELETON_ONE, shape
from benchmarks.rows import distinct, having

PAIRS = {"path-space SGD": "SGD", "path-space Adam": "Adam"}
FROZEN = {"SGD, frozen skeleton": "SGD", "Adam, frozen skeleton": "Adam"}
SUFFICES = 0.05  # of the loss of the whole metric


def against(
    evidence: Evidence, pairs: Mapping[str, str], *, start: str = "balanced", whole: bool = False
) -> list[Comparison]:
    """Test losses of methods against others, in each setting of sequences, or of images that are one step."""
    rows = evidence["path-space"]
    found = []
    there = [row for row in having(rows.final, start=start) if row.configuration.task.endswith("-whole") == whole]
    for name in distinct(there, shape):
        of = [row for row in there if shape(row.configuration) == name]
        one = of[0].configuration
        for method, baseline in pairs.items():
            if not (ours := having(of, method=method)) or not (theirs := having(of, method=baseline)):
                continue
            found.append(
                Comparison(
                    setting(evidence, one),
                    contender(rows, ours, method),
                    contender(rows, theirs, baseline),
                    metric="test loss",
                    higher=False,
                    constant=constant(evidence, one.task, "test_loss"),
                )
            )
    return found


def trains_better(evidence: Evidence) -> list[Comparison]:
    """Claim (d), from the papers' start: skeleton weights of 1."""
    return against(evidence, {**PAIRS, "path-space momentum": "momentum"}, start=SKELETON_ONE)


def trains_an_mlp_better(evidence: Evidence) -> list[Comparison]:
    """Claim (b) of Meng et al.: so does an MLP, a network of one step."""
    return against(evidence, {"path-space SGD": "SGD"}, start=SKELETON_ONE, whole=True)


def trains_better_from_balance(evidence: Evidence) -> list[Comparison]:
    """Claim (d), from a balanced start with this library's default skeleton."""
    return against(evidence, PAIRS)


def freezes(evidence: Evidence) -> list[Comparison]:
    """The control of claim (d): the weights that path space freezes are frozen, and nothing else."""
    return against(evidence, FROZEN)


def path_sgd_trains_better(evidence: Evidence) -> list[Comparison]:
    """Claim (b) of Neyshabur et al.: Path-SGD is better than SGD."""
    return against(evidence, {"Path-SGD": "SGD"})


def freezes_sgd(evidence: Evidence) -> list[Comparison]:
    """The control of claim (b) of Neyshabur et al."""
    return against(evidence, {"SGD, frozen skeleton": "SGD"})


def first_term_suffices(evidence: Evidence) -> list[Comparison]:
    """Claim (a) of Neyshabur et al.: κ¹ alone suffices."""
    rows = evidence["path-metric"]
    found = []
    for task in distinct(rows.final, "task"):
        for start in distinct(rows.final, "start"):
            of = having(rows.final, task=task, start=start)
            if set(distinct(of, "metric")) != set(METRICS):
                continue
            ours, theirs = (contender(rows, having(of, metric=metric), metric) for metric in METRICS)
            one = of[0].configuration
            found.append(
                Comparison(
                    setting(evidence, one)._replace(data=f"{task}, {start}"),
                    ours,
                    theirs,
                    metric="test loss",
                    higher=False,
                    constant=constant(evidence, task, "test_loss"),
                    margin=SUFFICES * theirs.mean,
                )
            )
    return found


def no_term_suffices(evidence: Evidence) -> list[Comparison]:
    """The control of claim (a) of Neyshabur et al.: no metric at all."""
    return [one._replace(margin=SUFFICES * one.theirs.mean) for one in against(evidence, {"SGD": "Path-SGD"})]
