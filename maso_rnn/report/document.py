"""A report: a summary, then sections of pictures with their readings, written as one self-contained page.

Each picture carries the question that it answers, and a reading of one or two sentences that answers it, made from the
numbers. How it was measured, and the numbers, stand in a fold below; every number is in `result.json` too. The summary
is made of the sections' `answers`, each a link to its section, and of the pictures that `leads` marks.
"""

from __future__ import annotations

import base64
import html
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure


class Picture(NamedTuple):
    """One picture of a report.

    Attributes:
        name: its file name without ending: lower-case letters, digits and hyphens.
        question: the question that it answers, its caption.
        figure: the matplotlib figure.
        reading: one or two sentences that answer the question: yes, no or how much.
        leads: whether the summary shows it too.
    """

    name: str
    question: str
    figure: Figure
    reading: str
    leads: bool = False


class Section(NamedTuple):
    """One section of a report.

    Attributes:
        name: its anchor: lower-case letters, digits and hyphens.
        title: its heading.
        text: what is measured, and how, for the fold below the pictures.
        pictures: the pictures, in order.
        values: every number shown, as what `json` can write, numpy and jax arrays included.
        warnings: what the reader must know before believing it: a cap that was hit, a walk cut short.
        answers: its lines of the summary, each one sentence.
    """

    name: str
    title: str
    text: str
    pictures: Sequence[Picture]
    values: Mapping[str, Any]
    warnings: Sequence[str] = ()
    answers: Sequence[str] = ()


