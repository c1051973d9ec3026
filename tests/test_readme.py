"""The README's examples run as they stand and print what it says."""

import contextlib
import io
import re
from pathlib import Path

import jax
import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize(("code", "output"), EXAMPLES)
def test_example_prints_what_the_readme_says(code, output):
    printed = io.StringIO()
    with jax.enable_x64(False), contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    assert printed.getvalue() == output


def test_there_is_an_example_and_every_python_block_is_one():
    assert len(EXAMPLES) == README.count("```python") > 0


def test_every_file_it_names_exists():
    root = Path(__file__).parent.parent
    named = re.findall(r"`((?:maso_rnn|path_opt|srnn|benchmarks|tests|docs)/[^`]*)`|\]\(([^)#:]+)\)", README)
    paths = [path for pair in named for path in pair if path]
    assert paths
    assert [path for path in paths if not (root / path).exists()] == []
