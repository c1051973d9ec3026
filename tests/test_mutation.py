"""The page of mutants: made from what was found, with a reason for each that no test sees."""

from tests import mutation


def test_every_mutant_is_killed_or_no_mistake():
    lines = mutation.results()
    last = {line["mutant"]: line["outcome"] for line in lines}
    assert len(last) >= mutation.SAMPLE
    assert {name for name, outcome in last.items() if outcome != "killed"} == set(mutation.REASONS)
    assert mutation.PAGE.read_text() == mutation.page(lines)
