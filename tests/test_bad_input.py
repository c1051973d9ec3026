"""Every argument of every public function, spoiled: an error that names it, or an answer that a docstring promises."""

import inspect
import json

import pytest

from tests import bad_input, bad_input_page
from tests.contracts import table
from tests.contracts.arguments import ARGUMENTS

pytestmark = pytest.mark.usefixtures("unchecked")
RESULTS = json.loads(bad_input_page.RESULTS.read_text())


def grouped(names):
    # one worker per function: its faults share what has been compiled, and its contract row may too
    return pytest.mark.parametrize(
        "name", [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in sorted(names)]
    )


def test_every_argument_of_every_public_function_is_spoiled():
    assert set(ARGUMENTS) == table.public_functions()
    for name in ARGUMENTS:
        wanted = set(inspect.signature(bad_input.function_of(name)).parameters)
        assert set(bad_input.arguments_of(name)) == wanted, name


def test_what_is_documented_stands_in_a_docstring():
    unused = list(bad_input.DOCUMENTED)
    for name in ARGUMENTS:
        told = bad_input.docstrings(name)
        for fault in bad_input.faults(name):
            for stage in (bad_input.OUTSIDE, bad_input.TRACED, bad_input.COMPILED):
                entry = bad_input.documented(name, fault, stage)
                if entry is not None:
                    assert entry.words in told, (name, entry)
                    unused = [other for other in unused if other is not entry]
    assert not unused


@pytest.mark.slow
@grouped(ARGUMENTS)
def test_bad_input_is_an_error_or_a_documented_answer(name):
    assert bad_input_page.known(name) == RESULTS[name]["known"], "python -m tests.bad_input_page makes it anew"


@pytest.mark.slow
@grouped(set(ARGUMENTS) - set(table.exempt("HOST")))
def test_traced_numbers_that_are_not_finite_show_in_the_result(name):
    assert bad_input_page.traced(name) == RESULTS[name]["traced"], "python -m tests.bad_input_page makes it anew"


def test_the_page_says_what_was_found_of_every_function():
    assert set(RESULTS) == set(ARGUMENTS)
    assert bad_input_page.PAGE.read_text() == bad_input_page.page(RESULTS)
