"""The machine's load and the versions go into every result."""

import os
from importlib.metadata import version

import pytest


@pytest.hookimpl
def pytest_benchmark_update_machine_info(config, machine_info):
    del config
    machine_info["load"] = os.getloadavg()
    machine_info["versions"] = {name: version(name) for name in ("jax", "jaxlib", "numpy", "flax")}
