"""The reference pages, made from the packages: every public name under the question that it answers."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

PICTURES = ("plots", "plots_automata", "plots_dynamics")

# imported by name, not by their package
BY_NAME = {
    "maso_rnn": ["adapters", "automata", "files", "batches", "initializers", *PICTURES, "style", "report"],
    "path_opt": ["plots"],
    "srnn": ["plots"],
}


def questions(package: ModuleType) -> dict[str, list[str]]:
    """By question, the names that answer it: from the package's docstring, or by module where that names none."""
    groups: dict[str, list[str]] = {}
    told = inspect.getdoc(package) or ""
    for heading, block in re.findall(r"^(\S[^\n]*[?:](?: \([^)]*\))?)\n((?:    [^\n]*\n)+)", told, flags=re.M):
        names = [name for name in re.findall(r"`([A-Za-z_]+)`", block) if name in package.__all__]
        names = [name for name in names if not inspect.ismodule(getattr(package, name))]
        known = {name for others in groups.values() for name in others}
        groups[heading.rstrip(":")] = [name for name in dict.fromkeys(names) if name not in known]
    if not groups:
        for name in package.__all__:
            module = sys.modules[getattr(package, name).__module__]
            heading = (inspect.getdoc(module) or "").split("\n")[0].rstrip(".")
            groups.setdefault(heading, []).append(name)
    grouped = {name for names in groups.values() for name in names}
    rest = [name for name in package.__all__ if name not in grouped and not inspect.ismodule(getattr(package, name))]
    return groups | ({"What they return and take": rest} if rest else {})


def page(name: str) -> str:
    """The page of a package, in Markdown."""
    package = importlib.import_module(name)
    lines = [f"# {name}", "", (inspect.getdoc(package) or "").split("\n")[0], ""]
    for question, names in questions(package).items():
        lines += [f"## {question}", "", "```{eval-rst}"]
        for one in names:
            value = getattr(package, one)
            if inspect.isclass(value):
                lines.append(f".. autoclass:: {name}.{one}")
            elif inspect.isfunction(value):
                lines.append(f".. autofunction:: {name}.{one}")
            else:
                lines.append(f".. autodata:: {name}.{one}\n   :no-value:")
        lines += ["```", ""]
    for one in BY_NAME[name]:
        lines += [f"## `{name}.{one}`, imported by name", "", "```{eval-rst}", f".. automodule:: {name}.{one}"]
        lines += ["   :members:", *(["   :imported-members:"] if one == "report" else []), "```", ""]
    return "\n".join(lines)


def write(*_: object) -> None:
    """Put the pages where Sphinx looks for them."""
    for name in BY_NAME:
        folder = Path(__file__).with_name("api")
        folder.mkdir(exist_ok=True)
        folder.joinpath(f"{name}.md").write_text(page(name), encoding="utf-8")
