"""freefield1010: ten seconds of sound each, and whether a bird is heard in it."""

from __future__ import annotations

import csv
import io
import struct
import wave
from pathlib import Path

import numpy as np

from benchmarks.data import files
from benchmarks.data.dataset import Dataset, Split

RATE = 44_100  # samples a second
WINDOW, HOP, BANDS = 2048, 1024, 40


def freefield1010(*, folder: Path | None = None) -> Dataset:
    """Log-mel spectra of 7,690 recordings, class 1 where a bird is heard.

    In the order of their numbers shuffled by default_rng(0), 80% are to train on, 10% to choose on and 10% to test on.

    Args:
        folder: of ff1010bird_metadata_2018.csv and of ff1010bird_wav.zip, or of its `wav` unpacked; by default
            `freefield1010` in the folder of the data.

    Returns:
        Inputs (recording, time, band), as `log_mel` makes them.

    Raises:
        FileNotFoundError: if one is not there.
        ValueError: if one cannot be read, or is not as published.
    """
    home = folder or files.folder() / "freefield1010"
    get = (
        f"put archive.org/download/ff1010bird/ff1010bird_wav.zip and figshare.com/articles/3851466's "
        f"ff1010bird_metadata_2018.csv in {home}"
    )
    path = files.first(home / "ff1010bird_metadata_2018.csv", home / "ff1010bird_metadata.csv", get=get)
    heard = labels(files.text(path), name=str(path))
    root = files.root(home, "ff1010bird_wav.zip")
    spectra = []
    for item in sorted(heard):
        sound = files.first(root / "wav" / f"{item}.wav", get=get)
        spectra.append(log_mel(samples(files.read(sound), name=str(sound))))
    lengths = np.array([len(spectrum) for spectrum in spectra])
    inputs = np.zeros((len(spectra), lengths.max(), BANDS), np.float32)
    for row, spectrum in zip(inputs, spectra, strict=True):
        row[: len(spectrum)] = spectrum
    targets = np.array([heard[item] for item in sorted(heard)], np.int32)
    order = np.random.default_rng(0).permutation(len(inputs))
    train, validation, test = (
        Split(inputs[part], targets[part], lengths[part])
        for part in np.split(order, [len(order) * 8 // 10, len(order) * 9 // 10])
    )
    return Dataset(
        train,
        validation,
        test,
        name="freefield1010",
        source="freefield1010, D. Stowell and M. Plumbley (2013); labels of the Bird Audio Detection challenge (2016)",
        licence="CC BY 4.0",
    )


def labels(text: str, *, name: str) -> dict[int, int]:
    """Whether a bird is heard (1) or not (0) in each recording, by its number, from CSV with a heading.

    Raises:
        ValueError: if there are no columns itemid and hasbird, of whole numbers and of 0 and 1.
    """
    heard: dict[int, int] = {}
    try:
        for row in csv.DictReader(io.StringIO(text), strict=True):
            item, bird = row["itemid"], row["hasbird"]
            if not (item.isascii() and item.isdigit() and bird in ("0", "1")):
                raise ValueError(f"itemid {item!r:.40}, hasbird {bird!r:.40}")
            heard[int(item)] = int(bird)
    except (AttributeError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise ValueError(f"{name} must have columns itemid (digits) and hasbird (0 or 1), got {error}") from error
    if not heard:
        raise ValueError(f"{name} must have columns itemid and hasbird and rows of them, it has none")
    return heard


def samples(content: bytes, *, name: str) -> np.ndarray:
    """Samples (time,) from -1 to 1 of a WAV file of one channel, 16 bits and 44,100 samples a second.

    Raises:
        ValueError: if it is no such file, or has fewer samples than one window.
    """
    try:
        with wave.open(io.BytesIO(content)) as file:
            form = (file.getnchannels(), file.getsampwidth(), file.getframerate())
            frames = file.readframes(file.getnframes())
    except (EOFError, RuntimeError, ValueError, struct.error, wave.Error) as error:
        raise ValueError(f"{name} must be a WAV file: {error}") from error
    if form != (1, 2, RATE) or len(frames) < 2 * WINDOW or len(frames) % 2:
        raise ValueError(
            f"{name} must have 1 channel of 2 bytes at {RATE} samples a second, at least {WINDOW} of them; "
            f"got {form} and {len(frames)} bytes"
        )
    return np.frombuffer(frames, "<i2").astype(np.float32) / 2**15


def log_mel(signal: np.ndarray) -> np.ndarray:
    """Logarithms (time, band) of the power in 40 mel bands, from 0 Hz to half the rate.

    Hann windows of 2,048 samples begin every 1,024, about 43 a second; bands are triangles evenly apart on the mel
    scale, 2595 log10(1 + f / 700 Hz); 1e-10 is added to each power.

    Args:
        signal: (sample,), at least 2,048.
    """
    windows = np.lib.stride_tricks.sliding_window_view(signal, WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(windows * np.hanning(WINDOW + 1)[:-1], axis=1)) ** 2
    mels = np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), BANDS + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)
    frequencies = np.fft.rfftfreq(WINDOW, 1 / RATE)
    rising = (frequencies - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - frequencies) / np.diff(edges)[1:, None]
    return np.log(power @ np.maximum(0, np.minimum(rising, falling)).T + 1e-10).astype(np.float32)
