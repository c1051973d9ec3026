"""The report's section on response: a stochastic RNN that reads one of the digits."""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.data.dataset import Dataset
from maso_rnn.report import Section

if TYPE_CHECKING:
    from benchmarks.quickstart import Quickstart


def response(data: Dataset, settings: Quickstart) -> Section:
    """How a stochastic RNN in continuous time responds to a digit's pixels: predicted and simulated."""
    from benchmarks.response import kernels  # diffrax takes its time, and only the process that makes this needs it

    signal = np.asarray(data.test.inputs[0], float).reshape(-1, 1)
    if settings.smoke:
        signal = signal[: len(signal) // 4]
    signal = (signal - signal.mean()) / signal.std()
    model_key, noise_key = jax.random.split(jax.random.fold_in(jax.random.key(settings.seed), 5))
    setting = kernels.Setting(
        model=jax.jit(partial(kernels.tanh_srnn, inputs=1, hidden=4 if settings.smoke else 16))(model_key),
        control=jnp.asarray(signal),
        dt=0.1,
        paths=100 if settings.smoke else 2000,
        orders=1 if settings.smoke else 3,
        amplitudes=(0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0),
    )
    with warnings.catch_warnings():  # series and simulation take the same coarse steps, one a pixel
        warnings.filterwarnings("ignore", "dt = .* is coarse", UserWarning)
        found = kernels.measure(setting, noise_key)
    pictures = kernels.pictures(setting.amplitudes, found, prefix="response")
    return Section(
        "response",
        "Response of a stochastic RNN",
        f"A tanh RNN of {len(setting.model.bias)} units in continuous time, with noise, reads a digit pixel by pixel, "
        f"one each {setting.dt} units of time. Its kernels, expectations over {setting.paths} undriven paths, predict "
        "how the mean readout answers the digit at any small amplitude; simulation says how small. Both have the same "
        "noise and the same steps, one a pixel, so that their difference is what the series leaves out.",
        pictures,
        kernels.values(setting, found),
        kernels.warnings(found),
    )
