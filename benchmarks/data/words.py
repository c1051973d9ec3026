"""Sentences as numbers: a film review's verdict (SST-2), and translation from English to German (Multi30k)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.data import files
from benchmarks.data.dataset import Dataset, Split

NOTHING, UNKNOWN = 0, 1


def sst2(*, phrases: bool = False, folder: Path | None = None) -> Dataset:
    """The Stanford Sentiment Treebank's sentences, class 0 where negative and 1 where positive, without neutral ones.

    Read from the trees as published, whose test sentences are labelled (GLUE's are not): 6,920, 872 and 1,821 of them;
    6,921, 872 and 1,818 in the maintained edition.

    Args:
        phrases: whether every phrase of the training sentences that is judged, and not neutral, is trained on, too.
        folder: of trainDevTestTrees_PTB.zip, or of its `trees` unpacked; by default `sst` in the folder of the data.

    Returns:
        Inputs (sentence, time, 1) of words as `numbered` counts them.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it cannot be unpacked, or a line is no tree.
    """
    home = folder or files.folder() / "sst"
    get = f"put nlp.stanford.edu/sentiment/trainDevTestTrees_PTB.zip in {home}"
    root = files.root(home, "trainDevTestTrees_PTB.zip")
    parts = []
    for part in ("train", "dev", "test"):
        path = files.first(root / "trees" / f"{part}.txt", get=get)
        judged = [tree(line, name=str(path)) for line in files.text(path).split("\n") if line.strip()]
        parts.append([(words, label // 3) for (label, words), *_ in judged if label != 2])
        if part == "train":
            vocabulary = frequent([words for words, _ in parts[0]])
            if phrases:
                said = {
                    (tuple(words), label // 3): None for sentence in judged for label, words in sentence if label != 2
                }
                parts[0] = [([*words], label) for words, label in said]
    train, validation, test = (
        Split(inputs[..., None], np.array([label for _, label in part], np.int32), lengths)
        for part in parts
        for inputs, lengths in [numbered([words for words, _ in part], vocabulary)]
    )
    return Dataset(
        train,
        validation,
        test,
        name="sst-2",
        source="R. Socher et al., Recursive deep models for semantic compositionality over a sentiment treebank (2013)",
        licence="not stated",
    )


def multi30k(*, folder: Path | None = None) -> Dataset:
    """Descriptions of pictures in English, and in German what is to be said of them: 29,000, 1,014 and 1,000.

    Sentences are in lower case, cut into words and signs.

    Args:
        folder: of {train,val,test_2016_flickr}.{en,de}, each plain or with .gz; by default `multi30k` in the folder of
            the data.

    Returns:
        Inputs (sentence, time, 1) and targets (sentence, step), words as `numbered` counts them in either language, so
        that a target ends with its first 0.

    Raises:
        FileNotFoundError: if one is not there.
        ValueError: if one cannot be unpacked, or the two languages have not as many lines.
    """
    home = folder or files.folder() / "multi30k"
    get = f"put {{train,val,test_2016_flickr}}.{{en,de}}.gz, of github.com/multi30k/dataset's data/task1/raw, in {home}"
    languages = []
    for language in ("en", "de"):
        parts = []
        for part in ("train", "val", "test_2016_flickr"):
            path = files.first(home / f"{part}.{language}.gz", home / f"{part}.{language}", get=get)
            lines = files.text(path).lower().removesuffix("\n").split("\n")
            parts.append([re.findall(r"\w+|[^\w\s]", line) for line in lines])
        vocabulary = frequent(parts[0])
        languages.append([numbered(part, vocabulary) for part in parts])
    splits = []
    for (inputs, lengths), (targets, _) in zip(*languages, strict=True):
        if len(inputs) != len(targets):
            raise ValueError(f"{home}: both languages must have as many lines, got {len(inputs)} and {len(targets)}")
        ends = np.full((len(targets), 1), NOTHING, targets.dtype)
        splits.append(Split(inputs[..., None], np.concatenate([targets, ends], axis=1), lengths))
    train, validation, test = splits
    return Dataset(
        train,
        validation,
        test,
        name="multi30k",
        source="D. Elliott, S. Frank, K. Sima'an and L. Specia, Multi30K: multilingual English-German image "
        "descriptions (2016)",
        licence="CC BY-NC-SA 4.0",
    )


def tree(line: str, *, name: str) -> list[tuple[int, list[str]]]:
    """The verdict on each phrase, 0 (very negative) to 4 (very positive), and its words; the whole sentence first.

    Args:
        line: such as "(3 (2 Good) (2 film))".
        name: of the file, for the error.

    Raises:
        ValueError: if it is no such tree.
    """
    line = line.strip()
    leaves, opened = re.findall(r"\([0-4] [^\s()]+\)", line), re.findall(r"\([0-4] ", line)
    if not leaves or line[0] != "(" or not len(opened) == line.count("(") == line.count(")"):
        raise ValueError(f'{name}: a line must be a tree such as "(3 (2 Good) (2 film))", got "{line[:60]}"')
    phrases: list[tuple[int, list[str]]] = []
    begun: list[list[str]] = []  # the words of the phrases that have not ended
    for part in re.findall(r"\([0-4] |\)|[^\s()]+", line):
        if part == ")":
            begun.pop()
        elif part[0] == "(":
            begun.append([])
            phrases.append((int(part[1]), begun[-1]))
        else:
            for words in begun:
                words.append(part)
    return phrases


def frequent(sentences: Sequence[Sequence[str]]) -> dict[str, int]:
    """Numbers from 2 on for the words that occur at least twice, the most frequent first."""
    counts = Counter(word for sentence in sentences for word in sentence)
    known = sorted((word for word, count in counts.items() if count > 1), key=lambda word: (-counts[word], word))
    return {word: number for number, word in enumerate(known, start=UNKNOWN + 1)}


def numbered(sentences: Sequence[Sequence[str]], vocabulary: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Words (sentence, time) by their numbers, 1 for any without, 0 after the end; and lengths (sentence,)."""
    lengths = np.array([len(sentence) for sentence in sentences], int)
    codes = np.full((len(sentences), max(lengths, default=0)), NOTHING, np.int32)
    codes[np.arange(codes.shape[1]) < lengths[:, None]] = [
        vocabulary.get(word, UNKNOWN) for sentence in sentences for word in sentence
    ]
    return codes, lengths
