"""Two devices on the host, float64 on request, and one place for keys."""

import os

# before jax starts: sharding is tested on two host devices
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"

import jax
import pytest

jax.config.update("jax_enable_x64", True)


@pytest.fixture
def key():
    return jax.random.key(20190501)
