"""The affine map as a template: does it look like the digit, does it win, and what carries the output?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from maso_rnn import plots
from maso_rnn.affine import affine_map, match, template_margin
from maso_rnn.network import RNN
from maso_rnn.report.document import Picture, Section


def templates(
    networks: Mapping[str, RNN],
    xs: Array,
    labels: Array,
    *,
    image_shape: tuple[int, int] | None = None,
    noise_scale: float = 0.1,
    key: Array,
) -> Section:
    """The section on templates: their pictures, their margins, and what slope, initial state and offset carry.

    Args:
        networks: by name, the networks to compare; the last one's templates are drawn.
        xs: (example, time, input), sequences that the networks were not trained on.
        labels: (example,), their classes.
        image_shape: how a sequence folds into an image.
        noise_scale: standard deviation of the initial states at which their share of the output is measured.
        key: draws those initial states.

    Returns:
        The section.

    Raises:
        ValueError: if there is no network, no sequence, or the labels do not fit.
    """
    if not networks:
        raise ValueError("networks must name at least one network, got none")
    classes = min(rnn.readout.kernel.shape[1] for rnn in networks.values())
    if len(xs) == 0 or np.shape(labels) != (len(xs),):
        raise ValueError(f"labels must be one for each of at least one sequence, got {np.shape(labels)} for {len(xs)}")
    if np.min(labels) < 0 or np.max(labels) >= classes:
        raise ValueError(f"labels must be in [0, {classes}), got {np.min(labels)} to {np.max(labels)}")
    read = {name: _read(rnn, xs, labels, key, noise_scale) for name, rnn in networks.items()}
    *_, last = networks
    picture = _template_picture(networks[last], xs, labels, read[last], image_shape)
    values: dict[str, Any] = {}
    for name, numbers in read.items():
        right, margin = numbers["right"], numbers["margin"]
        values[name] = {
            "examples": len(right),
            "accuracy": right.mean(),
            "identity_error": numbers["identity_error"],
            "template_wins": (margin > 0).mean(),
            "template_wins_where_right": _mean(margin[right] > 0),
            "template_wins_where_wrong": _mean(margin[~right] > 0),
            "median_margin_right": _median(margin[right]),
            "median_margin_wrong": _median(margin[~right]),
            "shares": {part: share.mean() for part, share in numbers["shares"].items()},
        }
    figure = plots.new_figure(10, 4)
    for axes, (name, numbers) in zip(figure.subplots(1, len(read), squeeze=False)[0], read.items(), strict=True):
        plots.right_and_wrong(
            numbers["margin"], numbers["right"], label="template margin (logits)", title=name, axes=axes
        )
        axes.axvline(0, color="black", linewidth=0.8)
    reading = "The right class's template wins: " + "; ".join(
        f"{name}, {_share(v['template_wins_where_right'])} of those predicted right and "
        f"{_share(v['template_wins_where_wrong'])} of those predicted wrong"
        for name, v in values.items()
    )
    margins = Picture(
        "margins", "Does the right class's template match best where the network is right?", figure, reading
    )
    return Section(
        "templates",
        "Templates",
        "On the piece of input space around one sequence the network is exactly an affine map, output = slope · x + "
        "initial slope · h0 + offset. Its slope holds one template for each class; the inner product of a template "
        "with the input is its match score, and the template margin is the right class's score minus the best other.",
        (picture, margins, _share_picture(read, values, noise_scale)),
        values,
    )


@partial(jax.jit, static_argnames="batch")
def _measure(rnn: RNN, xs: Array, labels: Array, keys: Array, noise_scale: Array, *, batch: int) -> tuple[Array, ...]:
    """For every example: the class said, its margin and match scores, the parts' shares, the identity's error."""

    def one(row: tuple[Array, Array, Array]) -> tuple[Array, ...]:
        x, label, key = row
        widths = [layer.recurrent_kernel.shape[0] for layer in rnn.layers]
        h0 = tuple(
            noise_scale * jax.random.normal(k, (n,), x.dtype)
            for k, n in zip(jax.random.split(key, len(widths)), widths, strict=True)
        )
        affine, noisy = affine_map(rnn, x), affine_map(rnn, x, h0)
        initial = sum(slope @ h for slope, h in zip(noisy.initial_slope, h0, strict=True))
        # what all classes share moves no decision: each part is measured about its mean over the classes
        parts = jnp.stack([match(noisy, x), initial, noisy.offset])
        sizes = jnp.abs(parts - parts.mean(-1, keepdims=True)).mean(-1)
        error = jnp.abs(parts.sum(0) - noisy.output).max() / jnp.abs(noisy.output).max()
        said = affine.output.argmax()
        return said, template_margin(affine, x, label), match(affine, x), sizes / sizes.sum(), error

    return jax.lax.map(one, (xs, labels, keys), batch_size=batch)


@partial(jax.jit, static_argnames="batch")
def _initial_slope_norms(rnn: RNN, xs: Array, *, batch: int) -> Array:
    def one(x: Array) -> Array:
        return jnp.sqrt(sum((slope**2).sum() for slope in affine_map(rnn, x).initial_slope))

    return jax.lax.map(one, xs, batch_size=batch)


def _read(rnn: RNN, xs: Array, labels: Array, key: Array, noise_scale: float) -> dict[str, Any]:
    """What `_measure` finds, by name, as NumPy arrays."""
    keys = jax.random.split(key, len(xs))
    measured = _measure(rnn, xs, labels, keys, jnp.asarray(noise_scale, xs.dtype), batch=min(100, len(xs)))
    said, margin, scores, shares, errors = map(np.asarray, measured)
    return {
        "said": said,
        "right": said == np.asarray(labels),
        "margin": margin,
        "scores": scores,
        "identity_error": errors.max(),
        "shares": dict(zip(("slope", "initial state", "offset"), shares.T, strict=True)),
    }


def _template_picture(
    rnn: RNN, xs: Array, labels: Array, numbers: dict[str, Any], image_shape: tuple[int, int] | None
) -> Picture:
    """Four sequences predicted right and one wrong, each beside the templates of all classes."""
    classes = int(rnn.readout.kernel.shape[1])
    shown = _examples(numbers["right"], np.asarray(labels), count=5)
    figure = plots.new_figure(1.05 * (classes + 1) + 0.4, 1.35 * len(shown) + 0.5)
    grid = figure.subplots(len(shown), classes + 1, squeeze=False)
    slopes = np.asarray(jax.jit(jax.vmap(lambda x: affine_map(rnn, x).slope))(xs[jnp.asarray(shown)]))
    wins = 0
    for axes, i, slope in zip(grid, shown, slopes, strict=True):
        scores = numbers["scores"][i]
        limit = float(np.abs(slope).max())
        wins += int(scores.argmax() == labels[i])
        plots.sequence(np.asarray(xs[i]), image_shape=image_shape, axes=axes[0])
        axes[0].set_ylabel(f"{'right' if numbers['right'][i] else 'WRONG'}: {numbers['said'][i]}", fontsize=9)
        axes[0].set_title(f"input: {int(labels[i])}", fontsize=9)
        for c in range(classes):
            plots.template(slope[c], image_shape=image_shape, limit=limit, axes=axes[1 + c])
            best = c == scores.argmax()
            axes[1 + c].set_title(f"{c}: {scores[c]:+.1f}", fontsize=9, fontweight="bold" if best else "normal")
            for side in axes[1 + c].spines.values():
                side.set(color=plots.COLOURS[4] if best else "#bbbbbb", linewidth=3 if best else 0.5)
    figure.suptitle(
        "Left: the input and what the network says. Then for each class its template, with the match score template · "
        "input;\nthe best match is framed. Input under red adds to the class, under blue takes away from it.",
        fontsize=10,
    )
    return Picture(
        "templates",
        "Which template does each input meet, and which class's matches it best?",
        figure,
        f"The template that matches best is the right class's for {wins} of the {len(shown)} inputs shown; each input "
        "has templates of its own, since each lies on a piece of its own.",
    )


def _examples(right: np.ndarray, labels: np.ndarray, count: int) -> list[int]:
    """Indices of sequences of different classes predicted right, and one predicted wrong if there is any."""
    wrong = np.flatnonzero(~right)[:1].tolist()
    firsts = [int(np.flatnonzero(right & (labels == c))[0]) for c in np.unique(labels[right])]
    return firsts[:: max(1, len(firsts) // (count - 1))][: count - len(wrong)] + wrong


def _share_picture(read: Mapping[str, Any], values: Mapping[str, Any], noise_scale: float) -> Picture:
    figure = plots.new_figure(8, 1.4 + 0.7 * len(read))
    axes = figure.add_subplot()
    left = np.zeros(len(read))
    for part, colour in zip(("slope", "initial state", "offset"), plots.COLOURS, strict=False):
        widths = np.array([values[name]["shares"][part] for name in read])
        axes.barh(list(read), widths, left=left, color=colour, label=part)
        for name, start, width in zip(read, left, widths, strict=True):
            if width > 0.04:
                axes.annotate(f"{width:.0%}", (start + width / 2, name), ha="center", va="center", color="white")
        left += widths
    axes.set(xlabel="share of the size of the logits about their mean", xlim=(0, 1))
    axes.invert_yaxis()
    axes.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, 1.25), frameon=False)
    reading = "; ".join(
        f"{name}: slope {v['shares']['slope']:.0%}, initial state {v['shares']['initial state']:.0%}, offset "
        f"{v['shares']['offset']:.0%}"
        for name, v in values.items()
    )
    return Picture(
        "shares",
        f"What carries the output, with initial states drawn at scale {noise_scale:g}: slope, initial state or offset?",
        figure,
        reading,
    )


def _share(value: float | None) -> str:
    return "none" if value is None else f"{value:.0%}"


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None


def _median(values: np.ndarray) -> float | None:
    return float(np.median(values)) if values.size else None


def initial_slope_over_training(epochs: Sequence[int], snapshots: Mapping[str, Sequence[RNN]], xs: Array) -> Section:
    """The section on the initial-state slope: how its norm moves while the networks train.

    Args:
        epochs: (snapshot,), when the snapshots were taken.
        snapshots: by name, the networks at those epochs.
        xs: (example, time, input), the sequences to measure on.

    Returns:
        The section.
    """
    batch = min(100, len(xs))
    measured = {
        name: np.stack([_initial_slope_norms(rnn, xs, batch=batch) for rnn in rnns]) for name, rnns in snapshots.items()
    }
    medians = {name: np.median(norms, axis=1) for name, norms in measured.items()}
    figure = plots.new_figure(8, 4)
    plots.over_training(epochs, measured, label="norm of the initial-state slope", log=True, axes=figure.add_subplot())
    ends = {name: norms[-1] for name, norms in medians.items()}
    reading = "Median norm at the end: " + "; ".join(f"{name}: {end:.3g}" for name, end in ends.items())
    if len(ends) > 1:
        first, *_, last = ends.values()
        reading = f"{'Yes' if last < first else 'No'}. {reading}"
    return Section(
        "initial-state",
        "The initial state",
        "How far the output moves with the initial state is the norm of the affine map's initial-state slope; noise on "
        "the initial state penalises it, against whatever else larger logits gain. Lines are medians over "
        "the test sequences, bands their quartiles. A norm of exactly zero, as where the first input is 0 and so are "
        "the biases (every unit then sits on its kink and counts as off), is left out.",
        [
            Picture(
                "initial-slope",
                "Does noise on the initial state shrink the output's slope in it?",
                figure,
                reading,
            )
        ],
        {"epochs": np.asarray(epochs), "median_norm": medians},
    )
