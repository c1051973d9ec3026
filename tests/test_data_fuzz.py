"""Spoiled files: whatever bytes come, a loader reads them or says in one clear error what is wrong, and soon."""

import gzip
import io
import time
import wave
import zipfile

import numpy as np
import pytest

from benchmarks.data import aeon, birds, characters, digits, files, mnist, words


def sound():
    file = io.BytesIO()
    with wave.open(file, "wb") as recording:
        recording.setparams((1, 2, 44_100, 0, "NONE", ""))
        recording.writeframes(np.arange(4096, dtype="<i2").tobytes())
    return file.getvalue()


def zipped(name, content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return file.getvalue()


def read_text8(folder):
    (folder / "spoiled").rename(folder / "text8.zip")
    characters.text8(time=2, folder=folder)


def read_gzip(folder):
    (folder / "spoiled").rename(folder / "spoiled.gz")
    mnist.idx(files.read(folder / "spoiled.gz"), name="spoiled")


def of_bytes(reader):
    return lambda folder: reader(files.read(folder / "spoiled"), name="spoiled")


def of_text(reader):
    return lambda folder: reader(files.text(folder / "spoiled"), name="spoiled")


IDX = b"\0\0\x08\x03\0\0\0\x02\0\0\0\x04\0\0\0\x04" + bytes(range(32))
KINDS = {
    "idx": (IDX, of_bytes(mnist.idx)),
    "idx.gz": (gzip.compress(IDX), read_gzip),
    "json": (b'{ "data": [' + b",".join([b"0", b"0.5", b"1", b"0.996"] * 196) + b"]}", of_bytes(digits.pixels)),
    "ts": (b"# made\n@classLabel true a b\n@data\n1,2.5,-3:4,5e1,6:a\n1,2,3:4,5,6:b\n", of_text(aeon.read)),
    "wav": (sound(), of_bytes(birds.samples)),
    "csv": (b"itemid,datasetid,hasbird\r\n1,ff1010bird,0\r\n22,ff1010bird,1\r\n", of_text(birds.labels)),
    "tree": ("(3 (2 The) (3 (4 good) (2 \xe9t\xe9)))".encode(), of_text(words.tree)),
    "zip": (zipped("text8", b"anarchism originated as a term of abuse " * 9), read_text8),
}


def spoil(content, rng):
    """Bytes changed, cut out, put in or doubled, one to four times."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        a, b = sorted(rng.integers(0, len(content) + 1, 2))
        # half of the changes near the start, where headers are
        a = a if rng.random() < 0.5 else min(a, int(rng.integers(0, 64)))
        some = rng.integers(0, 256, rng.integers(1, 9), np.uint8).tobytes()
        match rng.integers(0, 6):
            case 0:
                content[a : a + len(some)] = some
            case 1:
                content[a:a] = some
            case 2:
                del content[a:b]
            case 3:
                content[a:a] = content[a:b]
            case 4 if a < len(content):
                content[a] ^= 1 << rng.integers(0, 8)
            case _:
                content[a : a + 1] = rng.choice([b"\xff", b"\0", b"(", b"[", b'"', b",", b"\n", b"1e999", b"9" * 5000])
    return bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_spoiled_files_are_read_or_refused(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LIMIT", 2**20)
    content, reader = KINDS[kind]
    folder = tmp_path / "whole"
    folder.mkdir()
    (folder / "spoiled").write_bytes(content)
    reader(folder)
    rng, refused = np.random.default_rng(0), 0
    for number in range(500):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "spoiled").write_bytes(spoil(content, rng))
        start = time.perf_counter()
        try:
            reader(folder)
        except (ValueError, OSError) as error:
            refused += 1
            said = str(error)
            # it names the file, and does not pour it out
            assert "spoiled" in said or "text8" in said, said
            assert len(said) < 600, said
        assert time.perf_counter() - start < 2
    assert refused > 40
