"""`rnn-geometry`, the command line; it needs the `report` extra."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Hand the arguments to their command; by default those of the process."""
    try:
        from maso_rnn import command
    except ModuleNotFoundError as missing:
        if missing.name not in {"matplotlib", "safetensors", "tqdm"}:
            raise
        print(f"rnn-geometry: {missing.name} is missing; pip install 'rnn-geometry[report]'", file=sys.stderr)
        raise SystemExit(2) from None
    try:
        command.main(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
