"""How Sphinx makes the documentation: `make docs`."""

import logging
import os
import re
import sys
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
from docs import reference, where

# the pages are executed: their programs are many and small, so the compiler need not try hard
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

logging.getLogger("jax").setLevel(logging.WARNING)  # Sphinx would print that no TPU was found

_about = metadata("rnn-geometry")
project = "rnn-geometry"
author = "The rnn-geometry developers"
release = _about["Version"]

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["build"]
html_theme = "furo"
html_title = f"rnn-geometry {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_show_copyright = False
html_show_sourcelink = False
default_role = "py:obj"  # what stands in single backticks in a docstring: a link where it is a public name
nb_merge_streams = True

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # shapes stand in the lists of arguments
autodoc_preserve_defaults = True
napoleon_use_ivar = True
napoleon_attr_annotations = False  # nor beside attributes
napoleon_use_rtype = False
napoleon_custom_sections = ["Source"]


def literal(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are read in editors: stars, bars and final underscores in their equations are no markup.

    A pair of stars around words is: it marks them.
    """
    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            parts = line.split("`")
            for j in range(0, len(parts), 2):
                marked = re.split(r"(?<![\w*\\])(\*{1,2}\w[^*|_]*\w\*{1,2})(?![\w*])", parts[j])
                marked[::2] = [re.sub(r"(?<!\\)([*|]|_(?!\w))", r"\\\1", part) for part in marked[::2]]
                parts[j] = "".join(marked)
            lines[i] = "`".join(parts)


def without_fields(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """The fields of a NamedTuple stand under its attributes already."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app: Any) -> None:
    """The reference pages are made anew for every build."""
    app.connect("builder-inited", where.write)
    app.connect("builder-inited", reference.write)
    app.connect("autodoc-process-docstring", literal, priority=900)  # after napoleon
    app.connect("autodoc-skip-member", without_fields)
