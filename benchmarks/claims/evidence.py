"""What a verdict is computed from: one way of training against another in one setting, seed by seed.

The rule of all claims. In every setting the scores of two ways are subtracted, seed by seed: the seeds share start and
batches. A difference counts if p < 0.05 by the paired t test, after Holm's correction over the settings of the claim.
What diverged is a result: where some runs did, they are ranked worst, all alike, and ranks are subtracted in place of
scores. A setting says nothing if neither way learns, that is, leaves less than 0.9 of the loss or of the errors of the
constant prediction, or if both make fewer than one error in 200. A difference is left open if the learning rate of the
way that loses is at the edge of those tried: it may only have been searched badly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from scipy import stats

from benchmarks.rows import Row, Rows, has_diverged, tried_rates

Verdict: TypeAlias = Literal[
    "holds", "holds in part", "does not hold here", "not tested at this size", "not testable here"
]
State: TypeAlias = Literal["better", "worse", "undecided", "open", "nobody learns", "at the ceiling", "not there"]

HOLDS: Verdict = "holds"
IN_PART: Verdict = "holds in part"
NOT_HERE: Verdict = "does not hold here"
NOT_TESTED: Verdict = "not tested at this size"
NOT_TESTABLE: Verdict = "not testable here"

Evidence: TypeAlias = Mapping[str, Rows[Any]]

LEVEL = 0.05
CEILING = 0.995  # of accuracy
LEARNED = 0.9  # of the loss, or of the errors, of the constant prediction


class Setting(NamedTuple):
    """What was trained: `data`, `steps` of a sequence, `units`, and `updates` of the optimiser; "—" where none is."""

    data: str
    steps: str = "—"
    units: str = "—"
    updates: str = "—"


class Contender(NamedTuple):
    """How one way fared in a setting.

    Attributes:
        name: of the way.
        scores: by seed; not a number where it diverged.
        chosen: the settings chosen for it, in words.
        at_edge: whether its learning rate is at the edge of those tried.
    """

    name: str
    scores: Mapping[int, float]
    chosen: str = ""
    at_edge: bool = False

    @property
    def diverged(self) -> int:
        """How many seeds did."""
        return sum(math.isnan(score) for score in self.scores.values())

    @property
    def mean(self) -> float:
        """The mean score of the seeds that did not diverge."""
        kept = [score for score in self.scores.values() if not math.isnan(score)]
        return float(np.mean(kept)) if kept else math.nan


class Comparison(NamedTuple):
    """Two ways in one setting; the claim is that `ours` scores better, or worse by less than the margin.

    Attributes:
        setting: which one.
        ours: the way that the claim is for.
        theirs: the one that it is held against.
        metric: what the scores are.
        higher: whether more is better.
        constant: the score of the constant prediction; not a number where there is none.
        margin: by how much `ours` may be worse.
        idle: whether the setting lacks what the claim is about, such as gradients that explode.
    """

    setting: Setting
    ours: Contender
    theirs: Contender
    metric: str
    higher: bool = True
    constant: float = math.nan
    margin: float = 0.0
    idle: bool = False

    @property
    def seeds(self) -> list[int]:
        """The seeds that both have."""
        return [seed for seed in self.ours.scores if seed in self.theirs.scores]

    def pairs(self) -> np.ndarray:
        """(2, seed), the scores of `ours` and `theirs`, more always better, −∞ where one diverged."""
        both = [[way.scores[seed] for seed in self.seeds] for way in (self.ours, self.theirs)]
        values = np.asarray(both, float) * (1 if self.higher else -1)
        return np.where(np.isnan(values), -np.inf, values)


class Judged(NamedTuple):
    """What a comparison says.

    Attributes:
        comparison: which one.
        difference: the mean of `ours` less `theirs` over seeds, in the claim's favour where positive.
        low: the lower end of its 95% interval.
        high: the upper end; all three are not numbers where a run diverged.
        p: by the paired t test, corrected by Holm's method over the comparisons of the claim.
        state: see the module.
    """

    comparison: Comparison
    difference: float
    low: float
    high: float
    p: float
    state: State


def judge(comparisons: Sequence[Comparison]) -> list[Judged]:
    """What the comparisons of one claim say."""
    silent = [_silent(one) for one in comparisons]
    tests = [_t_test(one) for one in comparisons]
    corrected = iter(holm([p for (p, _), state in zip(tests, silent, strict=True) if not state]))
    found = []
    for one, (p, sign), state in zip(comparisons, tests, silent, strict=True):
        p = p if state else next(corrected)
        if not state:
            loser = one.theirs if sign > 0 else one.ours
            state = "undecided" if p >= LEVEL else "open" if loser.at_edge else "better" if sign > 0 else "worse"
        found.append(Judged(one, *_interval(one), p, state))
    return found


def decide(found: Sequence[Judged]) -> Verdict:
    """The verdict on a claim.

    It holds if `ours` is better in at least half of the settings that say something and worse in none, and in part if
    better in at least a quarter and more often than worse. It is not tested if these settings are no more than those
    left open, in which nobody learns or in which something is not there.
    """
    states = [one.state for one in found]
    better, worse = states.count("better"), states.count("worse")
    said = better + worse + states.count("undecided")
    if said <= states.count("open") + states.count("nobody learns") + states.count("not there"):
        return NOT_TESTED
    if better <= worse or 4 * better < said:
        return NOT_HERE
    return HOLDS if not worse and 2 * better >= said else IN_PART


def holm(values: Sequence[float]) -> list[float]:
    """The p values of one family, corrected so that one false find among them is as rare as for a single one."""
    corrected, highest = [1.0] * len(values), 0.0
    for rank, at in enumerate(np.argsort(values, kind="stable")):
        highest = max(highest, min(1.0, (len(values) - rank) * values[at]))
        corrected[at] = highest
    return corrected


def _silent(one: Comparison) -> State | None:
    """Why a setting says nothing of a claim, if it does not."""
    if len(one.seeds) < 2 or one.idle:
        return "not there"
    ways = (one.ours, one.theirs)
    if not math.isnan(one.constant) and not any(_learns(one, way) for way in ways):
        return "nobody learns"
    is_full = one.metric == "test accuracy" and all(way.mean >= CEILING and not way.diverged for way in ways)
    return "at the ceiling" if is_full else None


def _learns(one: Comparison, way: Contender) -> bool:
    """Whether most seeds survive, and those leave less than `LEARNED` of what the constant prediction does."""
    kept = np.asarray([score for score in way.scores.values() if not math.isnan(score)])
    if 2 * len(kept) <= len(way.scores):
        return False
    errors, guessed = (1 - kept, 1 - one.constant) if one.higher else (kept, one.constant)
    p, sign = _t(LEARNED * guessed - errors)
    return sign > 0 and p < LEVEL


def _t_test(one: Comparison) -> tuple[float, int]:
    """The p value of the paired t test, on ranks where a run diverged, and the sign of the difference."""
    pairs = one.pairs() + np.asarray([[one.margin], [0.0]])
    if not np.isfinite(pairs).all():
        pairs = stats.rankdata(pairs).reshape(pairs.shape)
    return _t(pairs[0] - pairs[1])


def _t(differences: np.ndarray) -> tuple[float, int]:
    """The p value of the t test that their mean is 0, and its sign."""
    if len(differences) < 2:
        return 1.0, 0
    mean, spread = differences.mean(), differences.std(ddof=1)
    if spread <= 1e-12 * abs(mean):  # all alike but for rounding
        return float(mean == 0), int(np.sign(mean))
    t = mean / (spread / math.sqrt(len(differences)))
    return float(2 * stats.t.sf(abs(t), len(differences) - 1)), int(np.sign(mean))


def _interval(one: Comparison) -> tuple[float, float, float]:
    """The mean difference and its 95% interval."""
    pairs = one.pairs()
    if pairs.shape[1] < 2 or not np.isfinite(pairs).all():
        return (math.nan,) * 3
    differences = pairs[0] - pairs[1]
    mean = float(differences.mean())
    half = float(stats.t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / math.sqrt(len(differences)))
    return mean, mean - half, mean + half


def contender(rows: Rows[Any], final: Sequence[Row[Any]], name: str, metric: str = "test_loss") -> Contender:
    """A way from its rows at the settings chosen for it, among those of an experiment."""
    one = final[0].configuration
    rates = tried_rates(rows, one)
    scores = {
        row.configuration.seed: math.nan if has_diverged(row.result) else float(row.result[metric]) for row in final
    }
    names = {"rate": "rate", "sigma": "σ", "clip": "clip"}
    chosen = {said: getattr(one, field, 0) for field, said in names.items()}
    said = ", ".join(f"{said} {value:g}" for said, value in chosen.items() if value and math.isfinite(value))
    return Contender(name, scores, said, bool(rates) and one.rate in (min(rates), max(rates)))


def by_seed(name: str, rows: Iterable[Row[Any]], value: Callable[[Row[Any]], float]) -> Contender:
    """A way whose score in each seed is the mean over the rows of that seed."""
    found: dict[int, list[float]] = {}
    for row in rows:
        found.setdefault(row.configuration.seed, []).append(value(row))
    return Contender(name, {seed: float(np.mean(values)) for seed, values in found.items()})


def level(name: str, value: float, like: Contender) -> Contender:
    """A number that another's scores are held against, the same for each of its seeds."""
    return Contender(name, dict.fromkeys(like.scores, value))


def setting(evidence: Evidence, one: Any) -> Setting:
    """The setting of a configuration that is trained on a task; an epoch is as many sequences as there are."""
    hidden = one.hidden
    widths = (hidden,) if isinstance(hidden, int) else tuple(hidden)
    units = f"{len(widths)} × {widths[0]}" if len(widths) > 1 else str(widths[0])
    known = _constants(evidence, one.task)
    epochs = f" ({one.steps * one.batch / known['examples']:.2g} epochs)" if known else ""
    return Setting(one.task, str(known.get("length", "—")), units, f"{one.steps:,}{epochs}")


def constant(evidence: Evidence, task: str, metric: str) -> float:
    """What the constant prediction scores on a task; not a number where that was not published."""
    return float(_constants(evidence, task).get(metric, math.nan))


def _constants(evidence: Evidence, task: str) -> Mapping[str, Any]:
    return next((row.result for row in evidence["constant"].fixed if row.configuration.task == task), {})
