"""Do the papers' claims hold? Identities with their errors, and claims with verdicts that rules compute.

`catalogue` has both, `evidence` the rule, the modules beside them what is compared; `document` writes
`benchmarks/CLAIMS.md` and `summary` the table of the README.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import experiment
from benchmarks.claims.catalogue import CLAIMS, PAPERS, Claim, Identity, Paper
from benchmarks.claims.evidence import (
    HOLDS,
    IN_PART,
    NOT_HERE,
    NOT_TESTABLE,
    NOT_TESTED,
    Contender,
    Evidence,
    Judged,
    Verdict,
    decide,
    judge,
)
from benchmarks.rows import Rows

BEGIN, END = "<!-- claims: begin -->", "<!-- claims: end -->"
VERDICTS = (HOLDS, IN_PART, NOT_HERE, NOT_TESTED, NOT_TESTABLE)
EXPERIMENTS = (
    "constant",
    "exact",
    "spline",
    "path-space",
    "path-metric",
    "response",
    "memory",
    "eigen-init",
    "automata",
    "cornn",
    "kernel-machine",
    "lyapunov",
)
COLUMNS = (
    *("data", "steps", "units", "updates", "baseline", "method"),
    *("diverged, of either", "difference", "p", "constant", "says", "the paper"),
)
LONG = 12  # rows, above which a table is folded

_HEAD = """# Do the papers' claims hold?

This page has two parts. **Identities** are theorems, or cannot be otherwise: they were checked numerically, and each
has its error. **Claims about training and data** may turn out either way, and have verdicts. `python -m benchmarks
report` makes the page from the results in `benchmarks/published`: no figure of ours is typed, and no verdict but
those of earlier rules.

{summary}
Size *small* is made for a CPU, and no test of what a method does at the papers' sizes, which `--size paper` runs; where
there are results of those, verdicts are theirs. Every rule below was written when the small results had been seen, and
before any at the papers' sizes; [what that changed](#what-the-rules-changed) is at the end. Those of
neighbouring papers, from Li, Precup and Rabusseau on, were written before any of their results.
{dirty}

## Identities
"""

_RULE = """
## Claims about training and data

Two ways are compared in each setting, seed by seed: the seeds share start and batches.

- **Difference**: the method's mean score less the baseline's, positive in the claim's favour, with its 95% interval.
  It counts if p < 0.05 by the paired t test, corrected by Holm's method over the settings of the claim, and is
  *undecided* else. Intervals are not corrected.
- **Diverged** runs are results. They rank worst, all alike; where there are some, ranks are tested in place of scores,
  and means are those of the other runs. (Of five seeds a sign test could never come below p = 0.06.)
- A setting says nothing where neither way leaves less than 0.9 of the loss, or of the errors, of the **constant**
  prediction (*nobody learns*), where both make fewer than one error in 200 (*at the ceiling*), or where it lacks what
  the claim is about (*not there*).
- A difference is left *open* where the rate of the way that loses is at the edge of those tried, marked \\*.
- A claim **holds** if it is better in at least half of the settings that say something, and worse in none; **in part**
  if better in at least a quarter and more often than worse; else it **does not hold here**: either the opposite was
  found, or five seeds do not tell. It is **not tested at this size** where the settings that are open, in which nobody
  learns or something is not there are at least as many as those that say something.
- Every rule has a **control** that must fail it: the same rule, with something in the place of what the claim is about.
"""


def evidence() -> dict[str, Evidence]:
    """By size, the papers' first, the published rows by experiment; of one that was not published there are none."""
    return {size: {name: _published(name, size) for name in EXPERIMENTS} for size in ("paper", "small")}


def _published(name: str, size: str) -> Rows[Any]:
    try:
        return experiment.published(experiment.load(name), size)[0]
    except FileNotFoundError:
        return Rows([], [], [])


