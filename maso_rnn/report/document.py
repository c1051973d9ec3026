"""A report: sections with pictures, readings and numbers, written as one self-contained page.

A section answers questions: each picture carries the question it answers as its caption, and a one-line reading of
what it shows, made from the numbers. Every number shown stands in the section's `values`, and so in `result.json`.
"""

from __future__ import annotations

import base64
import html
import io
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
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
        reading: one line that says what it shows here, made from the numbers.
    """

    name: str
    question: str
    figure: Figure
    reading: str


class Section(NamedTuple):
    """One section of a report.

    Attributes:
        name: its key in `result.json`: lower-case letters, digits and hyphens.
        title: its heading.
        text: one paragraph that says what is measured and how.
        pictures: the pictures, in order.
        values: every number shown, as what `json` can write, numpy and jax arrays included.
        warnings: what the reader must know before believing it: a cap that was hit, a walk cut short.
    """

    name: str
    title: str
    text: str
    pictures: Sequence[Picture]
    values: Mapping[str, Any]
    warnings: Sequence[str] = ()
