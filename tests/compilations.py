"""How often XLA compiles while something runs."""

import contextlib

import jax

_counts = []


def _count(event, duration, **facts):
    del duration, facts
    if event == "/jax/core/compile/backend_compile_duration":
        for count in _counts:
            count.append(event)


jax.monitoring.register_event_duration_secs_listener(_count)


@contextlib.contextmanager
def counted():
    """Gives a function that says how many programs were compiled since."""
    count = []
    _counts.append(count)
    try:
        yield lambda: len(count)
    finally:
        _counts.remove(count)
