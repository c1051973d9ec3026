"""The demo's pictures that the landing page shows, cut from its report: `python -m docs.cards reports/quickstart`."""

import sys
from pathlib import Path

from PIL import Image

PICTURES = Path(__file__).parent / "pictures"
# by name, the picture of the report that it is cut from, and left, top, right and bottom as shares of that
CARDS = {
    "templates": ("templates", (0.0, 0.0, 1.0, 1.0)),
    "pieces": ("plane", (0.0, 0.08, 0.51, 0.87)),
    "noise": ("noise-penalty", (0.0, 0.31, 0.5, 1.0)),
    "starts": ("path-space-starts", (0.0, 0.0, 0.52, 1.0)),
    "response": ("response-kernels", (0.0, 0.0, 0.42, 1.0)),
    "eigenvalues": ("eigenvalue-cloud", (0.0, 0.06, 1.0, 1.0)),
}
WIDEST = {"templates": 1300}  # pixels; the others are shown small
SMALL = 520


def make(report: Path) -> None:
    """Cut them, and make them as small as they are shown."""
    for name, (source, shares) in CARDS.items():
        with Image.open(report / f"{source}.png") as whole:
            sides = whole.size * 2
            card = whole.convert("RGB").crop([round(share * side) for share, side in zip(shares, sides, strict=True)])
        most = WIDEST.get(name, SMALL)
        card.thumbnail((most, most), Image.Resampling.LANCZOS)
        card.quantize(128).save(PICTURES / f"{name}.png", optimize=True)
        print(PICTURES / f"{name}.png")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
