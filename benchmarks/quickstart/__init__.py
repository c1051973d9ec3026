"""The main job: train an RNN on real digits, with and without noise on the initial state, and open it up."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import multiprocessing
import os
import platform
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from importlib.metadata import version
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from benchmarks.data.dataset import Dataset
from benchmarks.data.digits import digits
from benchmarks.quickstart import noise
from benchmarks.quickstart.parallel import parallel
from benchmarks.quickstart.path_space import path_space
from benchmarks.quickstart.regions import regions_through_training
from benchmarks.quickstart.response import response
from benchmarks.quickstart.training import Trained, Training, accuracy, train
from maso_rnn import plots, report, style
from maso_rnn.command import Parser
from maso_rnn.report import Picture, Section


class Quickstart(NamedTuple):
    """What the sections need to know of how the demo was called.

    Attributes:
        smoke: a small network for a few epochs on fewer digits: seconds instead of minutes, and no good digits.
        seed: of the start, the batches and the noise.
        sigma: standard deviation of the noise on the initial state.
    """

    smoke: bool
    seed: int
    sigma: float


def main(arguments: argparse.Namespace, at: Parser) -> None:
    """Check the arguments, train, analyse, write the report."""
    if not 0 <= arguments.seed < 2**31:
        at.error(f"--seed must be in [0, 2**31), got {arguments.seed}")
    if not 0 < arguments.sigma < 1e6:
        at.error(f"--sigma must be between 0 and a million, got {arguments.sigma}")
    if arguments.epochs is not None and arguments.epochs < 1:
        at.error(f"--epochs must be at least 1, got {arguments.epochs}")
    try:
        report.refuse_foreign(arguments.output)
    except OSError as error:
        at.error(f"--output: {error}")
    settings = Quickstart(arguments.smoke, arguments.seed, arguments.sigma)

    began = time.monotonic()
    training = Training(seed=settings.seed, sigma=settings.sigma, epochs=arguments.epochs or 80)
    data = digits(by="pixel")
    if settings.smoke:
        training = dataclasses.replace(training, hidden=16, epochs=arguments.epochs or 3)
        data = data._replace(train=data.train.first(256), test=data.test.first(60))
    facts = {
        "configuration": {**dataclasses.asdict(training), "smoke": settings.smoke, "data": data.name},
        "seed": settings.seed,
        "data": f"{data.source}; {data.licence}",
        "versions": {name: version(name) for name in ("rnn-geometry", "jax", "jaxlib", "flax", "optax", "numpy")}
        | {"python": platform.python_version()},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {jax.devices()[0].platform}",
    }
    with _beside() as beside:
        report.write(
            arguments.output,
            "What is this RNN made of?",
            "Two ReLU RNNs read handwritten digits one pixel at a time. They start alike and see the same batches; one "
            "has noise on its initial state while it trains. That one is opened up here, on digits it has not seen.",
            _sections(data, training, settings, beside),
            facts,
        )
    print(f"{arguments.output / 'report.html'} ({time.monotonic() - began:.0f} s)")


@contextlib.contextmanager
def _beside() -> Iterator[Executor]:
    """A process beside this one, which ends at once where the work here fails or is interrupted."""
    context = multiprocessing.get_context("spawn")
    ignore = (signal.SIGINT, signal.SIG_IGN)  # an interrupt is for this process, which then ends the other
    with ProcessPoolExecutor(1, mp_context=context, initializer=signal.signal, initargs=ignore) as beside:
        try:
            yield beside
        except BaseException:
            for child in multiprocessing.active_children():
                child.terminate()
            raise


def _sections(data: Dataset, training: Training, settings: Quickstart, beside: Executor) -> Iterator[Section]:
    meanwhile = [beside.submit(make, data, settings) for make in UNTRAINED]
    trained = train(data, training)
    meanwhile += [beside.submit(make, trained, data, settings) for make in LATER]
    yield accuracies(trained, data)
    *_, network = trained.networks.values()
    yield from report.inspect(
        network,
        np.asarray(data.test.inputs),
        np.asarray(data.test.targets),
        image_shape=(8, 8),
        noise_scale=settings.sigma,
        key=jax.random.fold_in(jax.random.key(settings.seed), 1),
        progress=tqdm,
    )
    for section in tqdm(meanwhile, desc="waiting for the other sections"):
        yield section.result()
    beside.shutdown(wait=False)  # it ends while the last pictures are drawn


def accuracies(trained: Trained, data: Dataset) -> Section:
    """How well the networks learned."""
    measure = jax.jit(accuracy)
    test = {name: float(measure(rnn, jax.tree.map(jnp.asarray, data.test))) for name, rnn in trained.networks.items()}
    error = {name: float(np.sqrt(a * (1 - a) / len(data.test.inputs))) for name, a in test.items()}
    figure = style.new_figure(style.PAGE, 4)
    left, right = figure.subplots(1, 2)
    epochs = np.arange(1, len(next(iter(trained.losses.values()))) + 1)
    plots.over_training(epochs, trained.losses, label="training loss (nats)", log=True, axes=left)
    plots.over_training(epochs, trained.accuracies, label="validation accuracy", axes=right)
    reading = "; ".join(f"{name}: {test[name]:.3f} ± {error[name]:.3f}" for name in test)
    (_, plain), (_, noisy) = test.items()
    certain = abs(noisy - plain) > 2 * float(np.linalg.norm(list(error.values())))
    better = ("Yes." if noisy > plain else "No.") if certain else "That cannot be told from one seed."
    return Section(
        "accuracy",
        "Training",
        f"{len(data.train.inputs)} digits to train on, {len(data.validation.inputs)} to choose on, "
        f"{len(data.test.inputs)} to test on; identity start, RMSprop, one learning rate for both networks, one seed.",
        [
            Picture(
                "learning-curves",
                "Does noise on the initial state help the network learn?",
                figure,
                f"{better} Accuracy on the test digits, with its binomial standard error: {reading}.",
            )
        ],
        {
            "test_accuracy": test,
            "test_accuracy_stderr": error,
            "training_loss": trained.losses,
            "validation_accuracy": trained.accuracies,
        },
        answers=[
            f"Does noise on the initial state help? {better} Accuracy on {len(data.test.inputs)} digits: {reading}."
        ],
    )


# what a second process makes meanwhile: first what is about networks of its own, then what is about both trained ones
UNTRAINED: tuple[Callable[[Dataset, Quickstart], Section], ...] = (path_space, response)
LATER: tuple[Callable[[Trained, Dataset, Quickstart], Section], ...] = (
    noise.initial_slope,
    noise.cost,
    regions_through_training,
    parallel,
)
