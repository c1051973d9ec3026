"""Two devices on the host, float64 on request, and the fixtures that every test may use."""

import contextlib
import os

# before jax starts: sharding is tested on two host devices
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"

import jax
import jax.monitoring
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


@pytest.fixture(scope="session")
def compilations():
    """How many programs XLA is given while a block runs: a list with one entry for each."""
    events = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: events.append(name) if name == "/jax/core/compile/backend_compile_duration" else None
    )

    @contextlib.contextmanager
    def counted():
        events.clear()
        yield events

    return counted
