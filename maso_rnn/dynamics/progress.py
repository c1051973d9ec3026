"""What takes longer than ten seconds says how far it is."""

from __future__ import annotations

import sys
import time

PATIENCE = 10.0  # seconds before the first word
PAUSE = 1.0  # seconds between two


class Progress:
    """Lines on stderr, each over the one before, once something has taken longer than ten seconds."""

    def __init__(self, wanted: bool):
        self._next = time.monotonic() + PATIENCE if wanted else float("inf")

    def tell(self, text: str) -> None:
        """Say how far it is, if it is time to."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PAUSE
            sys.stderr.write(f"\r\033[K{text}")
            sys.stderr.flush()
