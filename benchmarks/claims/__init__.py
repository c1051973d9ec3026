"""Do the papers' claims hold? Each claim, what was measured, and a verdict that is computed from the published results.

`catalogue` has the claims with their rules, the modules beside it compute figures and verdicts, `document` writes
`benchmarks/CLAIMS.md` and `summary` the table of the README.
"""

from __future__ import annotations

from collections import Counter

from benchmarks import experiment
from benchmarks.claims.catalogue import PAPERS, Claim
from benchmarks.claims.evidence import HOLDS, IN_PART, NOT_HERE, NOT_TESTABLE, Evidence, Finding

BEGIN, END = "<!-- claims: begin -->", "<!-- claims: end -->"
VERDICTS = (HOLDS, IN_PART, NOT_HERE, NOT_TESTABLE)
MISSING = "not run yet"

_HEAD = """# Do the papers' claims hold?

Every claim of the papers behind this library, what was measured here, and a verdict that a rule computes from the
results in `benchmarks/published`: no verdict and no figure of ours is typed. `python -m benchmarks report` makes the
page again from them, and each experiment is run by its command. Figures are means ± standard errors over so many seeds
(of *exact*, random networks). *Recalled* figures are from memory and not to be quoted as the paper's; *not had* says
that the paper's text could not be obtained. Small sizes on a CPU are no test of what a method does at the papers'
sizes: `--size paper` runs those.

**The rule of comparisons**, where a rule names it: a difference counts if it is more than two of its standard errors.
The claim *holds* if it counts in favour in at least half of the comparisons and against in none, and holds *in part* if
in favour more often than against; both only if chance would bring as many in favour less than once in twenty times;
else it *does not hold here*.
"""


def evidence() -> Evidence:
    """The published rows by experiment; an experiment that was not published is not there."""
    names = {name for claims in PAPERS.values() for claim in claims for name in claim.experiments}
    found = {}
    for name in sorted(names):
        if (experiment.PUBLISHED / f"{name}.jsonl").exists():
            found[name] = experiment.published(experiment.load(name))
    return found


def judged(claim: Claim, evidence: Evidence) -> Finding | None:
    """What was found of a claim; none where its results were not published."""
    if claim.judge is None:
        return Finding(NOT_TESTABLE, "—", 0)
    if any(name not in evidence for name in claim.experiments):
        return None
    return claim.judge(evidence)


def document(evidence: Evidence) -> str:
    """`benchmarks/CLAIMS.md`."""
    parts = [_HEAD, summary(evidence)]
    for paper, claims in PAPERS.items():
        parts += [f"## {paper}\n", _table(claims, evidence), _rules(claims)]
    return "\n".join(parts)


def summary(evidence: Evidence) -> str:
    """A table of how many claims of each paper got which verdict."""
    counts = {
        paper: Counter(found.verdict if (found := judged(claim, evidence)) else MISSING for claim in claims)
        for paper, claims in PAPERS.items()
    }
    columns = [*VERDICTS, *([MISSING] if any(MISSING in count for count in counts.values()) else [])]
    lines = ["| claims of | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for paper, count in counts.items():
        lines.append(f"| {paper} | " + " | ".join(str(count[verdict]) for verdict in columns) + " |")
    return "\n".join(lines) + "\n"


def with_summary(page: str, evidence: Evidence) -> str:
    """A page with the summary between its marks."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{summary(evidence)}\n{END}{after}"


def _table(claims: tuple[Claim, ...], evidence: Evidence) -> str:
    lines = [
        "| | claim | verdict | measured here | seeds | the paper | where it differs | command |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for claim in claims:
        found = judged(claim, evidence)
        verdict, ours, seeds = found or (MISSING, "—", 0)
        commands = "<br>".join(f"`python -m benchmarks run {name} --size small`" for name in claim.experiments) or "—"
        cells = (
            claim.name,
            claim.says,
            f"**{verdict}**",
            ours,
            str(seeds or "—"),
            claim.theirs,
            claim.differs,
            commands,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _rules(claims: tuple[Claim, ...]) -> str:
    lines = [f"- **{claim.name}**: {claim.rule}" for claim in claims if claim.rule]
    return "The rules:\n\n" + "\n".join(lines) + "\n"
