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


def of_bytes(reader):
    return lambda path: reader(files.read(path), name=str(path))


def of_text(reader):
    return lambda path: reader(files.text(path), name=str(path))


IDX = b"\0\0\x08\x03\0\0\0\x02\0\0\0\x04\0\0\0\x04" + bytes(range(32))
KINDS = {
    "images": (IDX, of_bytes(mnist.idx)),
    "images.gz": (gzip.compress(IDX), of_bytes(mnist.idx)),
    "digits.json": (b'{ "data": [' + b",".join([b"0", b"0.5", b"1", b"0.996"] * 196) + b"]}", of_bytes(digits.pixels)),
    "series.ts": (b"# made\n@classLabel true a b\n@data\n1,2.5,-3:4,5e1,6:a\n1,2,3:4,5,6:b\n", of_text(aeon.read)),
    "bird.wav": (sound(), of_bytes(birds.samples)),
    "birds.csv": (b"itemid,datasetid,hasbird\r\n1,ff1010bird,0\r\n22,ff1010bird,1\r\n", of_text(birds.labels)),
    "tree.txt": ("(3 (2 The) (3 (4 good) (2 \xe9t\xe9)))".encode(), of_text(words.tree)),
    "text8.zip": (
        zipped("text8", b"anarchism originated as a term of abuse " * 9),
        lambda path: characters.text8(time=2, folder=path.parent),
    ),
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
@pytest.mark.parametrize("name", KINDS)
def test_spoiled_files_are_read_or_refused(name, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LIMIT", 2**20)
    content, read = KINDS[name]
    path = tmp_path / name
    path.write_bytes(content)
    read(path)
    rng, said = np.random.default_rng(0), []
    for _ in range(500):
        path.write_bytes(spoil(content, rng))
        start = time.perf_counter()
        try:
            read(path)
        except (ValueError, OSError) as error:
            said.append(str(error))
        assert time.perf_counter() - start < 2
    assert len(said) > 40
    # each names the file, and does not pour it out
    assert [error for error in said if name not in error or len(error) > 600] == []
