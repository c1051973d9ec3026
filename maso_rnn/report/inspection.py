"""A network of one's own, opened up: every section that holds for it, on a set of sequences."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Int

from maso_rnn.cells import Cell
from maso_rnn.network import RNN, with_head_read_once
from maso_rnn.report import dynamics, pieces
from maso_rnn.report.document import Section
from maso_rnn.report.reading import check, has_pieces, read

OF_PIECES = (
    pieces.templates,
    pieces.attributions,
    pieces.regions,
    pieces.codes,
    pieces.walk,
    pieces.plane,
    pieces.walls,
    pieces.safety,
)
OF_ANY = (dynamics.kernels, dynamics.settling, dynamics.stability)


def inspect(
    network: RNN | Cell,
    xs: Float[np.ndarray, "example time input"] | Int[np.ndarray, "example time"],
    labels: Int[np.ndarray, " example"] | None = None,
    *,
    lengths: Int[np.ndarray, " example"] | None = None,
    image_shape: tuple[int, int] | None = None,
    noise_scale: float = 0.1,
    key: Array,
    progress: Callable[..., Iterable[Any]] = lambda steps, desc: steps,
) -> list[Section]:
    """Open up one network: all sections of a report that hold for it.

    A ReLU network, or another that is piecewise affine, gets its templates, what its inputs added, regions, codes, a
    walk, a plane and its walls; a tanh network or another cell gets templates to first order, with their error. Every
    network gets its fixed points and whether small changes grow; an `RNN` the eigenvalues of its kernels too. A host
    function: it reads `xs` batch by batch, and a memory-mapped array stays on disk.

    Args:
        network: an `RNN`, or a `Cell` for any other network. Of each sequence its last output is looked at, so that a
            head behind the last recurrent layer counts as read once.
        xs: (example, time, input), the sequences; or tokens (example, time), for a network that embeds them.
        labels: (example,), their classes; by default what the network says.
        lengths: (example,), how many steps of each count; the rest is padding. By default all.
        image_shape: how a sequence folds into an image.
        noise_scale: standard deviation of the initial states at which their share of the output is measured.
        key: draws those initial states.
        progress: wraps what is gone through, and takes what it is: `tqdm.tqdm`.

    Returns:
        The sections, for `report.write`.

    Raises:
        ValueError: if there are fewer than two outputs or no sequence, shapes, labels or lengths do not fit, sequences
            of unequal length are not padded, or one is not finite.
        TypeError: if `xs` is no array.
        FloatingPointError: if the network's output is not finite.

    Example:
        >>> import jax, maso_rnn
        >>> rnn = maso_rnn.init(jax.random.key(0), 1, [4], 2)
        >>> [section.name for section in inspect(rnn, np.ones((1, 9, 1)), key=jax.random.key(1))]
        ['templates', 'regions', 'boundary', 'eigenvalues', 'fixed-points', 'stability']

    Source:
        Wang, Balestriero, Baraniuk (2019), sections 3 and 4; Dou, Principe (2023), for the eigenvalues.
    """
    check(network, xs, labels, lengths, image_shape)
    network = with_head_read_once(network) if isinstance(network, RNN) else network  # nothing else is asked of it here
    reading = read(network, xs, labels, lengths, image_shape, noise_scale, key, progress)
    makers = (*(OF_PIECES if has_pieces(network) else (dynamics.linear_templates,)), *OF_ANY)
    made = (make(reading) for make in progress(makers, desc="making the sections"))
    sections = [section for section in made if section is not None]
    if xs.ndim == 2:
        told = "The inputs are tokens: what is said of inputs is said of their embeddings."
        sections[0] = sections[0]._replace(warnings=[*sections[0].warnings, told])
    return sections
