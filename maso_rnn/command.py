"""`rnn-geometry inspect MODEL --data X.npy --output DIR`: the report on a network and data of one's own.

Arguments are dataclasses through tyro; what is wrong with them is one clear line and exit status 2.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import os
import pickle
import platform
import re
import sys
import time
import zipfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import jax
import numpy as np
import safetensors
import tyro
from tqdm import tqdm

from maso_rnn import RNN, adapters, files, report
from maso_rnn.report.inspection import check

T = TypeVar("T")
PROGRAM = "rnn-geometry inspect"


@dataclasses.dataclass(frozen=True)
class Inspect:
    """Open up a network of your own: which pieces it is made of, on your own sequences, in report.html.

    Attributes:
        model: the network: a file of maso_rnn.files.save, or the weights of PyTorch's nn.RNN with a linear readout, as
            safetensors or as torch.save(model.state_dict(), ...).
        data: the sequences, .npy or .npz, (example, time, input), floating, as the network reads them.
        output: the folder of the report; an earlier report there is replaced.
        labels: the classes of the sequences, .npy or .npz, (example,), integers; by default what the network says.
        activation: the nonlinearity of a PyTorch network, which its weights do not show: relu, leaky_relu, abs,
            hard_tanh or identity.
        readout: the names of a PyTorch network's modules, first to last, as rnn,head, where there are more than two.
        image: rows and columns that a sequence folds into, where it is an image.
        seed: of the random initial states at which their share of the output is measured.
        json: print the numbers, result.json, on standard output too.
    """

    model: Annotated[Path, tyro.conf.Positional]
    data: Path
    output: Path
    labels: Path | None = None
    activation: str | None = None
    readout: str | None = None
    image: tuple[int, int] | None = None
    seed: int = 0
    json: bool = False


def main(arguments: Sequence[str]) -> None:
    """Hand the arguments to their command."""
    command, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if command in ("-h", "--help"):
        print("usage: rnn-geometry inspect [--help]")
    elif command == "--version":
        print(version("rnn-geometry"))
    elif command == "inspect":
        with jax.enable_x64(True):  # a network in float64 stays what it is
            inspect(parse(Inspect, rest, program=PROGRAM))
    else:
        refuse(f"the command must be inspect; got {command or 'none'}", "rnn-geometry")


def inspect(settings: Inspect) -> None:
    """Read the files, check that they fit, measure, write the report."""
    began = time.monotonic()
    if not 0 <= settings.seed < 2**31:
        refuse(f"--seed must be in [0, 2**31), got {settings.seed}", PROGRAM)
    if settings.image is not None and min(settings.image) < 1:
        refuse(f"--image must be two positive numbers, got {settings.image}", PROGRAM)
    try:
        report.refuse_foreign(settings.output)
    except OSError as error:
        refuse(f"--output: {error}", PROGRAM)
    try:
        rnn = load_network(settings.model, activation=settings.activation, readout=settings.readout)
        xs = load_array(settings.data, "inputs")
        labels = None if settings.labels is None else load_array(settings.labels, "labels")
        check(rnn, xs, labels, settings.image)
    except (OSError, TypeError, ValueError) as error:
        refuse(" ".join(str(error).split()), PROGRAM)
    try:
        key = jax.random.key(settings.seed)
        sections = report.inspect(rnn, xs, labels, image_shape=settings.image, key=key, progress=tqdm)
    except FloatingPointError as error:
        refuse(str(error), PROGRAM)
    facts = {
        "configuration": {
            "model": settings.model.name,
            "layers": [layer.recurrent_kernel.shape[0] for layer in rnn.layers],
            "data": settings.data.name,
            "shape": xs.shape,
            "labels": None if settings.labels is None else settings.labels.name,
        },
        "seed": settings.seed,
        "versions": {name: version(name) for name in ("rnn-geometry", "jax", "jaxlib", "flax", "numpy")}
        | {"python": platform.python_version()},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {jax.devices()[0].platform}",
    }
    title = f"What is {settings.model.name} made of?"
    widths = " + ".join(str(layer.recurrent_kernel.shape[0]) for layer in rnn.layers)
    introduction = (
        f"A recurrent network of {widths} hidden units and {rnn.readout.kernel.shape[1]} outputs, opened up on "
        f"{len(xs)} sequences of {xs.shape[1]} steps."
    )
    try:
        report.write(settings.output, title, introduction, sections, facts)
    except OSError as error:
        refuse(f"--output: {error}", PROGRAM)
    if settings.json:
        print((settings.output / "result.json").read_text(encoding="utf-8"), end="")
    else:
        print(f"{settings.output / 'report.html'} ({time.monotonic() - began:.0f} s)")


def load_network(path: Path, *, activation: str | None = None, readout: str | None = None) -> RNN:
    """The network in a file: one of ours, or PyTorch weights as safetensors or as a pickled state dict.

    Raises:
        ValueError: if the file holds neither, or options do not fit it.
        OSError: if it cannot be read.
    """
    weights: Mapping[str, Any]
    with path.open("rb") as file:
        head = file.read(9)
    if _is_safetensors(head):
        try:
            with safetensors.safe_open(path, framework="numpy") as opened:
                ours = (opened.metadata() or {}).get("format") == "rnn-geometry"
                weights = {} if ours else {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
        except (safetensors.SafetensorError, TypeError) as error:
            raise ValueError(f"{path} is not a whole safetensors file of dtypes that NumPy has: {error}") from None
        if ours:
            if activation is not None or readout is not None:
                raise ValueError(f"{path} holds its own activation and readout; leave out --activation and --readout")
            return files.load(path)
    else:
        weights = _state_dict(path, head)
    if activation is None:
        raise ValueError(
            f"--activation must be given for {path}: PyTorch's weights do not show it (nn.RNN's own is tanh, which has "
            "no pieces; this command takes relu, leaky_relu, abs, hard_tanh, identity)"
        )
    try:
        return adapters.from_torch(weights, activation=activation, order=readout and readout.split(","))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def _is_safetensors(head: bytes) -> bool:
    """A header's length in eight bytes, then the header, which is JSON."""
    return head[8:] == b"{"


