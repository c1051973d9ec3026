"""The report's section on parallel evaluation: how many rounds it takes, by length, start and training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from benchmarks.data.dataset import Dataset
from benchmarks.quickstart.training import Trained
from maso_rnn import RNN, init, parallel_forward, plots, style
from maso_rnn.report import Picture, Section

if TYPE_CHECKING:
    from benchmarks.quickstart import Quickstart


def parallel(trained: Trained, data: Dataset, settings: Quickstart) -> Section:
    """Rounds of parallel evaluation of fresh networks, and of one before and after training."""
    name, rnns = next(iter(trained.snapshots.items()))
    count, hidden = (1, 16) if settings.smoke else (2, 32)
    lengths = (32,) if settings.smoke else (16, 32, 64)
    xs = jnp.asarray(data.test.inputs[:count])
    networks = {
        **_fresh(jax.random.fold_in(jax.random.key(settings.seed), 4), xs, hidden),
        f"{name}, before training": rnns[0],
        f"{name}, trained": rnns[-1],
    }
    found = {name: np.array([_rounds(rnn, xs[:, :length]) for length in lengths]) for name, rnn in networks.items()}
    counted = {name: rows[:, 0] for name, rows in found.items()}
    lost = {name: int(rows[:, 1].sum()) for name, rows in found.items()}
    figure = style.new_figure(9, 4.5)
    plots.rounds_by_length(lengths, counted, axes=figure.add_subplot())
    least, most = (bound(row[-1] for row in counted.values()) for bound in (min, max))
    answer = f"{least:.0f} to {most:.0f} rounds for {lengths[-1]} steps, by network."
    return Section(
        "parallel",
        "All steps at once (experimental)",
        "Guess every code, solve the linear recurrence that they make in parallel over time, correct the codes, repeat "
        "until none changes: then it is the sequential answer. At most steps + layers rounds; the fewer, the more "
        f"there is to gain on an accelerator. Mean over {len(xs)} sequences; fresh networks have {hidden} units.",
        [Picture("parallel-rounds", "How many rounds find the codes of all steps at once?", figure, answer)],
        {"lengths": np.asarray(lengths), "rounds": counted, "not_converged": lost},
        [f"{name}: {count} evaluations did not converge." for name, count in lost.items() if count],
    )


def _fresh(key: Array, xs: Array, hidden: int) -> dict[str, RNN]:
    """Untrained networks that start differently."""

    def eye(key: Array, shape: Sequence[int], dtype: Any = None, out_sharding: Any = None) -> Array:
        return jnp.eye(shape[0], dtype=dtype)

    starts = {"orthogonal": jax.nn.initializers.orthogonal(), "identity": eye, "He": jax.nn.initializers.he_normal()}
    bias = jax.nn.initializers.normal(0.1)
    return {
        f"{name} start": init(key, xs.shape[2], [hidden], 10, recurrent_init=start, bias_init=bias, dtype=xs.dtype)
        for name, start in starts.items()
    }


@jax.jit
def _rounds(rnn: RNN, xs: Array) -> tuple[Array, Array]:
    results = jax.lax.map(lambda x: parallel_forward(rnn, x)[1:], xs)
    return results[0].mean(), (~results[1]).sum()
