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

    Example:
        >>> from maso_rnn import init
        >>> rnn, xs = init(jax.random.key(0), 1, [8], 3), jax.random.normal(jax.random.key(1), (4, 6, 1))
        >>> section = templates({"untrained": rnn}, xs, jnp.array([0, 1, 2, 0]), key=jax.random.key(2))
        >>> section.name
        'templates'

    Source:
        Wang, Balestriero, Baraniuk (2019), section 4.
    """
    if not networks:
        raise ValueError("networks must name at least one network, got none")
    classes = min(rnn.readout.kernel.shape[1] for rnn in networks.values())
    if len(xs) == 0 or np.shape(labels) != (len(xs),):
        raise ValueError(f"labels must be one for each of at least one sequence, got {np.shape(labels)} for {len(xs)}")
    if np.min(labels) < 0 or np.max(labels) >= classes:
        raise ValueError(f"labels must be in [0, {classes}), got {np.min(labels)} to {np.max(labels)}")
    read = {name: _read(rnn, xs, labels, key, noise_scale) for name, rnn in networks.items()}
    *_, last = networks.values()
    return template_section(last, xs, labels, read, image_shape=image_shape, noise_scale=noise_scale)


def template_section(
    rnn: RNN,
    xs: Array | np.ndarray,
    labels: Array | np.ndarray | None,
    read: Mapping[str, Mapping[str, Any]],
    *,
    image_shape: tuple[int, int] | None,
    noise_scale: float,
) -> Section:
    """The section on templates, once they are measured.

    Args:
        rnn: the network whose templates are drawn, the last of those read.
        xs: (example, time, input), the sequences.
        labels: (example,), their classes; None where they are not known, and the class said stands for the right one.
        read: by network: what was `said`, whether it was `right`, `margin` and `scores`, each (example, …), the
            `identity_error`, and the `shares` of slope, initial state and offset.
        image_shape: how a sequence folds into an image.
        noise_scale: standard deviation of the initial states at which the shares were measured.

    Returns:
        The section.
    """
    *_, last = read
    picture = _template_picture(rnn, xs, labels, read[last], image_shape)
    values: dict[str, Any] = {}
    for name, numbers in read.items():
        right, margin = numbers["right"], numbers["margin"]
        values[name] = {
            "examples": len(right),
            "accuracy": None if labels is None else right.mean(),
            "identity_error": numbers["identity_error"],
            "template_wins": (margin > 0).mean(),
            "template_wins_where_right": _mean(margin[right] > 0),
            "template_wins_where_wrong": _mean(margin[~right] > 0),
            "median_margin_right": _median(margin[right]),
            "median_margin_wrong": _median(margin[~right]),
            "shares": {part: share.mean() for part, share in numbers["shares"].items()},
            "shares_measured_on": len(numbers["shares"]["slope"]),
        }
    figure = plots.new_figure(10, 4)
    names = ("predicted right", "predicted wrong") if labels is not None else ("all sequences", "none")
    for axes, (name, numbers) in zip(figure.subplots(1, len(read), squeeze=False)[0], read.items(), strict=True):
        plots.right_and_wrong(
            numbers["margin"], numbers["right"], label="template margin (logits)", title=name, names=names, axes=axes
        )
        axes.axvline(0, color="black", linewidth=0.8)
    if labels is None:
        question = "Does the template of the class that the network says match best?"
        reading = "It does: " + "; ".join(f"{name}, for {v['template_wins']:.0%}" for name, v in values.items())
    else:
        question = "Does the right class's template match best where the network is right?"
        reading = "The right class's template wins: " + "; ".join(
            f"{name}, {_share(v['template_wins_where_right'])} of those predicted right and "
            f"{_share(v['template_wins_where_wrong'])} of those predicted wrong"
            for name, v in values.items()
        )
    margins = Picture("margins", question, figure, reading)
    return Section(
        "templates",
        "Templates",
        "On the piece of input space around one sequence the network is exactly an affine map, output = slope · x + "
        "initial slope · h0 + offset. Its slope holds one template for each class; the inner product of a template "
        "with the input is its match score, and the template margin is the "
        f"{'right class' if labels is not None else 'class said'}'s score minus the best other.",
        (picture, margins, _share_picture(values, noise_scale)),
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
    rnn: RNN,
    xs: Array | np.ndarray,
    labels: Array | np.ndarray | None,
    numbers: Mapping[str, Any],
    image_shape: tuple[int, int] | None,
    *,
    most: int = 10,
) -> Picture:
    """Some sequences predicted right and one wrong, each beside the templates of the right class and the best others.

    Where nothing folds into an image the templates are strips, one below another, and three sequences are drawn.
    """
    truth = numbers["said"] if labels is None else np.asarray(labels)
    shown = _examples(numbers["right"], truth, count=5 if image_shape else 3)
    chosen = np.asarray(xs)[shown].astype(rnn.readout.kernel.dtype)
    slopes = np.asarray(jax.jit(jax.vmap(lambda x: affine_map(rnn, x).slope))(chosen))
    classes = slopes.shape[1]
    panels = 1 + min(classes, most)
    if image_shape:
        figure = plots.new_figure(1.05 * panels + 0.4, 1.35 * len(shown) + 0.5)
        grid = figure.subplots(len(shown), panels, squeeze=False)
    else:
        figure = plots.new_figure(4.5 * len(shown), 0.55 * panels + 1.0)
        grid = figure.subplots(panels, len(shown), squeeze=False).T
    for axes, i, x, slope in zip(grid, shown, chosen, slopes, strict=True):
        said = f"{'right' if numbers['right'][i] else 'WRONG'}: {numbers['said'][i]}"
        ranking = np.argsort(-numbers["scores"][i], kind="stable")
        leading = np.concatenate([[truth[i]], ranking[ranking != truth[i]][: most - 1]])
        plots.templates_beside_input(
            x,
            slope,
            name="input" if labels is None else f"input: {int(truth[i])}",
            said=f"says {numbers['said'][i]}" if labels is None else said,
            shown=np.sort(leading).tolist(),
            image_shape=image_shape,
            axes=axes,
        )
    place, then = ("Left", "Then") if image_shape else ("Top", "Below")
    figure.suptitle(
        f"{place}: the input and what the network says. {then} for each class its template, with the match score "
        "template · input;\nthe best match is framed. Input under red adds to the class, under blue takes from it.",
        fontsize=10,
    )
    wins = sum(int(numbers["scores"][i].argmax() == truth[i]) for i in shown)
    winner = "that of the class it says" if labels is None else "the right class's"
    reading = (
        f"The template that matches best is {winner} for {wins} of the {len(shown)} inputs shown; each input "
        "has templates of its own, since each lies on a piece of its own."
    )
    if classes > most:
        reading += f" Of {classes} classes the {most} are drawn whose templates match best."
    return Picture(
        "templates", "Which template does each input meet, and which class's matches it best?", figure, reading
    )


def _examples(right: np.ndarray, labels: np.ndarray, count: int) -> list[int]:
    """Indices of sequences of different classes predicted right, and one predicted wrong if there is any."""
    wrong = np.flatnonzero(~right)[:1].tolist()
    firsts = [int(np.flatnonzero(right & (labels == c))[0]) for c in np.unique(labels[right])]
    return firsts[:: max(1, len(firsts) // (count - 1))][: count - len(wrong)] + wrong


def _share_picture(values: Mapping[str, Any], noise_scale: float) -> Picture:
    shares = {name: v["shares"] for name, v in values.items()}
    figure = plots.new_figure(8, 1.4 + 0.7 * len(shares))
    axes = figure.add_subplot()
    left = np.zeros(len(shares))
    for part, colour in zip(("slope", "initial state", "offset"), plots.COLOURS, strict=False):
        widths = np.array([share[part] for share in shares.values()])
        axes.barh(list(shares), widths, left=left, color=colour, label=part)
        for name, start, width in zip(shares, left, widths, strict=True):
            if width > 0.04:
                axes.annotate(f"{width:.0%}", (start + width / 2, name), ha="center", va="center", color="white")
        left += widths
    axes.set(xlabel="share of the size of the logits about their mean", xlim=(0, 1))
    axes.invert_yaxis()
    axes.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, 1.25), frameon=False)
    reading = "; ".join(
        f"{name}: slope {share['slope']:.0%}, initial state {share['initial state']:.0%}, offset {share['offset']:.0%}"
        for name, share in shares.items()
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

    Example:
        >>> from maso_rnn import init
        >>> rnn, xs = init(jax.random.key(0), 1, [8], 3), jax.random.normal(jax.random.key(1), (4, 6, 1))
        >>> initial_slope_over_training([0, 1], {"plain": [rnn, rnn]}, xs).name
        'initial-state'

    Source:
        Wang, Balestriero, Baraniuk (2019), section 5.
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
