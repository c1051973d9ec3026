"""`rnn-geometry inspect MODEL --data X.npy --output DIR`: the report on a network and data of one's own."""

from __future__ import annotations

import argparse
import contextlib
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
from typing import Any, NoReturn

import jax
import numpy as np
import safetensors
from tqdm import tqdm

from maso_rnn import RNN, Cell, activations, adapters, files, report
from maso_rnn.report.reading import check


class Parser(argparse.ArgumentParser):
    """Arguments as argparse reads them; what is wrong with them is one line and exit status 2."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        """End the program."""
        print(f"{self.prog}: {message}", file=sys.stderr)
        raise SystemExit(2)


def parser() -> tuple[Parser, Parser]:
    """The parser of the program, and that of `inspect`."""
    whole = Parser(
        prog="rnn-geometry",
        description="Look inside a trained recurrent network: which templates and affine pieces it is made of, how\n"
        "near its walls are, what its eigenvalues and fixed points say. The answer is one page of pictures.",
        epilog="example:\n  rnn-geometry inspect model.safetensors --data xs.npy --labels ys.npy --output report\n"
        "  rnn-geometry inspect --help",
    )
    whole.add_argument("--version", action="version", version=version("rnn-geometry"))
    commands = whole.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    one = commands.add_parser(
        "inspect",
        help="write a page of pictures and numbers about a network in a file, on sequences of yours",
        description="Open up a network of your own on your own sequences: how often it is right, which templates and\n"
        "affine pieces it is made of, how near its walls are, what its eigenvalues and fixed points say.\n"
        "The report is DIR/report.html, with a summary on top; its numbers are in DIR/result.json.",
        epilog="examples:\n  rnn-geometry inspect rnn.safetensors --data xs.npy --labels ys.npy --output report\n"
        "  rnn-geometry inspect gru.pt --data xs.npz --output report\n"
        "  rnn-geometry inspect rnn.pt --activation relu --data xs.npy --image 28 28 --output report",
    )
    one.add_argument(
        "model",
        type=Path,
        help="the network: a file of maso_rnn.files.save, or the weights of PyTorch's nn.RNN, nn.GRU or nn.LSTM with a "
        "linear readout, as safetensors or as torch.save(model.state_dict(), ...)",
    )
    one.add_argument(
        "--data",
        type=Path,
        required=True,
        help="the sequences, .npy or .npz: numbers (example, time, input), or tokens (example, time)",
    )
    one.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder of the report; an earlier report is replaced"
    )
    one.add_argument("--labels", type=Path, help="the classes, (example,), integers; by default what the network says")
    one.add_argument("--lengths", type=Path, help="how many steps of each sequence count, (example,), integers")
    one.add_argument(
        "--activation",
        help="the nonlinearity of an nn.RNN, which its weights do not show: relu, tanh, leaky_relu, abs, ...",
    )
    one.add_argument(
        "--order",
        nargs="+",
        metavar="NAME",
        help="the names of the modules, first to last, with functions between them, as encoder relu rnn head; "
        "where the weights do not show it",
    )
    one.add_argument("--image", type=int, nargs=2, metavar=("ROWS", "COLUMNS"), help="what a sequence folds into")
    one.add_argument("--seed", type=int, default=0, help="of the random initial states that are tried")
    one.add_argument("--json", action="store_true", help="print the numbers on standard output too")
    return whole, one


def main(arguments: Sequence[str]) -> None:
    """Hand the arguments to their command."""
    whole, one = parser()
    settings = whole.parse_args(list(arguments))
    with jax.enable_x64(True):  # a network in float64 stays what it is
        inspect(settings, one)


def inspect(settings: argparse.Namespace, at: Parser) -> None:
    """Read the files, check that they fit, measure, write the report."""
    began = time.monotonic()
    if not 0 <= settings.seed < 2**31:
        at.error(f"--seed must be in [0, 2**31), got {settings.seed}")
    if settings.image is not None and min(settings.image) < 1:
        at.error(f"--image must be two positive numbers, got {settings.image}")
    image = None if settings.image is None else tuple(settings.image)
    try:
        report.refuse_foreign(settings.output)
    except OSError as error:
        at.error(f"--output: {error}")
    try:
        network = load_network(settings.model, activation=settings.activation, order=settings.order)
        xs = load_array(settings.data, "inputs")
        labels = None if settings.labels is None else load_array(settings.labels, "labels")
        lengths = None if settings.lengths is None else load_array(settings.lengths, "lengths")
        check(network, xs, labels, lengths, image)
    except (OSError, TypeError, ValueError) as error:
        at.error(" ".join(str(error).split()))
    try:
        key = jax.random.key(settings.seed)
        sections = report.inspect(network, xs, labels, lengths=lengths, image_shape=image, key=key, progress=_progress)
    except FloatingPointError as error:
        at.error(str(error))
    facts = {
        "configuration": {
            name: value.name if isinstance(value, Path) else value
            for name, value in vars(settings).items()
            if name not in ("command", "output", "json")
        }
        | {"shape": xs.shape, "network": _described(network)},
        "seed": settings.seed,
        "versions": {name: version(name) for name in ("rnn-geometry", "jax", "jaxlib", "flax", "numpy")}
        | {"python": platform.python_version()},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {jax.devices()[0].platform}",
    }
    title = f"What does {settings.model.name} do?"
    introduction = f"{_described(network)}, opened up on {len(xs)} sequences of up to {xs.shape[1]} steps."
    try:
        report.write(settings.output, title, introduction, sections, facts)
    except OSError as error:
        at.error(f"--output: {error}")
    if settings.json:
        print((settings.output / "result.json").read_text(encoding="utf-8"), end="")
        return
    for section in sections:
        for answer in section.answers:
            print(f"- {answer}")
    print(f"{settings.output / 'report.html'} ({time.monotonic() - began:.0f} s)")


def _progress(steps: Any, desc: str) -> Any:
    return tqdm(steps, desc=desc, file=sys.stderr)


def _described(network: RNN | Cell) -> str:
    """The network in a few words."""
    if isinstance(network, Cell):
        return (
            f"A recurrent network of {sum(np.size(leaf) for leaf in jax.tree.leaves(network.initial))} state variables"
        )
    count = sum(np.size(leaf) for leaf in jax.tree.leaves(network))
    widths = " + ".join(str(layer.input_kernel.shape[1]) for layer in network.layers)
    kind = activations.name(network.activation)
    return (
        f"A recurrent network of {widths} hidden units ({kind}), {network.readout.kernel.shape[1]} outputs and {count} "
        "parameters"
    )


def load_network(path: Path, *, activation: str | None = None, order: Sequence[str] | None = None) -> RNN | Cell:
    """The network in a file: one of ours, or PyTorch weights as safetensors or as a state dict.

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
            if activation is not None or order is not None:
                raise ValueError(f"{path} holds its own activation and order; leave out --activation and --order")
            return files.load(path)
    else:
        weights = _state_dict(path, head)
    try:
        with contextlib.suppress(TypeError, ValueError):  # it has no pieces; or `cell` says what is wrong
            return adapters.from_torch(weights, activation=activation, order=order)
        return adapters.cell(weights, activation=activation, order=order)
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
        if name == "inputs" and re.search("Object arrays|Python objects", str(error)):
            said = "it holds objects; pad sequences of unequal length to one array, and pass --lengths"
        raise ValueError(f"{path} is not an .npy or .npz file of one array: {said}") from None
