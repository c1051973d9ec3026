"""Past one core and one machine: forced host devices, and processes that find each other on loopback."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.processes import EXAMPLES

ROOT = Path(__file__).parent.parent

# what moves more than its own means and sums, and why
ON_ONE_HOST = "eigenvalues come from LAPACK on the host, by a callback, which runs on one device for all"
LOOP = "a while loop, whose devices ask each other before every round whether any of them goes on"
RANKED = "a draw by rank: what is ranked, a number for each state, is sorted on one device"
EXCEPTIONS = {
    "maso_rnn.spectrum": ON_ONE_HOST,
    "maso_rnn.modal_coordinates": ON_ONE_HOST,
    "maso_rnn.pulse_decay": ON_ONE_HOST,
    "maso_rnn.eigen": ON_ONE_HOST,
    "maso_rnn.eigen[orthogonal]": ON_ONE_HOST,
    "maso_rnn.eigen[eigenvectors]": ON_ONE_HOST,
    "maso_rnn.np_rnn": ON_ONE_HOST,
    "maso_rnn.spectral_radius": ON_ONE_HOST,
    "maso_rnn.per_gate": ON_ONE_HOST,
    "maso_rnn.parallel_forward": LOOP,
    "maso_rnn.walk_line_on_device": LOOP,
    "maso_rnn.integrated_gradients_on_device": LOOP,
    "maso_rnn.nearest_change": LOOP,
    "maso_rnn.integrated_gradients_by_quadrature": LOOP,
    "maso_rnn.certified_radius": LOOP,
    "path_opt.condition": LOOP,
    "maso_rnn.sample_states": RANKED,
}
# by name: how many means there are, each of which is reduced over the devices once
MEANS = {
    # the mean, and whether any device has a gradient that its Gram matrix has lost
    "mean distance": 2,
    "mean template": 1,
    "mean penalty": 1,
    # the loss, and the gradient in each of five arrays: the optimisers add nothing
    "step of SGD": 6,
    "step of Path-SGD": 6,
    "step in path space": 6,
    "step of equivariant Adam": 6,
    "paths alone": 0,
    # the mean, the mean within the standard error, the squares about it, and the paths that diverged
    "ensemble, Gaussian": 4,
    "ensemble, two-point": 4,
    "ensemble, by sharding=": 4,
}
# products and sums of each device's share in the order of one device that has that share alone
BIT_EQUAL = (
    "maso_rnn.forward",
    "maso_rnn.affine_map",
    "maso_rnn.affine_maps",
    "maso_rnn.boundary_distance",
    "maso_rnn.noise_penalty",
    "srnn.simulate",
    "srnn.response_kernel[adjoint 1]",
)


def environment(devices):
    flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
    return os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 8])
def test_devices_say_what_one_device_says_and_move_nothing_but_means(devices):
    command = [sys.executable, "-m", "tests.sharded"]
    done = subprocess.run(command, cwd=ROOT, env=environment(devices), capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout)
    differing = {name: each for name, each in found.items() if each["difference"] > each["tolerance"]}
    assert differing == {}
    assert {name: found[name]["difference"] for name in BIT_EQUAL} == dict.fromkeys(BIT_EQUAL, 0)

    moving = {name for name, each in found.items() if each["collectives"].keys() - {"reduced"}}
    assert moving <= {name for name, why in EXCEPTIONS.items() if why in (ON_ONE_HOST, RANKED)}
    reduced = {name: each["collectives"].get("reduced", 0) for name, each in found.items()}
    assert {name: reduced[name] for name in MEANS} == MEANS
    rows = {name for name in found if "." in name}
    assert {name for name in rows if found[name]["collectives"]} == EXCEPTIONS.keys()


@contextlib.contextmanager
def processes(count, ids, output, timeout):
    """Started, and gone when left, whatever happens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    started = []
    try:
        for process in ids:
            command = [sys.executable, "-m", "tests.processes", address, str(count), str(process), str(timeout), output]
            started.append(
                subprocess.Popen(
                    command, cwd=ROOT, env=environment(2), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
                )
            )
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


@pytest.mark.slow
def test_two_processes_say_what_one_says(tmp_path):
    for count in (1, 2):
        with processes(count, range(count), tmp_path / f"{count}.npz", timeout=120) as started:
            for process in started:
                _, told = process.communicate(timeout=300)
                assert process.returncode == 0, told[-4000:]
    one, two = np.load(tmp_path / "1.npz"), np.load(tmp_path / "2.npz")
    assert (one["processes"], two["processes"], two["devices"]) == (1, 2, 4)
    assert two["count"] == EXAMPLES
    for name in ("mean", "stderr", "diverged", "count", "mean_distance"):
        np.testing.assert_allclose(two[name], one[name], rtol=1e-12)  # float64: sums in another order


@pytest.mark.slow
@pytest.mark.parametrize("alone", [0, 1])
def test_a_process_that_waits_for_another_in_vain_ends_with_an_error(tmp_path, alone):
    with processes(2, [alone], tmp_path / "none.npz", timeout=2) as (waiting,):
        _, told = waiting.communicate(timeout=120)
    assert waiting.returncode != 0
    assert "DEADLINE_EXCEEDED" in told
    assert not (tmp_path / "none.npz").exists()
