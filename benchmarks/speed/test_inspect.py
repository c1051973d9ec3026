"""`rnn-geometry inspect` on a network that PyTorch saved: two layers of 256, a thousand sequences of 784 steps."""

import subprocess
import sys
import time

import numpy as np
import pytest
from sklearn.datasets import load_digits

from benchmarks.speed.cores import all_cores
from benchmarks.speed.reach import Bar

HIDDEN, SEQUENCES, TIME = 256, 1000, 784
INSPECT = """
import sys
from benchmarks.speed.peak import peak_bytes
from maso_rnn.__main__ import main
main(sys.argv[1:])
print(peak_bytes())
"""


def saved_by_torch(torch, path):
    """Identity recurrent kernels and small input kernels, as a ReLU network that learned pixel by pixel still has."""
    torch.manual_seed(0)
    rnn = torch.nn.RNN(1, HIDDEN, 2, nonlinearity="relu", batch_first=True)
    model = torch.nn.ModuleDict({"rnn": rnn, "readout": torch.nn.Linear(HIDDEN, 10)})
    with torch.no_grad():
        for name, value in rnn.named_parameters():
            if name.startswith("weight_hh"):
                value.copy_(torch.eye(HIDDEN) + 0.01 * torch.randn(HIDDEN, HIDDEN) / HIDDEN**0.5)
            else:
                value.normal_(0, 0.01)
    torch.save(model.state_dict(), path)


def test_inspect(record, tmp_path):
    torch = pytest.importorskip("torch", reason="the interop extra is not installed")
    saved_by_torch(torch, tmp_path / "model.pt")
    images, labels = load_digits(return_X_y=True)
    enlarged = np.kron(images[:SEQUENCES].reshape(-1, 8, 8), np.ones((4, 4)))[:, 2:-2, 2:-2] / 16
    np.save(tmp_path / "xs.npy", enlarged.reshape(SEQUENCES, TIME, 1).astype("float32"))
    np.save(tmp_path / "labels.npy", labels[:SEQUENCES])
    files = ["--data", tmp_path / "xs.npy", "--labels", tmp_path / "labels.npy", "--output", tmp_path / "report"]
    command = [sys.executable, "-c", INSPECT, "inspect", tmp_path / "model.pt", *files, "--activation", "relu"]
    begun = time.perf_counter()
    with all_cores():
        done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, check=True, timeout=900)
    wall = time.perf_counter() - begun
    size = {"layers": 2, "hidden": HIDDEN, "sequences": SEQUENCES, "time": TIME}
    bars = (
        Bar("wall time, in seconds", wall, 180),
        Bar("peak memory of the process, in bytes", int(done.stdout.split()[-1]), 2e9),
    )
    record("rnn-geometry inspect", size, {}, bars)
