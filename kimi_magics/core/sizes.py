"""How large a picture is sent: `--image-size`, and what the models use."""

from __future__ import annotations

import re

# What the models use at most; more costs time and no quality (kimi_api.md section 3). A page scan keeps 2,000 pixels of
# width, so that its text stays readable.
_MOST_WIDTH, _MOST_HEIGHT, _READABLE_WIDTH = 4096, 2160, 2000
# 361 tokens at most: enough to tell what is shown, not to read small print (kimi_api.md section 6).
_LOW_SIDE = 512
_BOX = re.compile(r"(\d{1,6})[x×](\d{1,6})", re.IGNORECASE)


def read_size(text: str) -> str:
    """Return `--image-size` in its one spelling: `low`, `high`, `none` or `800x600`. Raises ValueError."""
    word = text.strip().lower()
    match = _BOX.fullmatch(word)
    if match and int(match[1]) and int(match[2]):
        return f"{int(match[1])}x{int(match[2])}"
    if word in ("low", "high", "none"):
        return word
    raise ValueError(f"{text!r} is not a size of images")


def fit_size(width: int, height: int, size: str = "high") -> tuple[int, int]:
    """Return the width and height to which a picture is shrunk; it keeps its proportion and never grows.

    `size` is as `read_size` returns it. `high` is what the models use, `low` 512 × 512, `none` leaves it as it is.
    """
    if size == "none":
        return width, height
    if size == "high":
        fit = min(1.0, _MOST_WIDTH / width, _MOST_HEIGHT / height)
        scale = max(fit, min(1.0, _READABLE_WIDTH / width))
    else:
        box = (_LOW_SIDE, _LOW_SIDE) if size == "low" else tuple(int(side) for side in size.split("x"))
        scale = min(1.0, box[0] / width, box[1] / height)
    return max(1, round(width * scale)), max(1, round(height * scale))
