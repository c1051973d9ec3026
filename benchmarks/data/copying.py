"""The copy memory problem: ten symbols, a long wait, and the ten to be said again."""

from __future__ import annotations

import numpy as np

from benchmarks.data.dataset import Dataset, Split

SYMBOLS, COPIED = 8, 10


def copy_memory(delay: int, *, seed: int = 0, examples: int = 1024) -> Dataset:
    """Ten symbols out of eight, `delay` - 1 blanks, a signal, and ten blanks in which to say the symbols.

    There are delay + 20 steps in 10 one-hot channels (blank, 8 symbols, signal), and a class of 9 (blank, 8 symbols)
    is to be said at each: blank until the signal. Who forgets can at best guess at the end, with a mean cross-entropy
    of 10 log 8 / (delay + 20) nats a step.

    Args:
        delay: steps from the last symbol to the signal, at least 1.
        seed: of the draws.
        examples: in each of the three parts.

    Raises:
        ValueError: if `delay` or `examples` is below 1.
    """
    if delay < 1 or examples < 1:
        raise ValueError(f"delay and examples must be at least 1, got {delay} and {examples}")
    rng = np.random.default_rng([seed, delay])
    time = delay + 2 * COPIED
    parts = []
    for _ in range(3):
        symbols = rng.integers(1, SYMBOLS + 1, (examples, COPIED))
        said = np.zeros((examples, time), int)
        said[:, :COPIED] = symbols
        said[:, COPIED + delay - 1] = SYMBOLS + 1
        targets = np.zeros((examples, time), np.int32)
        targets[:, -COPIED:] = symbols
        parts.append(Split(np.eye(SYMBOLS + 2, dtype=np.float32)[said], targets, np.full(examples, time)))
    train, validation, test = parts
    return Dataset(
        train,
        validation,
        test,
        name=f"copy-{delay}",
        source="generated; M. Arjovsky, A. Shah and Y. Bengio, Unitary evolution recurrent neural networks (2016)",
        licence="none needed",
    )
