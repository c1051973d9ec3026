"""The main job: train an RNN on real digits, with and without noise on the initial state, and open it up."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.command import parse, refuse
from benchmarks.data.dataset import Dataset
from benchmarks.data.digits import digits
from benchmarks.quickstart import partition
from benchmarks.quickstart.eigenvalues import eigenvalues
from benchmarks.quickstart.path_space import path_space
from benchmarks.quickstart.response import response
from benchmarks.quickstart.training import Trained, Training, accuracy, train
from maso_rnn import plots, report
from maso_rnn.report import Picture, Section


@dataclasses.dataclass(frozen=True)
class Quickstart:
    """Train a ReLU RNN on 8x8 digits, one pixel at a time, and open it up in report.html.

    Attributes:
        output: the folder of the report; an earlier report there is replaced.
        smoke: a small network for a few epochs on fewer digits: seconds instead of minutes, and no good digits.
        seed: of the start, the batches and the noise.
        sigma: standard deviation of the noise on the initial state.
        epochs: passes over the training digits; by default 80, or 3 with smoke.
    """

    output: Path = Path("reports/quickstart")
    smoke: bool = False
    seed: int = 0
    sigma: float = 0.1
    epochs: int | None = None


def main(arguments: Sequence[str]) -> None:
    """Check the arguments, train, analyse, write the report."""
    settings = parse(Quickstart, arguments, command="quickstart")
    if settings.seed < 0 or settings.seed >= 2**31:
        refuse(f"--seed must be in [0, 2**31), got {settings.seed}", "quickstart")
    if not 0 < settings.sigma < 1e6:
        refuse(f"--sigma must be between 0 and a million, got {settings.sigma}", "quickstart")
    if settings.epochs is not None and settings.epochs < 1:
        refuse(f"--epochs must be at least 1, got {settings.epochs}", "quickstart")
    try:
        report.refuse_foreign(settings.output)
    except OSError as error:
        refuse(f"--output: {error}", "quickstart")

    began = time.monotonic()
    training = Training(seed=settings.seed, sigma=settings.sigma, epochs=settings.epochs or 80)
    data = digits(by="pixel")
    if settings.smoke:
        training = dataclasses.replace(training, hidden=16, epochs=settings.epochs or 3)
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
            settings.output,
            "What is this RNN made of?",
            "Two ReLU RNNs read handwritten digits one pixel at a time. They start alike and see the same batches; one "
            "has noise on its initial state while it trains. Everything below is about digits that neither has seen.",
            _sections(data, training, settings, beside),
            facts,
        )
    print(f"{settings.output / 'report.html'} ({time.monotonic() - began:.0f} s)")


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
    for make in SECTIONS:
        print(f"section: {make.__name__.replace('_', ' ')}", file=sys.stderr, flush=True)
        yield make(trained, data, settings)
    names = [made.__name__ for made in (*UNTRAINED, *LATER)]
    for name, section in zip(names, meanwhile, strict=True):
        print(f"section: {name.replace('_', ' ')}", file=sys.stderr, flush=True)
        yield section.result()
    beside.shutdown(wait=False)  # it ends while the last pictures are drawn


def accuracies(trained: Trained, data: Dataset) -> Section:
    """How well the networks learned."""
    measure = jax.jit(accuracy)
    test = {name: float(measure(rnn, jax.tree.map(jnp.asarray, data.test))) for name, rnn in trained.networks.items()}
    error = {name: float(np.sqrt(a * (1 - a) / len(data.test.inputs))) for name, a in test.items()}
    figure = plots.new_figure(10, 4)
    left, right = figure.subplots(1, 2)
    epochs = np.arange(1, len(next(iter(trained.losses.values()))) + 1)
    plots.over_training(epochs, trained.losses, label="training loss (nats)", log=True, axes=left)
    plots.over_training(epochs, trained.accuracies, label="validation accuracy", axes=right)
    reading = "; ".join(f"{name}: {test[name]:.3f} ± {error[name]:.3f}" for name in test)
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
                f"Accuracy on the test digits, with its binomial standard error: {reading}.",
            )
        ],
        {
            "test_accuracy": test,
            "test_accuracy_stderr": error,
            "training_loss": trained.losses,
            "validation_accuracy": trained.accuracies,
        },
    )


def templates(trained: Trained, data: Dataset, settings: Quickstart) -> Section:
    """Templates of both networks on the test digits."""
    return report.templates(
        trained.networks,
        jnp.asarray(data.test.inputs),
        jnp.asarray(data.test.targets),
        image_shape=(8, 8),
        noise_scale=settings.sigma,
        key=jax.random.fold_in(jax.random.key(settings.seed), 1),
    )


def initial_state(trained: Trained, data: Dataset, settings: Quickstart) -> Section:
    """The initial-state slope over training."""
    return report.initial_slope_over_training(
        trained.epochs.tolist(), trained.snapshots, jnp.asarray(data.test.inputs[:100])
    )


SECTIONS: tuple[Callable[[Trained, Dataset, Quickstart], Section], ...] = (
    templates,
    initial_state,
    partition.regions,
    partition.codes,
    partition.walk,
    partition.plane,
    partition.boundary,
    partition.noise,
    partition.parallel,
)

# what a second process makes meanwhile: first what is about networks of its own, then some of the rest
UNTRAINED: tuple[Callable[[Dataset, Quickstart], Section], ...] = (path_space, response)
LATER: tuple[Callable[[Trained, Dataset, Quickstart], Section], ...] = (eigenvalues,)
