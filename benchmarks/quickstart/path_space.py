"""The report's section on path space: two starts that compute the same function, and who notices."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.ticker import NullFormatter

import maso_rnn
import path_opt
from benchmarks.data.dataset import Dataset, Split
from benchmarks.path_space.training import Configuration, starts, train
from maso_rnn import style
from maso_rnn.report import Picture, Section
from path_opt.plots import draw_graph

if TYPE_CHECKING:
    from benchmarks.quickstart import Quickstart

SHOWN = {"SGD": 0.1, "Adam": 0.01, "path-space Adam": 0.001, "equivariant Adam": 0.01}


def path_space(data: Dataset, settings: Quickstart) -> Section:
    """What training notices of a rescaling that the function does not notice."""
    # these networks are small and read rows, so that each trains in a second
    rows = data._replace(train=_by_row(data.train), validation=_by_row(data.validation), test=_by_row(data.test))
    training = Configuration("digits-by-row", "", "", seed=settings.seed, hidden=(16,), steps=300, points=10)
    methods = SHOWN
    if settings.smoke:
        training, methods = dataclasses.replace(training, steps=10), {"Adam": 0.01}
        rows = rows._replace(train=rows.train.first(128), validation=rows.validation.first(60))
    networks = starts(rows, training)
    balanced, rescaled = networks["balanced"], networks["rescaled"]
    graph = path_opt.reduction_graph(balanced)

    images = jnp.asarray(rows.validation.inputs)
    last = jax.jit(lambda rnn: jax.vmap(lambda xs: maso_rnn.last_output(rnn, xs))(images))
    outputs = {name: np.asarray(last(rnn)) for name, rnn in networks.items()}
    scale = np.abs(outputs["balanced"]).max()
    function_apart = float(np.abs(outputs["balanced"] - outputs["rescaled"]).max() / scale)
    weights = [
        np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(rnn)]) for rnn in (balanced, rescaled)
    ]
    weights_apart = float(np.linalg.norm(weights[0] - weights[1]) / np.linalg.norm(weights[0]))
    curves = {
        name: _curves(rows, dataclasses.replace(training, method=name, rate=rate)) for name, rate in methods.items()
    }
    steps = np.linspace(0, training.steps, training.points + 1)

    figure = style.new_figure(style.PAGE, 3.6)
    panels = np.atleast_1d(figure.subplots(1, len(curves), sharey=True))
    for axes, (name, (first, second)) in zip(panels, curves.items(), strict=True):
        axes.plot(steps, first, color=style.COLOURS[0], linewidth=4, alpha=0.5, label="balanced start")
        axes.plot(steps, second, color=style.COLOURS[1], linestyle="--", label="rescaled start")
        axes.set(title=f"{name},\nrate {methods[name]:g}", xlabel="step")
    # what diverges may leave the picture; its warning and its values stay
    panels[0].set(ylabel="validation loss (nats)", yscale="log", ylim=_limits(curves))
    panels[0].yaxis.set_major_formatter("{x:g}")
    panels[0].yaxis.set_minor_formatter(NullFormatter())
    low, high = _limits(curves)
    panels[0].set_yticks([loss for loss in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0) if low < loss < high])
    style.legend(panels[0], loc="lower left")
    apart = {name: float(np.abs(second / first - 1).max()) for name, (first, second) in curves.items()}
    alike = [name for name, value in apart.items() if value < 0.05]
    others = [name for name in apart if name not in alike]
    answer = (
        f"{' and '.join(alike) or 'None'}: from both starts the losses stay within 5 % of each other"
        + (f", and not under {' and '.join(others)}" if others else "")
        + "."
    )

    small = _small(np.random.default_rng(settings.seed))
    small_graph = path_opt.reduction_graph(small)
    drawing = style.new_figure(8, 5)
    draw_graph(small, small_graph, axes=drawing.add_subplot())
    return Section(
        "path-space",
        "Path space",
        "Multiplying all that enters a hidden unit by c > 0 and dividing all that leaves it by c changes the weights "
        f"of a ReLU RNN and not its function. Here {graph.units} units are rescaled at random (log-normal, standard "
        f"deviation {training.spread:g}): the weights move by {weights_apart:.2g} times their norm, the outputs by "
        f"{function_apart:.1g} of theirs. Methods that no rescaling changes train both alike, as long as training does "
        f"not magnify rounding; the network has "
        f"{graph.edges} weights and {graph.basis_paths} basis paths.",
        [
            Picture(
                "path-space-starts",
                "Which methods train two networks that compute the same function alike?",
                figure,
                answer,
            ),
            Picture(
                "path-space-graph",
                "Which weights are the skeleton that every basis path runs along?",
                drawing,
                f"A network of {'+'.join(map(str, small_graph.widths))} units: every unit has one skeleton edge in and "
                f"one out, and each of the {small_graph.basis_paths} basis paths leaves the skeleton at most once.",
            ),
        ],
        {
            "loss_difference": apart,
            "function_difference": function_apart,
            "weight_difference": weights_apart,
            "spread": training.spread,
            "learning_rates": methods,
            "validation_loss": {
                name: dict(zip(("balanced", "rescaled"), pair, strict=True)) for name, pair in curves.items()
            },
            "units": graph.units,
            "weights": graph.edges,
            "basis_paths": graph.basis_paths,
            "drawn": {
                "widths": small_graph.widths,
                "weights": small_graph.edges,
                "units": small_graph.units,
                "basis_paths": small_graph.basis_paths,
            },
        },
        [f"{name} diverged." for name, pair in curves.items() if not np.isfinite(pair).all()],
    )


def _by_row(part: Split) -> Split:
    """Digits that were read by pixel."""
    images = part.inputs.reshape(-1, 8, 8)
    return part._replace(inputs=images, lengths=np.full(len(images), 8))


def _small(draw: np.random.Generator) -> maso_rnn.RNN:
    """A network small enough to be drawn."""
    widths = (2, 4, 3, 2)
    kernels = [draw.standard_normal(shape).astype(np.float32) for shape in itertools.pairwise(widths)]
    layers = tuple(
        maso_rnn.Layer(kernel, draw.standard_normal((width, width)).astype(np.float32), np.zeros(width, np.float32))
        for kernel, width in zip(kernels, widths[1:-1], strict=False)
    )
    return maso_rnn.RNN(layers, maso_rnn.Readout(kernels[-1], np.zeros(widths[-1], np.float32)))


def _curves(rows: Dataset, one: Configuration) -> np.ndarray:
    """(start, point): validation losses from the balanced start and from the rescaled one."""
    pair = [dataclasses.replace(one, start=start) for start in ("balanced", "rescaled")]
    return np.asarray([result["validation_loss"] for result in train(pair, data=rows)])


def _limits(curves: dict[str, np.ndarray]) -> tuple[float, float]:
    """From under the least loss to over the usual first one."""
    losses = np.stack([np.where(np.isfinite(pair), pair, np.inf) for pair in curves.values()])
    return 0.8 * float(losses.min()), 1.5 * float(np.median(losses[..., 0]))
