"""What `import maso_rnn` costs beyond what it stands on, and what it pulls in."""

import os
import subprocess
import sys

import numpy as np

from benchmarks.speed.reach import Bar

BASE = "import jax, flax.struct"
LEFT_OUT = ("matplotlib", "torch", "sklearn", "tqdm", "pandas", "scipy.stats")
# CPU seconds of the base, then of what comes on top of it, and which of the modules to be left out were loaded
SCRIPT = f"""
import sys, time
began = time.process_time()
{BASE}
base = time.process_time()
import maso_rnn
print(base - began, time.process_time() - base, *(name for name in {LEFT_OUT} if name in sys.modules))
"""


def test_import(record):
    runs = []
    # a package that pip has installed has been compiled to bytecode: the first import does that here
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, check=True)
    for _ in range(7):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
        )
        base, beyond, *loaded = done.stdout.split()
        assert not loaded
        runs.append((float(base), float(beyond)))
    base, beyond = np.median(runs, axis=0)
    low, high = np.quantile([beyond for _, beyond in runs], [0.25, 0.75])
    record(
        "import maso_rnn",
        {},
        {},
        [Bar(f"CPU time beyond `{BASE}` (s)", beyond, 0.05)],
        **{
            f"CPU time of `{BASE}` (s)": base,
            "quartiles beyond it (s)": [low, high],
            "not pulled in": ", ".join(LEFT_OUT),
        },
    )
