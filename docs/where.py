"""The page that says where each public function runs, made from the contract table that tests it there."""

from __future__ import annotations

from pathlib import Path

from tests.contracts import table

_HEAD = """# Where each function runs

Made from the table that the tests run: every "yes" is tested on every public function, in float64: `vmap` against a
loop, gradients against finite differences, `sharding` with examples on two devices against one. What runs under `jit`
runs on CPU, GPU and TPU; the tests run on CPUs. Functions on the host are NumPy in float64, and refuse tracers.

| function | runs on | `jit` | `vmap`, sharding | gradient | why not |
|---|---|---|---|---|---|
"""


def page() -> str:
    """The page, in Markdown."""
    lines = {}
    for row in table.rows():
        name = row.name.split("[")[0]
        marks = ("yes", "yes" if row.batched else "no", "yes" if row.gradient is not None else "no")
        callback = name.startswith("maso_rnn.initializers") or row.function.__module__.startswith(
            "maso_rnn.initializers"
        )
        on = "any; eigenvalues on the host, by callback" if callback else "any"
        lines[name] = f"| `{name}` | {on} | {' | '.join(marks)} | {row.why} |"
    for name, why in table.exempt("HOST").items():
        lines[name] = f"| `{name}` | host | no | no | no | {why} |"
    for name, why in table.exempt("TRANSFORMS").items():
        lines[name] = f"| `{name}` | any | yes | yes | no | {why} |"
    return _HEAD + "\n".join(lines[name] for name in sorted(lines)) + "\n"


def write(*_: object) -> None:
    """Put the page where Sphinx looks for it."""
    folder = Path(__file__).with_name("api")
    folder.mkdir(exist_ok=True)
    folder.joinpath("where.md").write_text(page(), encoding="utf-8")
