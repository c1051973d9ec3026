"""What is published: the source archive, the wheel made from it, and the wheel in a clean environment."""

import configparser
import email
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CONFIG = configparser.ConfigParser()
CONFIG.read(ROOT / "setup.cfg")

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("packaging")]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    # the wheel is made from the source archive, so that a file missing from that one fails here
    done = subprocess.run(
        [sys.executable, "-m", "build", "--outdir", folder, ROOT], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (archive,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return archive, wheel


def test_the_wheel_holds_the_packages_and_nothing_else(built):
    _, wheel = built
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"maso_rnn", "path_opt", "srnn"}
    for package in tops:
        assert f"{package}/py.typed" in names
        sources = {str(path.relative_to(ROOT)) for path in (ROOT / package).rglob("*.py")}
        assert sources <= set(names)


def test_its_metadata_are_those_of_setup_cfg(built):
    _, wheel = built
    with zipfile.ZipFile(wheel) as opened:
        (name,) = [name for name in opened.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = email.message_from_bytes(opened.read(name))
    core = {line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line}
    assert core == set(CONFIG["options"]["install_requires"].split())
    assert metadata["Version"] == CONFIG["metadata"]["version"]
    assert metadata["License-Expression"] == "Apache-2.0"
    assert set(metadata.get_all("Provides-Extra")) == set(CONFIG["options.extras_require"])


def test_the_source_archive_holds_the_licence_and_the_readme(built):
    archive, _ = built
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {"LICENSE", "README.md", "setup.cfg", "pyproject.toml"} <= names


def test_the_wheel_works_in_a_clean_environment(built, tmp_path):
    _, wheel = built
    venv.create(tmp_path / "clean", with_pip=True)
    binaries = tmp_path / "clean" / "bin"
    pip = [binaries / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, wheel], check=True, timeout=900)
    program = (
        "import sys, jax, jax.numpy as jnp, maso_rnn, path_opt, srnn;"
        "rnn = maso_rnn.init(jax.random.key(0), 1, [4], 2);"
        "print(maso_rnn.affine_map(rnn, jnp.ones((5, 1))).slope.shape, path_opt.reduction_graph(rnn).units);"
        "assert not {'matplotlib', 'torch', 'sklearn', 'tyro'} & set(sys.modules)"
    )
    ran = subprocess.run([binaries / "python", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout == "(2, 5, 1) 4\n"
    # without the report extra its command says what to install
    ran = subprocess.run([binaries / "rnn-geometry", "inspect"], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 2
    assert "pip install 'rnn-geometry[report]'" in ran.stderr
