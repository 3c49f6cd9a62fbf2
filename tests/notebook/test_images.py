"""Pictures as a user sends them: the sandbox tells facts of the bytes that it received, so the right one arrived."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow

from kimi_magics.errors import ImageError, PromptError
from kimi_magics.sandbox import Sandbox

CHAT = "/v1/chat/completions"


def chats(sandbox: Sandbox) -> list[Any]:
    return [request.body for request in sandbox.requests if request.path == CHAT]


def sizes(text: str) -> list[str]:
    """Return the sizes in pixels that the sandbox found in the pictures, in their order."""
    return re.findall(r"\| size \| (\d+ × \d+) pixels \|", text)


def make(width: int, colour: str = "red") -> Pillow.Image:
    return Pillow.new("RGB", (width, 10), colour)


@pytest.fixture
def pictures(cells: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A kernel in a folder with two files, in which a cell displayed two pictures and another returned one."""
    monkeypatch.chdir(tmp_path)
    for name, width in (("one.png", 101), ("two.png", 102)):
        make(width).save(tmp_path / name)
    shell = cells.shell
    shell.user_ns["make"] = make
    sources = {
        "shows": "from IPython.display import display; display(make(103)); display(make(104))",
        "returns": "make(105)",
    }
    for name, source in sources.items():
        shell.run_cell(source, store_history=True, cell_id=name)
    return cells


@pytest.mark.parametrize(
    ("flags", "widths"),
    [
        ("-i one.png", [101]),
        ("-i one.png -i two.png", [101, 102]),
        ("-i '*.png'", [101, 102]),
        ("-i last", [105]),
        ("-i last:3", [103, 104, 105]),
        ("-i _", [105]),
        ("-i Out[2]", [105]),
        ("-i cell:shows", [103, 104]),
        ("-i cell:shows[0]", [103]),
        ("-i cell:1", [103, 104]),
        ("-i cell:returns -i one.png --image-size 50x50", [50, 50]),
    ],
)
def test_the_picture_that_was_named_arrives(pictures: Any, sandbox: Sandbox, flags: str, widths: list[int]) -> None:
    ran = pictures.run(f"%%kimi {flags} -o answer\nWhat is this?")
    assert ran.error is None, ran.shown_error
    assert [int(size.split()[0]) for size in sizes(pictures["answer"].text)] == widths
    parts = chats(sandbox)[-1]["messages"][-1]["content"]
    assert [part["type"] for part in parts] == ["image_url"] * len(widths) + ["text"]


def test_a_figure_that_was_drawn_inline_and_closed_is_sent_as_it_was_seen(cells: Any, sandbox: Sandbox) -> None:
    shell = cells.shell
    shell.run_cell(
        "import matplotlib; matplotlib.use('agg')\n"
        "import matplotlib.pyplot as plt\n"
        "from IPython.display import display\n"
        "fig, ax = plt.subplots(figsize=(3, 2), dpi=100); fig.set_facecolor('navy'); ax.axis('off')\n"
        "from IPython.core.pylabtools import print_figure, select_figure_formats\n"
        "select_figure_formats(get_ipython(), {'png'})\n"
        "display(fig); plt.close('all'); fig.set_facecolor('red')",
        store_history=True,
    )
    ran = cells.run("%kimi -i last -o answer What colour is it?")
    assert ran.error is None, ran.shown_error
    assert "navy (100 %)" in cells["answer"].text


def test_the_dry_run_shows_what_would_be_sent(pictures: Any, sandbox: Sandbox) -> None:
    noise = Pillow.effect_noise((5000, 3000), 90).convert("RGB")
    pictures.shell.user_ns["noise"] = noise
    pictures.run("%kimi_estimate -i one.png hello")
    asked = len(sandbox.requests)
    ran = pictures.run("%%kimi -i one.png -i noise --dry-run\nWhat is this?")
    assert ran.error is None, ran.shown_error
    assert '"url": "data:image/png;base64,… (' in ran.stdout
    (bundle,) = ran.bundles
    first, second = bundle["text/plain"].split("\n")
    size = (Path.cwd() / "one.png").stat().st_size
    assert re.fullmatch(rf"1\. one\.png: PNG 101×10 ({size} B → )?\d+ B · \d+ tokens", first)
    assert re.fullmatch(r"2\. noise: pixels 5000×3000 → JPEG 3600×2160 \S+ MB · ≈ 4,1\d\d tokens", second)
    thumbnails = re.findall(r'src="data:image/webp;base64,([^"]+)"', bundle["text/html"])
    opened = [Pillow.open(io.BytesIO(base64.b64decode(data))) for data in thumbnails]
    assert [(picture.width, picture.height) for picture in opened] == [(101, 10), (267, 160)]
    assert len(sandbox.requests) == asked


def test_a_name_with_html_in_it_is_shown_as_text(pictures: Any) -> None:
    name = "<img src=x onerror=alert(1)>.png"
    make(9).save(Path.cwd() / name)
    (bundle,) = pictures.run(f"%%kimi -i '{name}' --dry-run\nhi").bundles
    assert "<img src=x" not in bundle["text/html"]
    assert "&lt;img src=x onerror=alert(1)&gt;.png" in bundle["text/html"]


@pytest.mark.parametrize(
    ("line", "error", "says"),
    [
        ("-i no.png hi", ImageError, "neither a variable nor a file"),
        ("-i last:0 hi", ImageError, "last:3"),
        ("-i cell:nobody hi", ImageError, "shows no picture"),
        ("-i attachment:nothing.png hi", ImageError, "no Markdown cell"),
        ("-i one.png --image-size big hi", None, "low, high, none"),
        ("-m kimi-k2-thinking -i one.png hi", PromptError, "does not read images"),
        ("-i http://127.0.0.1:1/plot.png hi", ImageError, "could not be fetched"),
    ],
)
def test_what_cannot_be_sent_is_refused_and_nothing_is_sent(
    pictures: Any, sandbox: Sandbox, line: str, error: type | None, says: str
) -> None:
    ran = pictures.run(f"%kimi {line}")
    assert ran.error is not None
    assert error is None or type(ran.error) is error
    assert says in ran.shown_error
    assert len(ran.shown_error.splitlines()) < 6
    assert sandbox.requests == []


def test_a_model_that_cannot_see_names_one_that_can(pictures: Any) -> None:
    assert "-m kimi-k2.6" in pictures.run("%kimi -m kimi-k2-thinking -i one.png hi").shown_error


def test_a_list_in_a_variable_is_several_pictures(pictures: Any, sandbox: Sandbox) -> None:
    pictures.shell.user_ns["several"] = [make(7), make(8, "navy")]
    ran = pictures.run("%kimi -i several -o answer What are these?")
    assert ran.error is None, ran.shown_error
    assert sizes(pictures["answer"].text) == ["7 × 10", "8 × 10"]


def test_unloading_lets_the_pictures_go_and_leaves_the_shell_alone(pictures: Any) -> None:
    shell = pictures.shell
    shell.run_line_magic("unload_ext", "kimi_magics")
    assert "publish" not in shell.display_pub.__dict__
    assert "write_format_data" not in shell.displayhook.__dict__
