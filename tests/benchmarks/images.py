"""How long a photo of 24 megapixels takes to be prepared, and how much memory, beside Pillow's own resize and encode.

    uv run python tests/benchmarks/images.py

Each way runs in a process of its own, since memory that was used once is kept by the process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

WIDTH, HEIGHT = 6000, 4000
DECODED_BYTES = WIDTH * HEIGHT * 3

_MEASURE = """
import io, json, resource, sys, time
from pathlib import Path
from PIL import Image
from kimi_magics.notebook.prepare import prepare_image

def prepare(path):
    return prepare_image(path, label="photo")

def plain(path):
    with Image.open(path) as picture:
        small = picture.resize((3240, 2160))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=90, subsampling=0)

way, path = {"ours": prepare, "pillow": plain}[sys.argv[1]], Path(sys.argv[2])
tiny = io.BytesIO()
for kind in ("PNG", "JPEG", "WEBP"):
    Image.new("RGB", (8, 8)).save(tiny, kind)
prepare_image(tiny.getvalue(), label="warm")
def find_peak():
    status = Path("/proc/self/status")
    if status.exists():  # what `getrusage` tells begins with the memory of the process that started this one
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before = find_peak()
times = []
for _ in range(int(sys.argv[3])):
    started = time.process_time()
    way(path)
    times.append(time.process_time() - started)
print(json.dumps({"seconds": min(times), "bytes": find_peak() - before}))
"""


def make_photo(path: Path) -> None:
    """Write a PNG like a photo: soft shapes under the grain of a sensor."""
    from PIL import Image, ImageChops

    soft = Image.effect_noise((WIDTH // 8, HEIGHT // 8), 90).resize((WIDTH, HEIGHT))
    slope = Image.linear_gradient("L").resize((WIDTH, HEIGHT))
    grain = Image.effect_noise((WIDTH, HEIGHT), 8)
    bands = [ImageChops.add(band, grain, scale=1.3, offset=-98) for band in (soft, slope, soft)]
    Image.merge("RGB", bands).save(path, compress_level=1)


def measure(way: str, path: Path, *, rounds: int = 1) -> dict[str, float]:
    """Return the CPU seconds of the best round and the bytes by which the process grew, for `ours` or `pillow`."""
    command = [sys.executable, "-c", _MEASURE, way, str(path), str(rounds)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    found: dict[str, float] = json.loads(ran.stdout)
    return found


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo.png"
        make_photo(path)
        print(f"a PNG of {WIDTH}×{HEIGHT}, {path.stat().st_size / 1e6:.0f} MB, {DECODED_BYTES / 1e6:.0f} MB decoded")
        ways = {way: measure(way, path, rounds=3) for way in ("pillow", "ours")}
    for way, found in ways.items():
        print(f"{way:8} {found['seconds']:.2f} s, grew by {found['bytes'] / DECODED_BYTES:.2f} × the decoded size")
    print(f"ratio    {ways['ours']['seconds'] / ways['pillow']['seconds']:.2f}")


if __name__ == "__main__":
    main()
