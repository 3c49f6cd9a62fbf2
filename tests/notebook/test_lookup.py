"""What a flag names: variables, outputs, cells, files, addresses, the clipboard."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image as Pillow

from kimi_magics.core.ask import Ask
from kimi_magics.errors import ImageError, VariableError
from kimi_magics.notebook.cell_runs import CellRuns
from kimi_magics.notebook.gallery import Gallery
from kimi_magics.notebook.lookup import Lookup
from kimi_magics.notebook.sources import Sources


def encoded(size: tuple[int, int] = (30, 20), kind: str = "PNG", colour: str = "red") -> bytes:
    out = io.BytesIO()
    Pillow.new("RGB", size, colour).save(out, kind)
    return out.getvalue()


class Page:
    """A notebook with one attachment, and one cell of an earlier kernel."""

    def attachments(self, name: str) -> list[bytes]:
        return [encoded((11, 11))] if name in ("plot.png", "*") else []

    def outputs(self, cell: str) -> list[tuple[str, bytes]]:
        return [("image/png", encoded((12, 12))), ("image/png", encoded((13, 13)))] if cell == "earlier" else []


class Bench:
    """A look-up with a gallery that has seen three pictures, an earlier one twice."""

    def __init__(self, shell: Any) -> None:
        self.fetched: list[str] = []
        self.runs = CellRuns(shell)
        self.gallery = Gallery(shell, limit_bytes=lambda: 64_000_000)
        self.clipboard: Any = None
        self.grab: Callable[[], Any] = lambda: self.clipboard
        sources = Sources(gallery=self.gallery, notebook=Page(), fetch=self.fetch, grab=lambda: self.grab())
        self.lookup = Lookup(self.runs, sources)

    def fetch(self, address: str) -> bytes:
        self.fetched.append(address)
        return encoded((14, 14))

    def widths(self, *names: str, variables: dict[str, Any] | None = None, size: str | None = None) -> list[int]:
        ask = Ask(image=names, image_size=size)
        return [image.width for image in self.lookup.find(ask, variables or {}).images]


@pytest.fixture
def bench(shell: Any) -> Bench:
    bench = Bench(shell)
    for width in (1, 2, 3, 1):
        bench.gallery.keep({"image/png": encoded((width, 4))})
    return bench


def test_names_outputs_parts_and_files_are_found(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "a b.png"
    path.write_bytes(encoded())
    picture = Pillow.new("RGB", (9, 9))
    variables = {"pic": picture, "Out": {3: picture}, "_": picture, "box": SimpleNamespace(pics=[picture]), "p": path}
    for name in ("pic", "Out[3]", "_", "box.pics[0]"):
        assert bench.widths(name, variables=variables) == [9], name
    for name in ("p", str(path)):
        assert bench.widths(name, variables=variables) == [30], name


def test_last_is_what_was_displayed_last_and_each_picture_counts_once(bench: Bench) -> None:
    assert bench.widths("last") == [1]
    assert bench.widths("last:2") == [3, 1]
    assert bench.widths("last:9") == [2, 3, 1]


def test_a_pattern_names_its_files_in_order(bench: Bench, tmp_path: Path) -> None:
    for name, width in (("b.png", 2), ("a.png", 1), ("c.jpg", 3)):
        (tmp_path / name).write_bytes(encoded((width, 2)))
    (tmp_path / "d.png").mkdir()
    assert bench.widths(f"{tmp_path}/*.png") == [1, 2]


def test_a_list_is_several_pictures_and_the_lines_of_a_plot_are_one(bench: Bench) -> None:
    from matplotlib.figure import Figure

    lines = Figure(figsize=(1, 1)).subplots().plot([1, 2], [3, 4])
    pictures = [Pillow.new("L", (5, 5)), encoded((6, 6))]
    assert bench.widths("pictures", variables={"pictures": pictures}) == [5, 6]
    assert len(bench.widths("lines", variables={"lines": [*lines, *lines]})) == 1


def test_a_list_that_holds_no_pictures_is_refused_at_once(bench: Bench) -> None:
    itself: list[Any] = []
    itself.append(itself)
    for value, says in ((itself, r"loop\[0\] is of type list"), (list(range(100_000)), "100,000 parts")):
        with pytest.raises(ImageError, match=says):
            bench.widths("loop", variables={"loop": value})


def test_a_file_beside_the_notebook_is_found_wherever_the_kernel_went(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "pasted.png").write_bytes(encoded((17, 5)))
    (tmp_path / "book.ipynb").write_text("{}")
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "book.ipynb"))
    monkeypatch.chdir("/")
    assert bench.widths("images/pasted.png") == [17]


def test_the_size_that_was_asked_for_holds_for_every_picture(bench: Bench) -> None:
    wide = Pillow.new("L", (5000, 100))
    for size, width in (("low", 512), ("high", 4096), ("none", 5000), ("100x100", 100)):
        assert bench.widths("wide", variables={"wide": wide}, size=size) == [width]


def test_a_cell_is_found_in_the_kernel_then_in_the_notebook(bench: Bench, shell: Any) -> None:
    shell.run_cell("1", store_history=True, cell_id="mine")
    bench.gallery.open()
    shell.run_cell(
        "from IPython.display import Image, display\nimport base64\n"
        f"display(Image(base64.b64decode({__import__('base64').b64encode(encoded((7, 7)))!r})))",
        store_history=True,
        cell_id="plot",
    )
    number = len(shell.user_ns["In"]) - 1
    assert bench.widths("cell:plot") == [7]
    assert bench.widths(f"cell:{number}") == [7]
    assert bench.widths("cell:earlier") == [12, 13]
    assert bench.widths("cell:earlier[-1]") == [13]
    bench.gallery.close()


def test_an_attachment_the_clipboard_and_an_address_are_found(bench: Bench, tmp_path: Path) -> None:
    bench.clipboard = Pillow.new("L", (21, 3))
    assert bench.widths("attachment:plot.png") == [11]
    assert bench.widths("clipboard") == [21]
    assert bench.widths("https://example.org/a/b.png?token=1") == [14]
    path = tmp_path / "copied.png"
    path.write_bytes(encoded((22, 3)))
    bench.clipboard = [str(path)]  # files that were copied, as on Windows
    assert bench.widths("clipboard") == [22]


def test_an_address_is_fetched_for_each_run_and_never_for_a_draft(bench: Bench) -> None:
    ask = Ask(image=("https://example.org/b.png",))
    assert bench.lookup.peek(ask, {}).pending == ("example.org/b.png",)
    assert bench.fetched == []
    bench.lookup.find(ask, {})
    bench.lookup.find(ask, {})
    assert len(bench.fetched) == 2
    assert [image.width for image in bench.lookup.peek(ask, {}).images] == [14]
    assert len(bench.fetched) == 2


def test_a_picture_that_is_only_an_address_is_fetched(bench: Bench) -> None:
    from IPython.display import Image

    variables = {"linked": Image(url="https://example.org/x.png")}
    assert bench.lookup.peek(Ask(image=("linked",)), variables).pending == ("linked",)
    assert bench.widths("linked", variables=variables) == [14]


def test_a_draft_waits_for_what_only_a_run_finds(bench: Bench) -> None:
    def refuse() -> Any:
        raise AssertionError("a draft must not look into the clipboard")

    bench.grab = refuse
    media = bench.lookup.peek(Ask(image=("clipboard", "attachment:plot.png", "cell:earlier", "last")), {})
    assert media.pending == ("clipboard", "attachment:plot.png", "cell:earlier")
    assert [image.width for image in media.images] == [1]


def test_what_was_prepared_for_a_draft_is_what_is_sent(bench: Bench) -> None:
    variables = {"data": encoded((40, 40))}
    peeked = bench.lookup.peek(Ask(image=("data",)), variables).images[0]
    assert bench.lookup.find(Ask(image=("data",)), variables).images[0] is peeked


def test_pictures_for_a_page_keep_their_bytes_where_a_page_can_show_them(bench: Bench) -> None:
    shown = encoded((8, 8), "GIF")
    variables = {"shown": shown, "bitmap": encoded((8, 8), "BMP")}
    (first,) = bench.lookup.find_pictures("shown", variables)
    (second,) = bench.lookup.find_pictures("bitmap", variables)
    assert (first.data, first.mime, first.label) == (shown, "image/gif", "shown")
    assert (second.mime, Pillow.open(io.BytesIO(second.data)).format) == ("image/png", "PNG")


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("nothing", ImageError, "neither a variable nor a file"),
        ("boxx", ImageError, "did you mean box"),
        ("no/such.png", ImageError, "neither a variable nor a file"),
        ("no/such*.png", ImageError, "no file matches"),
        ("/", ImageError, "is a folder"),
        ("x" * 5000, ImageError, "neither a variable nor a file"),
        ("~nobody-there/a.png", ImageError, "neither a variable nor a file"),
        ("~nobody-there/*.png", ImageError, "no file matches"),
        ("~\0*", ImageError, "no file matches"),
        ("a\0b", ImageError, "neither a variable nor a file"),
        ("last:0", ImageError, "last:3"),
        ("cell:none", ImageError, "shows no picture"),
        ("cell:earlier[7]", ImageError, r"shows 2 pictures, there is no \[7\]"),
        ("attachment:none.png", ImageError, "no Markdown cell"),
        ("clipboard", ImageError, "no picture in the clipboard"),
        ("box[5]", VariableError, "box"),
        ("box.f()", VariableError, "not a name"),
    ],
)
def test_what_is_not_there_names_cause_and_remedy(bench: Bench, name: str, error: type, says: str) -> None:
    with pytest.raises(error) as caught:
        bench.widths(name, variables={"box": []})
    assert re.search(says, str(caught.value))
    assert caught.value.remedy
    assert len(str(caught.value)) < 400


def test_last_without_a_picture_says_what_to_do(shell: Any) -> None:
    lookup = Lookup(CellRuns(shell), Sources(gallery=Gallery(shell, limit_bytes=lambda: 1)))
    with pytest.raises(ImageError, match="no picture was displayed"):
        lookup.find(Ask(image=("last",)), {})


@pytest.mark.parametrize(
    ("bundle", "says"),
    [
        ({"image/svg+xml": "<svg/>"}, "SVG"),
        ({"application/vnd.plotly.v1+json": {}, "text/plain": "Figure"}, "plotly"),
    ],
)
def test_a_last_picture_that_cannot_be_sent_is_not_passed_over(bench: Bench, bundle: dict, says: str) -> None:
    bench.gallery.keep(bundle)
    with pytest.raises(ImageError, match=says):
        bench.widths("last")


def test_a_clipboard_that_cannot_be_read_says_what_to_do(bench: Bench) -> None:
    def fail() -> Any:
        raise NotImplementedError("wl-paste or xclip is required")

    bench.grab = fail
    with pytest.raises(ImageError, match="wl-paste or xclip"):
        bench.widths("clipboard")
