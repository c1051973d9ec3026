"""The examples of the README and of the documentation run as they stand and print what it says."""

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", "docs/datasets.md", "docs/extending.md", "docs/path_space.md", "docs/your_network.md"]


@pytest.mark.parametrize("page", PAGES)
def test_examples_print_what_the_page_says(page):
    text = (ROOT / page).read_text()
    examples = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", text, flags=re.DOTALL)
    assert len(examples) == text.count("```python") > 0
    names: dict = {}  # a page is read from the top
    for code, output in examples:
        printed = io.StringIO()
        with jax.enable_x64(False), contextlib.redirect_stdout(printed):
            exec(compile(code, page, "exec"), names)
        assert printed.getvalue() == output


@pytest.mark.slow
def test_the_documentation_builds_without_a_warning_and_its_notebooks_run(tmp_path):
    pytest.importorskip("sphinx", reason="the docs extra is not installed")
    build = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-d",
        tmp_path / "trees",
        "docs",
        tmp_path / "html",
    ]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:]
    notebooks = [page.stem for page in (ROOT / "docs").glob("*.md") if "file_format: mystnb" in page.read_text()]
    assert len(notebooks) >= 4
    for name in notebooks:
        html = (tmp_path / "html" / f"{name}.html").read_text()
        assert "cell_output" in html
        assert "_images/" in html


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_every_file_a_page_names_and_links_to_exists(page):
    text = (ROOT / page).read_text()
    named = re.findall(r"`((?:maso_rnn|path_opt|srnn|benchmarks|tests|docs|examples)/[\w./-]*)`", text)
    assert [path for path in named if not (ROOT / path).exists()] == []
    linked = [link for link in re.findall(r"\]\(([^)#\s]+)\)", text) if "://" not in link]
    assert [link for link in linked if not ((ROOT / page).parent / link).exists()] == []


def test_code_of_pages_fits_their_width():
    for page in ["README.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]:
        for block in re.findall(
            r"^```(?:python|\{code-cell\} python3)\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S
        ):
            if "remove-" not in block:
                assert [line for line in block.splitlines() if len(line) > 130] == [], page
