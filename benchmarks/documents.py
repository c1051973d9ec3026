"""What is made of the published results: a report for each experiment, and pages and tables of the documentation."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks import claims, experiment, lyapunov, path_space
from benchmarks.claims import picture
from benchmarks.path_space import report, tables
from benchmarks.speed import page as speed

ROOT = Path(__file__).parents[1]


def _path_space(page: str) -> str:
    return tables.with_tables(page, experiment.published(path_space.EXPERIMENT)[0])


def _claims(page: str) -> str:
    del page
    return claims.document()


def _results_picture() -> Figure:
    return picture.results(claims.evidence()["small"])


def _path_space_picture() -> Figure:
    shown = ("SGD", "Adam", "Path-SGD", "equivariant Adam", "path-space Adam")
    return report.curves(experiment.published(path_space.EXPERIMENT)[0], "digits-10k-by-row, 64 hidden", shown)


def _speed(page: str) -> str:
    del page
    return speed.document()


# from a page as it is to the page as the results make it
DOCUMENTS: dict[str, Callable[[str], str]] = {
    "docs/path_space.md": _path_space,
    "benchmarks/CLAIMS.md": _claims,
    "benchmarks/SPEED.md": _speed,
    "README.md": claims.with_summary,
}


def _lyapunov_picture() -> Figure:
    [section] = lyapunov.sections(experiment.published(lyapunov.EXPERIMENT)[0])
    return section.pictures[0].figure


PICTURES: dict[str, Callable[[], Figure]] = {
    "docs/pictures/results.png": _results_picture,
    "docs/pictures/path_space.png": _path_space_picture,
    "docs/pictures/lyapunov.png": _lyapunov_picture,
}


def png(figure: Figure) -> bytes:
    """A figure as a file, which names the version of matplotlib that drew it."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110, metadata={"Software": f"matplotlib {mpl.__version__}"})
    return file.getvalue()


def make(names: Iterable[str], output: Path) -> None:
    """Write the reports of the experiments of those names that have published results, and rewrite the documents."""
    for name in names:
        if (experiment.PUBLISHED / f"{name}.jsonl").exists():
            one = experiment.load(name)
            experiment.write(one, "small", *experiment.published(one), output / name)
            print(output / name / "report.html")
    for document, rewritten in DOCUMENTS.items():
        page = ROOT / document
        page.write_text(rewritten(page.read_text()))
        print(page)
    for file, drawn in PICTURES.items():
        (ROOT / file).write_bytes(png(drawn()))
        print(ROOT / file)