def judged(claim: Claim, found: Mapping[str, Evidence]) -> dict[str, list[Judged]]:
    """What the comparisons of a claim say, by the sizes that there are any of."""
    sizes = {size: judge(claim.compare(rows)) for size, rows in found.items()}
    return {size: each for size, each in sizes.items() if each}


def verdict(claim: Claim, found: Mapping[str, Evidence]) -> Verdict:
    """The verdict on a claim, at the papers' size where there are results."""
    return next((decide(each) for each in judged(claim, found).values()), NOT_TESTED)


def document() -> str:
    """`benchmarks/CLAIMS.md`."""
    found = evidence()
    parts = [_HEAD.format(summary=summary(found), dirty=_dirty())]
    for paper in (one for one in PAPERS if one.identities):
        parts += [f"### {paper.title}\n", _identities(paper.identities, found["small"])]
    parts.append(_RULE)
    for paper in PAPERS:
        parts.append(f"### {paper.title}\n")
        parts += [_claim(paper, claim, found) for claim in paper.claims]
        parts += [
            f"#### {one.name}\n\n{one.says} **{one.verdict.capitalize()}**: {one.why}. The paper: {one.theirs}.\n"
            for one in paper.untested
        ]
    parts.append(_changes(found["small"]))
    return "\n".join(parts)


def summary(found: Mapping[str, Evidence]) -> str:
    """A table of the errors within bounds and of the verdicts, by paper."""
    lines = [f"| paper | identities within rounding or bound | claims: {' | '.join(VERDICTS)} |"]
    lines.append("|---" * (len(VERDICTS) + 2) + "|")
    for paper in PAPERS:
        within = sum(one.measure(found["small"])[0] <= one.bound for one in paper.identities)
        verdicts = [verdict(claim, found) for claim in paper.claims]
        count = Counter([*verdicts, *(one.verdict for one in paper.untested)])
        cells = " | ".join(str(count[each]) for each in VERDICTS)
        lines.append(f"| {paper.title} | {within} of {len(paper.identities)} | {cells} |")
    return "\n".join(lines) + "\n"