def write(folder: Path, title: str, introduction: str, sections: Iterable[Section], facts: Mapping[str, Any]) -> None:
    """Write `report.html`, one PNG a picture and `result.json` into `folder`, all of them or none.

    Everything is written beside the folder first and then moved into its place, so that an interrupted run leaves an
    earlier report as it was, and never half of a new one.

    Args:
        folder: where the report goes; an earlier report there is replaced, anything else there stops it.
        title: the heading.
        introduction: one paragraph under it.
        sections: the sections, in order; where a generator makes them, each is drawn while the next is made.
        facts: configuration, seed and versions, for `result.json` and the foot of the page.

    Raises:
        FileExistsError: if `folder` holds anything but an earlier report.
        ValueError: if two sections or pictures share a name, or a name is not lower-case words with hyphens.
        OSError: if it cannot be written.

    Example:
        >>> with tempfile.TemporaryDirectory() as above:
        ...     folder = Path(above) / "report"
        ...     write(folder, "A title", "What it is about.", [], {"seed": 0})
        ...     sorted(path.name for path in folder.iterdir())
        ['report.html', 'result.json']
    """
    folder = refuse_foreign(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        sections = _drawn(sections, draft)
        pictures = [picture for section in sections for picture in section.pictures]
        result = {
            "title": title,
            **facts,
            "pictures": [f"{picture.name}.png" for picture in pictures],
            "sections": {section.name: section.values for section in sections},
        }
        text = json.dumps(plain(result), indent=1, allow_nan=False) + "\n"
        (draft / "result.json").write_text(text, encoding="utf-8")
        page = "\n".join(_page(draft, title, introduction, sections, facts))
        (draft / "report.html").write_text(page, encoding="utf-8")
        draft.chmod(0o755)
        _replace(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _drawn(sections: Iterable[Section], draft: Path) -> list[Section]:
    """The sections, once all of their pictures are files in `draft`; a second thread draws them."""
    done: list[Section] = []
    drawings: dict[str, Future[None]] = {}
    with ThreadPoolExecutor(max_workers=1) as pen:
        try:
            for section in sections:
                _check_name(section.name, [other.name for other in done])
                done.append(section)
                for picture in section.pictures:
                    _check_name(picture.name, drawings)
                    path = draft / f"{picture.name}.png"
                    drawings[picture.name] = pen.submit(
                        picture.figure.savefig, path, dpi=130, metadata={"Software": None}
                    )
            for drawing in drawings.values():
                drawing.result()
        except BaseException:
            pen.shutdown(cancel_futures=True)
            raise
    return done


def _check_name(name: str, taken: Collection[str]) -> None:
    if name in taken or not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ValueError(f"names must differ, and be lower-case words with hyphens, got {name!r}")


def refuse_foreign(folder: Path) -> Path:
    """The folder's own path, once it is known that a report can be put there, before work is spent on one.

    Args:
        folder: where the report is to go; it need not exist.

    Returns:
        The same folder, with all links followed.

    Raises:
        FileExistsError: if `folder` is a file, or holds anything but an earlier report.
        PermissionError: if it cannot be replaced: it or its parent may not be written to, or it is the working
            directory or a mount point.

    Example:
        >>> with tempfile.TemporaryDirectory() as above:
        ...     refuse_foreign(Path(above) / "report").name
        'report'
    """
    folder = folder.resolve()
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; name a folder")
    if folder == Path.cwd() or folder in Path.cwd().parents or folder.is_mount():
        raise PermissionError(f"{folder} is in use and cannot be replaced; name a folder below it")
    if folder.is_dir() and (foreign := {path.name for path in folder.iterdir()} - _earlier(folder)):
        raise FileExistsError(f"{folder} holds files that are not a report's ({min(foreign)}); name another folder")
    above = next(path for path in (folder, *folder.parents) if path.exists())
    for path in {above, folder.parent} if folder.parent.exists() else {above}:
        if not os.access(path, os.W_OK):
            raise PermissionError(f"{path} may not be written to")
    return folder


def _earlier(folder: Path) -> set[str]:
    """The names of the files of the report that the folder holds; none if it holds none."""
    try:
        pictures = json.loads((folder / "result.json").read_text(encoding="utf-8"))["pictures"]
        return {"report.html", "result.json", *pictures}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _replace(draft: Path, folder: Path) -> None:
    """Put the finished draft where the folder is or shall be; if that fails, the earlier one stays."""
    if not folder.exists():
        draft.rename(folder)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        folder.rename(aside / "earlier")
        draft.rename(folder)
    except BaseException:
        if not folder.exists():
            (aside / "earlier").rename(folder)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def plain(value: Any) -> Any:
    """What JSON can hold of numbers, arrays, mappings and sequences; a number that is not finite becomes its name."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return plain(np.asarray(value).tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, str | bool | int):
        return value
    raise TypeError(f"values must be numbers, text, arrays, mappings or sequences, got {type(value).__name__}")


_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
figure { margin: 1.5rem 0; } img { max-width: 100%; } a { color: #0072B2; }
figcaption { font-weight: 600; } .reading { margin: .2rem 0 0; }
.summary { background: #f4f6f8; padding: .5rem 1rem 1rem; } .summary li { margin: .2rem 0; }
.summary li a { color: inherit; text-decoration: none; } .summary li a::after { content: " →"; color: #0072B2; }
.summary img { margin-top: 1rem; }
.warning { background: #fff4ce; border-left: 4px solid #b35900; padding: .4rem .8rem; }
details { margin: 1rem 0; overflow-x: auto; } summary { cursor: pointer; color: #0072B2; }
table { border-collapse: collapse; font-size: 14px; } td, th { padding: .1rem .8rem .1rem 0; text-align: left; }
td { overflow-wrap: anywhere; } nav a { margin-right: 1rem; } footer { margin-top: 3rem; color: #555; }
"""


def _page(
    draft: Path, title: str, introduction: str, sections: Sequence[Section], facts: Mapping[str, Any]
) -> Iterator[str]:
    """The page, line by line, with the pictures inside it."""
    text = html.escape

    def image(picture: Picture) -> str:
        data = base64.b64encode((draft / f"{picture.name}.png").read_bytes()).decode("ascii")
        return f'<img alt="{text(picture.question)}" src="data:image/png;base64,{data}">'

    yield "<!doctype html>"
    yield f'<html lang="en"><head><meta charset="utf-8"><title>{text(title)}</title>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<style>{_STYLE}</style></head><body>"
    yield f"<h1>{text(title)}</h1><p>{text(introduction)}</p>"
    answers = [(section.name, answer) for section in sections for answer in section.answers]
    if answers:
        yield '<div class="summary"><h2>In short</h2><ul>'
        yield from (f'<li><a href="#{name}">{text(answer)}</a></li>' for name, answer in answers)
        yield "</ul>"
        for section in sections:
            for picture in section.pictures:
                if picture.leads:
                    yield f'<a href="#{section.name}" title="{text(picture.question)}">{image(picture)}</a>'
        yield "</div>"
    yield "<nav>" + " ".join(f'<a href="#{s.name}">{text(s.title)}</a>' for s in sections) + "</nav>"
    for section in sections:
        yield f'<section id="{section.name}"><h2>{text(section.title)}</h2>'
        yield from (f'<p class="warning">{text(warning)}</p>' for warning in section.warnings)
        for picture in section.pictures:
            yield f"<figure><figcaption>{text(picture.question)}</figcaption>{image(picture)}"
            yield f'<p class="reading">{text(picture.reading)}</p></figure>'
        yield f"<details><summary>How it was measured, and the numbers</summary><p>{text(section.text)}</p>"
        yield f"<table>{_rows(plain(section.values))}</table></details></section>"
    yield "<footer><p>Every number stands in result.json too. How the report was made:</p>"
    yield f"<table>{_rows(plain(facts))}</table></footer></body></html>"


def _rows(values: Any, path: tuple[str, ...] = ()) -> str:
    """The rows of a table of numbers; a long array is told by its length and range."""
    if isinstance(values, dict):
        return "".join(_rows(item, (*path, name)) for name, item in values.items())
    shown = str(values)
    if isinstance(values, float):
        shown = f"{values:.4g}"
    elif isinstance(values, list) and len(shown) > 80:
        flat = np.array([item for item in np.ravel(np.array(values, object)) if isinstance(item, int | float)], float)
        ends = f", from {flat.min():.4g} to {flat.max():.4g}" if flat.size else ""
        shown = f"{len(values)} entries{ends}"
    name = " · ".join(path).replace("_", " ")
    return f"<tr><th>{html.escape(name)}</th><td>{html.escape(shown)}</td></tr>"
