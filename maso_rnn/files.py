"""A network in a file: safetensors, with the activation and the layout's version in its metadata."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from maso_rnn import checks
from maso_rnn.activations import PiecewiseAffine, activation
from maso_rnn.network import RNN, Layer, Readout, check_network

VERSION = "1"
LARGEST_HEADER = 2**20  # bytes: names, shapes and the activation of thousands of layers
LARGEST_FILE = 2**36  # bytes
_SMOOTH = ("tanh",)
_DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}


def save(path: str | os.PathLike[str], rnn: RNN) -> None:
    """Write a network to a file, whole or not at all.

    Layout: safetensors; `layers.0.input_kernel`, …, `readout.kernel`, `readout.bias`, `initial.0`, …, `embedding`,
    kernels as (in, out); metadata `format`, `version`, `activation`, and `read_once` of a network that is. What a
    network has none of is not there.

    Args:
        path: the file; an earlier one there is replaced in one step.
        rnn: the network.

    Raises:
        ValueError: if the activation is neither piecewise affine nor tanh, or the network's shapes do not fit.
        TypeError: if `rnn` is no `RNN`, or of a dtype that a file does not hold.
        ImportError: if safetensors is not installed.
        OSError: if the file cannot be written; an earlier one is then as it was.

    Example:
        >>> import jax, tempfile
        >>> from maso_rnn import init
        >>> rnn = init(jax.random.key(0), 1, [8], 3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(f"{folder}/rnn.safetensors", rnn)
        ...     again = load(f"{folder}/rnn.safetensors")
        >>> bool((again.readout.kernel == rnn.readout.kernel).all())
        True

    Source:
        The safetensors format.
    """
    from safetensors.flax import save as to_bytes

    check_network(rnn)
    path = Path(path)
    metadata = {"format": "rnn-geometry", "version": VERSION, "activation": _activation_text(rnn)}
    metadata |= {"read_once": "true"} if rnn.read_once else {}
    data = to_bytes({name: jnp.asarray(np.array(leaf, order="C")) for name, leaf in _named(rnn).items()}, metadata)
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def load(path: str | os.PathLike[str]) -> RNN:
    """Read a network that `save` wrote.

    Args:
        path: the file.

    Returns:
        The network, in the dtype it was saved in.

    Raises:
        ValueError: if the file is not one of ours, is truncated, of a later version, or does not hold a network whose
            shapes fit; if its header is above 1 MiB or the whole above 64 GiB; or if its dtype is float64 and JAX is
            not set to hold that.
        TypeError: if its dtype is none that a network has.
        ImportError: if safetensors is not installed.
        OSError: if the file cannot be read.

    Example:
        >>> import jax, tempfile
        >>> from maso_rnn import init
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(f"{folder}/rnn.safetensors", init(jax.random.key(0), 1, [8], 3))
        ...     rnn = load(f"{folder}/rnn.safetensors")
        >>> rnn.layers[0].recurrent_kernel.shape
        (8, 8)

    Source:
        The safetensors format.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    _check_size(path)
    try:
        with safe_open(path, framework="flax") as file:
            metadata = file.metadata() or {}
            _check_form(path, metadata, {file.get_slice(name).get_dtype() for name in file.keys()})  # noqa: SIM118 (not a dict)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from None
    try:
        rnn = _assemble(arrays, _activation_of(metadata["activation"]))
        rnn = dataclasses.replace(rnn, read_once=metadata.get("read_once") == "true")
        check_network(rnn)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} does not hold a network: {error}") from None
    return rnn


def _check_size(path: Path) -> None:
    """A header and a whole that are not too large to read; a missing or unreadable file is the system's own error."""
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
        size = file.seek(0, os.SEEK_END)
    if size > LARGEST_FILE or LARGEST_HEADER < header <= size - 8:
        raise ValueError(f"{path}, of {size} bytes, has a header of {header} bytes, more than a network of ours")


def _check_form(path: Path, metadata: dict[str, str], dtypes: set[str]) -> None:
    if metadata.get("format") != "rnn-geometry" or "activation" not in metadata:
        raise ValueError(f"{path} was not written by maso_rnn.files.save; maso_rnn.cell takes the weights of others")
    if metadata.get("version") != VERSION:
        raise ValueError(f"{path} has layout version {metadata.get('version')}; this library reads {VERSION}")
    for name in dtypes:
        checks.floating(f"{path}: dtype", _DTYPES.get(name, name))


def _named(rnn: RNN) -> dict[str, Any]:
    """Every array of the network by its name in the file."""
    named: dict[str, Any] = {}
    for l, layer in enumerate(rnn.layers):
        for part in ("input_kernel", "recurrent_kernel", "bias"):
            named[f"layers.{l}.{part}"] = getattr(layer, part)
    named["readout.kernel"], named["readout.bias"] = rnn.readout.kernel, rnn.readout.bias
    for l, state in enumerate(rnn.initial or ()):
        named[f"initial.{l}"] = state
    named["embedding"] = rnn.embedding
    return {name: leaf for name, leaf in named.items() if leaf is not None}


def _assemble(arrays: dict[str, Any], act: Any) -> RNN:
    """The network of named arrays; a name that is missing or left over is an error."""
    left = dict(arrays)
    depth = len({name.split(".")[1] for name in left if name.startswith("layers.")})
    layers = tuple(
        Layer(
            input_kernel=left.pop(f"layers.{l}.input_kernel"),
            recurrent_kernel=left.pop(f"layers.{l}.recurrent_kernel", None),
            bias=left.pop(f"layers.{l}.bias", None),
        )
        for l in range(depth)
    )
    readout = Readout(left.pop("readout.kernel"), left.pop("readout.bias", None))
    initial = tuple(left.pop(f"initial.{l}") for l in range(depth)) if "initial.0" in left else None
    embedding = left.pop("embedding", None)
    if left:
        raise ValueError(f"arrays of unknown name {sorted(left)}")
    return RNN(layers=layers, readout=readout, initial=initial, activation=act, embedding=embedding)


def _activation_text(rnn: RNN) -> str:
    act = rnn.activation
    if isinstance(act, PiecewiseAffine):
        pieces = {"breakpoints": act.breakpoints, "slopes": act.slopes, "offsets": act.offsets}
        return json.dumps(pieces)
    for name in _SMOOTH:
        if act is activation(name):
            return json.dumps(name)
    raise ValueError(f"activation {act} cannot be written to a file; use a PiecewiseAffine one or one of {_SMOOTH}")


def _activation_of(text: str) -> Any:
    value = json.loads(text)
    if isinstance(value, dict):
        return PiecewiseAffine(**{name: tuple(np.asarray(numbers, float)) for name, numbers in value.items()})
    return activation(value)