def _state_dict(path: Path, head: bytes) -> Mapping[str, Any]:
    """The weights in a file of `torch.save`, read without running anything in it."""
    if head[:2] not in (b"PK", b"\x80\x02"):
        raise ValueError(f"{path} is neither a safetensors file nor one of torch.save")
    try:
        import torch
    except ModuleNotFoundError:
        raise ValueError(
            f"{path} is a file of torch.save, which needs torch to read; pip install 'rnn-geometry[interop]', or save "
            "the weights by safetensors.torch.save_file(model.state_dict(), ...)"
        ) from None
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, AttributeError):
        raise ValueError(
            f"{path} holds more than weights, or is broken; save them by torch.save(model.state_dict(), ...)"
        ) from None
    except (EOFError, KeyError, OSError, RuntimeError):
        raise ValueError(f"{path} is not a whole file of torch.save") from None
    inside = [found, *found.values()] if isinstance(found, Mapping) else []
    states = [
        value
        for value in inside
        if isinstance(value, Mapping) and value and all(isinstance(leaf, torch.Tensor) for leaf in value.values())
    ]
    if len(states) != 1:
        held = f"a mapping of {sorted(map(str, found))}" if isinstance(found, Mapping) else type(found).__name__
        raise ValueError(f"{path} must hold one state dict, got {held}; save it by torch.save(model.state_dict(), ...)")
    for name, tensor in states[0].items():
        if tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"{path} must hold float32 or float64, got {tensor.dtype} in {name}; save model.float()")
    return dict(states[0])


def load_array(path: Path, name: str) -> np.ndarray:
    """The array in an .npy file, left on disk, or the one array (or the one of that name) in an .npz file.

    Raises:
        ValueError: if the file holds no such array, or objects.
        OSError: if it cannot be read.
    """
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found:
            held = found.files
            if name not in held and len(held) != 1:
                raise ValueError(f"it must hold one array, or one named {name}, got {sorted(held)}")
            return found[name if name in held else held[0]]
    except (EOFError, ValueError, zipfile.BadZipFile) as error:
        said = "it holds objects or is no array file" if re.search("pickle|objects", str(error)) else error
        raise ValueError(f"{path} is not an .npy or .npz file of one array: {said}") from None


def parse(settings: type[T], arguments: Sequence[str], *, program: str) -> T:
    """The settings that the arguments ask for; a bad argument ends the program with one line and status 2."""
    panel = io.StringIO()
    try:
        with contextlib.redirect_stderr(panel):
            return tyro.cli(settings, args=list(arguments), prog=program)
    except SystemExit as stop:
        if stop.code == 2:
            # tyro draws a panel: a heading in its frame, the message, a rule, then help
            lines = [line.strip("│| ") for line in panel.getvalue().splitlines()]
            said = itertools.dropwhile(lambda line: not re.search(r"\w", line), lines[1:])
            refuse(" ".join(itertools.takewhile(lambda line: re.search(r"\w", line), said)), program)
        raise


def refuse(message: str, program: str) -> NoReturn:
    """End the program with one line on standard error and status 2."""
    print(f"{program}: {message}", file=sys.stderr)
    raise SystemExit(2)
