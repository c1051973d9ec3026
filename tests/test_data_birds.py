"""Recordings as published, and spectra whose bands are where tones are."""

import io
import wave
import zipfile

import numpy as np
import pytest

from benchmarks.data import birds


def wav(signal, channels=1, width=2, rate=44_100):
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(width)
        sound.setframerate(rate)
        sound.writeframes(np.round(np.asarray(signal) * 2**15).astype("<i2").tobytes())
    return file.getvalue()


def test_a_tone_is_in_the_bands_around_it():
    time = np.arange(44_100) / 44_100
    mel = np.linspace(0, 2595 * np.log10(1 + 22_050 / 700), 42)[1:-1]
    centres = 700 * (10 ** (mel / 2595) - 1)
    for band in (12, 20, 39):
        spectrum = birds.log_mel(0.5 * np.sin(2 * np.pi * centres[band] * time))
        assert spectrum.shape == (1 + (44_100 - 2048) // 1024, 40)
        assert (spectrum.argmax(1) == band).all()
        louder = birds.log_mel(np.sin(2 * np.pi * centres[band] * time))
        # twice the amplitude is four times the power
        np.testing.assert_allclose((louder - spectrum)[:, band], np.log(4), rtol=1e-4)
    # Parseval: a Hann window's squares sum to 3/8 of its length, and the triangles between the outer two centres to 1
    noise = np.random.default_rng(0).normal(size=2048 * 200)
    within = np.exp(birds.log_mel(noise)).sum(1).mean()
    bins = ((np.fft.rfftfreq(2048, 1 / 44_100) > centres[0]) & (np.fft.rfftfreq(2048, 1 / 44_100) < centres[-1])).sum()
    assert 0.97 < within / (bins * 2048 * 3 / 8) < 1.06  # the outer slopes add half a band at each end
    np.testing.assert_allclose(birds.log_mel(np.zeros(3000)), np.log(1e-10), rtol=1e-6)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("RNN_GEOMETRY_DATA", str(tmp_path))
    (tmp_path / "freefield1010").mkdir()
    return tmp_path / "freefield1010"


@pytest.mark.parametrize("packed", [True, False])
def test_recordings_have_their_labels(home, packed):
    (home / "wav").mkdir()
    tones = {item: 0.25 * np.sin(np.arange(2048 + 1024 * (item % 3)) * item / 40) for item in range(11, 21)}
    sounds = {item: (np.round(tone * 2**15) / 2**15).astype(np.float32) for item, tone in tones.items()}
    rows = "".join(f"{item},ff1010bird,{int(item > 15)}\r\n" for item in reversed(sounds))
    (home / "ff1010bird_metadata_2018.csv").write_bytes(f"itemid,datasetid,hasbird\r\n{rows}".encode())
    with pytest.raises(FileNotFoundError, match=r"11\.wav; put archive\.org/download/ff1010bird.* in .*freefield1010"):
        birds.freefield1010()
    if packed:
        with zipfile.ZipFile(home / "ff1010bird_wav.zip", "w") as archive:
            for item, sound in sounds.items():
                archive.writestr(f"wav/{item}.wav", wav(sound))
    else:
        for item, sound in sounds.items():
            (home / "wav" / f"{item}.wav").write_bytes(wav(sound))
    data = birds.freefield1010()
    assert [len(part.inputs) for part in data[:3]] == [8, 1, 1]
    seen = set()
    for split in data[:3]:
        for spectrum, target, length in zip(split.inputs, split.targets, split.lengths, strict=True):
            # which recording it is, by its sound
            item = min(sounds, key=lambda i: abs(birds.log_mel(sounds[i])[0] - spectrum[0]).max())
            np.testing.assert_array_equal(spectrum[:length], birds.log_mel(sounds[item]))
            assert not spectrum[length:].any()
            assert target == (item > 15)
            seen.add(item)
    assert seen == set(sounds)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "must be a WAV file"),
        (b"RIFF\x04\0\0\0WAVE", "must be a WAV file"),
        (wav(np.zeros(2048))[:1000], "at least 2048 of them; got"),
        (wav(np.zeros(2047)), "at least 2048 of them; got"),
        (wav(np.zeros(4096), channels=2), "1 channel of 2 bytes at 44100"),
        (wav(np.zeros(4096), rate=22_050), r"\(1, 2, 22050\)"),
    ],
)
def test_no_recording(content, what):
    with pytest.raises(ValueError, match=f"made must .*{what}" if "must" not in what else f"made {what}"):
        birds.samples(content, name="made")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "itemid,hasbird\n",
        "item,bird\n1,1\n",
        "itemid,hasbird\n1,2\n",
        "itemid,hasbird\n../1,1\n",
        "itemid,hasbird\n1\n",
    ],
)
def test_no_labels(text):
    with pytest.raises(ValueError, match="made must have columns itemid"):
        birds.labels(text, name="made")
