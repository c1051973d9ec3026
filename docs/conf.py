"""How Sphinx makes the documentation: `make docs`."""

import os
from importlib.metadata import metadata

# the pages are executed: their programs are many and small, so the compiler need not try hard
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

_about = metadata("rnn-geometry")
project = "rnn-geometry"
author = "The rnn-geometry developers"
release = _about["Version"]

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.intersphinx"]
exclude_patterns = ["build", "results"]
html_theme = "furo"
html_title = f"rnn-geometry {release}"
html_static_path: list[str] = []

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "auto"
nb_execution_raise_on_error = True
nb_execution_timeout = 300

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_use_rtype = False
suppress_warnings = ["intersphinx"]  # the inventories of other projects are not there without a network
nitpicky = False
