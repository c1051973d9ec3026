"""A network opened up: its partition through time, its templates, its codes by class, what noise costs it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import maso_rnn
from benchmarks.data.dataset import Split
from benchmarks.quickstart.noise import measured_cost
from maso_rnn import RNN

PAIRS = 8  # of neighbouring test sequences, between which pieces are counted
CAP = 20_000  # pieces
SCALES = (0.01, 0.1, 1.0)
MAPPED = 100  # test sequences whose codes are drawn
NOISY = 20  # test sequences that the cost of noise is a mean over


def opened(rnn: RNN, test: Split, *, is_drawn: bool) -> dict[str, Any]:
    """What there is to say of a network on the test sequences.

    Returns:
        times: the steps that the next four are taken after, an eighth of the sequence apart.
        regions: how many distinct codes the test sequences have up to each.
        pieces: on the line between two test sequences up to there, the mean over the first `PAIRS` of
            neighbours in the data that differ from the first of the times on.
        neighbours: the share of test sequences whose nearest other by the code of that step alone is of their class.
        code_map: only where `is_drawn`, the codes of every third of those steps in the plane by t-SNE, of the first
            `MAPPED` test sequences, whose `classes` stand beside it: (time, example, 2).
        cut: how many walks hit the cap.
        template: `right`, the share of sequences whose right class has the largest inner product with its template,
            also `where_right` and `where_wrong` predicted; `margin_where_right` and `margin_where_wrong`, the mean
            margin; `accuracy`; `error`, the largest error of the affine map, relative to the largest output.
        noise: from h0 = 0 and from the state in the middle: the loss that noise adds, its standard error and what the
            penalty predicts, by `SCALES`, and the share of draws that leave their piece.
        shown: only where `is_drawn`, a sequence predicted right and one wrong with their templates.
    """
    rnn = jax.tree.map(jnp.asarray, rnn)
    inputs, labels = jnp.asarray(test.inputs), jnp.asarray(test.targets)
    length = inputs.shape[1]
    times = [length * part // 8 for part in range(1, 9)]
    affine, matches, margins = _maps(rnn, inputs, labels)
    (codes,) = affine.codes
    differ = (test.inputs[:-1, : times[0]] != test.inputs[1:, : times[0]]).any(axis=(1, 2))
    pairs = np.flatnonzero(differ)[:PAIRS]
    walks = [
        [maso_rnn.walk_line(rnn, test.inputs[i, :t], test.inputs[i + 1, :t], max_regions=CAP) for i in pairs]
        for t in times
    ]
    counts = np.asarray(maso_rnn.count_regions((codes,)).counts)
    told = {
        "times": times,
        "regions": [int(counts[t - 1]) for t in times],
        "pieces": [float(np.mean([walk.pieces for walk in row])) for row in walks],
        "cut": sum(bool(walk.overflow) for row in walks for walk in row),
        "neighbours": [neighbours(np.asarray(codes[:, t - 1]), test.targets) for t in times],
        "template": _template(affine, matches, margins, test),
        "noise": _noise(rnn, test),
    }
    if not is_drawn:
        return told
    drawn = {
        "code_map": [_code_map(np.asarray(codes[:MAPPED, t - 1])) for t in times[1::3]],
        "classes": test.targets[:MAPPED],
        "shown": _shown(affine, matches, test),
    }
    return told | drawn


@jax.jit
def _maps(rnn: RNN, inputs: Array, labels: Array) -> tuple[maso_rnn.AffineMap, Array, Array]:
    """Of every sequence its affine map, the inner products with the templates, and the right one's margin."""

    def one(xs: Array, label: Array) -> tuple[maso_rnn.AffineMap, Array, Array]:
        affine = maso_rnn.affine_map(rnn, xs)
        return affine, maso_rnn.match(affine, xs), maso_rnn.template_margin(affine, xs, label)

    return jax.vmap(one)(inputs, labels)


def neighbours(codes: np.ndarray, classes: np.ndarray) -> float:
    """The share of sequences whose nearest other has their class; where several are as near, the share among them."""
    distances = (codes[:, None] != codes[None]).sum(axis=-1)
    np.fill_diagonal(distances, codes.shape[-1] + 1)
    is_nearest = distances == distances.min(axis=1, keepdims=True)
    is_same = classes[:, None] == classes[None]
    return float(((is_nearest & is_same).sum(axis=1) / is_nearest.sum(axis=1)).mean())


def _code_map(codes: np.ndarray) -> np.ndarray:
    from sklearn.manifold import TSNE

    perplexity = min(30, len(codes) // 4)
    tsne = TSNE(metric="hamming", init="random", method="exact", max_iter=500, perplexity=perplexity, random_state=0)
    return np.round(tsne.fit_transform(codes).astype(float), 1)


def _template(affine: maso_rnn.AffineMap, matches: Array, margins: Array, test: Split) -> dict[str, float]:
    outputs = np.asarray(affine.output)
    rebuilt = np.asarray(matches + affine.offset)  # h0 is zero
    is_right, wins = outputs.argmax(axis=1) == test.targets, np.asarray(margins) > 0
    return {
        "accuracy": float(is_right.mean()),
        "right": float(wins.mean()),
        "where_right": _mean(wins[is_right]),
        "where_wrong": _mean(wins[~is_right]),
        "margin_where_right": _mean(np.asarray(margins)[is_right]),
        "margin_where_wrong": _mean(np.asarray(margins)[~is_right]),
        "error": float(np.abs(rebuilt - outputs).max() / np.abs(outputs).max()),
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _noise(rnn: RNN, test: Split) -> dict[str, Any]:
    found = measured_cost(
        {"network": rnn},
        jnp.asarray(test.inputs[:NOISY]),
        jnp.asarray(test.targets[:NOISY]),
        key=jax.random.key(0),
        scales=SCALES,
        pairs=25,
    )
    return {
        name.removeprefix("network, from the "): {"scales": np.asarray(SCALES), **cost._asdict()}
        for name, cost in found.items()
    }


def _shown(affine: maso_rnn.AffineMap, matches: Array, test: Split) -> list[dict[str, Any]]:
    """The first test sequence that is predicted right, and the first that is predicted wrong."""
    said = np.asarray(affine.output).argmax(axis=1)
    firsts = [np.flatnonzero(chosen)[:1] for chosen in (said == test.targets, said != test.targets)]
    return [
        {
            "input": test.inputs[i],
            "label": int(test.targets[i]),
            "said": int(said[i]),
            "slope": np.asarray([[float(f"{value:.3g}") for value in row.ravel()] for row in affine.slope[i]]),
        }
        for i in np.concatenate(firsts)
    ]
