"""Two devices on the host, float64 on request, and the fixtures that every test may use."""

import os

# before jax starts: sharding is tested on two host devices
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"

import jax
import jaxtyping
import pytest

jax.config.update("jax_enable_x64", True)


@pytest.fixture
def key():
    return jax.random.key(20190501)


@pytest.fixture
def unchecked():
    """Types unchecked, as users run it: so that bad input meets our own errors, not the type checker's."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