def with_summary(page: str) -> str:
    """A page with the summary between its marks."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{summary(evidence())}\n{END}{after}"


def _dirty() -> str:
    """How many published lines no commit reproduces."""
    lines = [line for name in EXPERIMENTS for line in experiment.published(experiment.load(name))[1]]
    count = sum(map(experiment.is_dirty, lines))
    return f"Of {len(lines):,} results {count:,} were computed with changes not committed, and are to be run again."


def _identities(identities: Sequence[Identity], found: Evidence) -> str:
    lines = ["| | identity | error | allowed | networks | what the error is | experiment |", "|---" * 7 + "|"]
    for one in identities:
        error, networks = one.measure(found)
        said = f"{error:.1g}" if error <= one.bound else f"**{error:.1g}**"
        lines.append(
            f"| {one.name} | {one.says} | {said} | {one.bound:g} | {networks} | {one.of} | `{one.experiment}` |"
        )
    return "\n".join(lines) + "\n"


def _claim(paper: Paper, claim: Claim, found: Mapping[str, Evidence]) -> str:
    control = "; ".join(
        f"{decide(judge(comparisons))} ({size})" for size, rows in found.items() if (comparisons := claim.fails(rows))
    )
    control = control or "no results"
    commands = ", ".join(f"`python -m benchmarks run {name} --size {{small,paper}}`" for name in claim.experiments)
    tables = [f"Size {size}: *{decide(each)}*. {_table(paper, each)}" for size, each in judged(claim, found).items()]
    return (
        f"#### {claim.name}\n\n{claim.says} **{verdict(claim, found).capitalize()}.**\n\n"
        f"- The paper: {claim.theirs}.\n- Compared: {claim.rule}\n- Control: {claim.control}: {control}.\n"
        f"- Made by {commands}.\n\n" + ("\n".join(tables) or "No published results are of what is compared.\n")
    )


def _table(paper: Paper, judged: Sequence[Judged]) -> str:
    shown = [one for one in judged if one.state != "at the ceiling"]
    lines = [
        f"| {' | '.join(COLUMNS)} |",
        "|---" * len(COLUMNS) + "|",
        *(_row(paper, one) for one in shown),
    ]
    table = "\n".join(lines) + "\n"
    left_out = f", and {len(judged) - len(shown)} at the ceiling, not shown" if len(shown) < len(judged) else ""
    counts = ", ".join(f"{count} {state}" for state, count in Counter(one.state for one in shown).items())
    metrics = "; ".join(dict.fromkeys(one.comparison.metric for one in shown))
    by_data = _verdicts_by_data(judged)
    said = f"Scores: {metrics}. Settings: {counts}{left_out}.{by_data}"
    if len(shown) <= LONG:
        return f"{said}\n\n{table}"
    return f"{said}\n\n<details><summary>{len(shown)} settings</summary>\n\n{table}\n</details>\n"


def _verdicts_by_data(judged: Sequence[Judged]) -> str:
    """The verdict on each data set by itself, where there are several."""
    found: dict[str, list[Judged]] = {}
    for one in judged:
        found.setdefault(one.comparison.setting.data.split(", ")[0], []).append(one)
    verdicts: dict[str, list[str]] = {}
    for data, of in found.items():
        verdicts.setdefault(decide(of), []).append(data)
    said = "; ".join(f"*{verdict}* on {', '.join(data)}" for verdict, data in verdicts.items())
    return f" By data: {said}." if len(found) > 1 else ""


def _row(paper: Paper, judged: Judged) -> str:
    one = judged.comparison
    seeds = len(one.seeds)
    difference = "by ranks" if math.isnan(judged.difference) else _difference(judged)
    data = one.setting.data
    theirs = next((said for start, said in paper.settings.items() if data.startswith(start)), "—")
    cells = (
        *one.setting,
        _way(one.theirs),
        _way(one.ours),
        f"{one.theirs.diverged} and {one.ours.diverged} of {seeds}" if seeds else "—",
        difference if seeds > 1 else "—",
        "—" if judged.state in ("nobody learns", "at the ceiling", "not there") else _p(judged.p),
        "—" if math.isnan(one.constant) else f"{one.constant:.3g}",
        f"**{judged.state}**" if judged.state in ("better", "worse") else judged.state,
        theirs,
    )
    return "| " + " | ".join(cells) + " |"


def _difference(judged: Judged) -> str:
    width = judged.high - judged.low
    digits = max(0, 2 - math.floor(math.log10(width))) if width > 0 else 3
    mean, low, high = (f"{value:+.{digits}f}" for value in (judged.difference, judged.low, judged.high))
    return f"{mean} ({low} to {high})"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def _way(way: Contender) -> str:
    score = "none" if math.isnan(way.mean) else f"{way.mean:.3g}"
    chosen = f" ({way.chosen}{'*' if way.at_edge else ''})" if way.chosen else ""
    return f"{way.name}{chosen}: {score}"


def _changes(found: Evidence) -> str:
    lines = ["| | before | now | what the rule has otherwise, and why |", "|---|---|---|---|"]
    for claim in (claim for claim in CLAIMS.values() if claim.before):
        lines.append(f"| {claim.name} | {claim.before} | {decide(judge(claim.compare(found)))} | {claim.changed} |")
    return (
        "## What the rules changed\n\nVerdicts of the same published results, by the rules before these and by these. "
        "Of the fifteen *holds* before, thirteen were of what is now counted apart as identities.\n\n"
        + "\n".join(lines)
        + "\n\nChanged before that, when results had been seen: what counts as having learned (spline-e2), from a "
        "validation loss below the start's to one below 0.9 of an even guess, as networks that die passed; and the "
        "share of settings that chance may bring (eigen-e). Chosen with these rules, when the controls had been seen: "
        "the quarter of settings that *in part* needs, as He's initializer passed for the eigen initializer without "
        "it.\n"
    )
