"""What is made of the published results: a report for each experiment, and pages and tables of the documentation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks import claims, experiment, path_space
from benchmarks.claims import picture
from benchmarks.path_space import tables

ROOT = Path(__file__).parents[1]


def _path_space(page: str) -> str:
    return tables.with_tables(page, experiment.published(path_space.EXPERIMENT))


def _claims(page: str) -> str:
    del page
    return claims.document(claims.evidence())


def _readme(page: str) -> str:
    return claims.with_summary(page, claims.evidence())


# from a page as it is to the page as the results make it
DOCUMENTS: dict[str, Callable[[str], str]] = {
    "docs/path_space.md": _path_space,
    "benchmarks/CLAIMS.md": _claims,
    "README.md": _readme,
}


def make(names: Iterable[str], output: Path) -> None:
    """Write the reports of the experiments of those names that have published results, and rewrite the documents.

    Raises:
        ValueError: if published results are not those of the settings of size small.
    """
    for name in names:
        if (experiment.PUBLISHED / f"{name}.jsonl").exists():
            one = experiment.load(name)
            experiment.write(one, "small", experiment.published_lines(one), output / name)
            print(output / name / "report.html")
    for document, rewritten in DOCUMENTS.items():
        page = ROOT / document
        page.write_text(rewritten(page.read_text()))
        print(page)
    claims.PICTURE.write_bytes(picture.png(claims.evidence()))
    print(claims.PICTURE)
