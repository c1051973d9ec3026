"""Nothing here unpickles, evaluates or executes what it reads: looked for in the syntax of every source file."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path
    for folder in ("maso_rnn", "path_opt", "srnn", "benchmarks", "examples")
    for path in (ROOT / folder).rglob("*.py")
)

# calls by their last names, and what makes one safe
FORBIDDEN = {"eval", "exec", "compile", "__import__"}
DANGEROUS = {
    ("pickle", "load"): "never",
    ("pickle", "loads"): "never",
    ("pickle", "Unpickler"): "never",
    ("marshal", "loads"): "never",
    ("shelve", "open"): "never",
    ("joblib", "load"): "never",
    ("yaml", "load"): "never",
    ("yaml", "unsafe_load"): "never",
    ("torch", "load"): "weights_only=True",
    ("np", "load"): "allow_pickle=False",
    ("numpy", "load"): "allow_pickle=False",
    ("tarfile", "extractall"): "never",
    ("zipfile", "extractall"): "never",
}


def faults(source):
    """Every call in a source that could run what it reads, as (line, what)."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN:
            found.append((node.lineno, node.func.id))
        if not isinstance(node.func, ast.Attribute):
            continue
        owner = node.func.value.id if isinstance(node.func.value, ast.Name) else None
        safe = DANGEROUS.get((owner, node.func.attr))
        if node.func.attr in ("extractall", "extract") and not any(k.arg == "filter" for k in node.keywords):
            found.append((node.lineno, node.func.attr))  # of any archive: a path in it may lead outside
        if safe is not None and safe not in {f"{k.arg}={ast.unparse(k.value)}" for k in node.keywords}:
            found.append((node.lineno, f"{owner}.{node.func.attr}"))
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_runs_what_it_reads(path):
    assert not faults(path.read_text())


@pytest.mark.parametrize(
    "line",
    [
        "pickle.load(file)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, Loader)",
        "eval(text)",
        "exec(text)",
        "archive.extractall(folder)",
    ],
)
def test_each_dangerous_call_is_seen(line):
    assert faults(line)


@pytest.mark.parametrize(
    "line", ["torch.load(path, weights_only=True)", "np.load(path, allow_pickle=False)", "jax.eval_shape(f, x)"]
)
def test_a_safe_call_is_not(line):
    assert not faults(line)
