"""What was displayed is found again: by cells, by threads, by results; within its bound, and without harm."""

from __future__ import annotations

import io
import threading
from typing import Any

import pytest
from PIL import Image as Pillow

from kimi_magics.notebook.gallery import LEAST_LIMIT_BYTES, Gallery


def encoded(width: int = 8, *, noise: int = 0) -> bytes:
    """Return a PNG, of about `noise` bytes where that is asked for."""
    out = io.BytesIO()
    if noise:
        side = int((noise / 3) ** 0.5)
        Pillow.effect_noise((side, side), 200).convert("RGB").save(out, "BMP")
    else:
        Pillow.new("RGB", (width, 4), "red").save(out, "PNG")
    return out.getvalue()


def widths(gallery: Gallery, count: int = 99) -> list[int]:
    return [Pillow.open(io.BytesIO(shown.data)).width for shown in gallery.newest(count)]


@pytest.fixture
def gallery(shell: Any) -> Any:
    gallery = Gallery(shell, limit_bytes=lambda: 64_000_000)
    gallery.open()
    yield gallery
    gallery.close()


def test_what_cells_display_and_return_is_kept_in_order(gallery: Gallery, shell: Any) -> None:
    shell.user_ns["make"] = lambda width: Pillow.new("RGB", (width, 4))
    shell.run_cell("from IPython.display import display; display(make(5)); make(6)", store_history=True)
    shell.run_cell("make(7)\nNone", store_history=True)  # made, not shown
    assert widths(gallery) == [5, 6]
    assert [shown.execution_count for shown in gallery.newest(2)] == [1, 1]


def test_what_a_thread_displays_is_kept(gallery: Gallery, shell: Any) -> None:
    def show() -> None:
        shell.display_pub.publish({"image/png": encoded(11)})

    thread = threading.Thread(target=show)
    thread.start()
    thread.join()
    assert widths(gallery) == [11]


def test_a_picture_in_base64_is_kept_as_bytes(gallery: Gallery, shell: Any) -> None:
    shell.display_pub.publish({"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"})  # base64, as matplotlib sends it
    assert gallery.newest()[0].data == b"\x89PNG\r\n\x1a\n"


def test_the_same_picture_is_kept_once_and_counts_as_shown_last(gallery: Gallery) -> None:
    for width in (1, 2, 1):
        gallery.keep({"image/png": encoded(width)})
    assert widths(gallery) == [2, 1]
    assert gallery.size_bytes == len(encoded(1)) + len(encoded(2))


def test_an_update_takes_the_place_of_what_it_updates(gallery: Gallery, shell: Any) -> None:
    shell.display_pub.publish({"image/png": encoded(1)}, transient={"display_id": "plot"})
    shell.display_pub.publish({"image/png": encoded(2)}, transient={"display_id": "plot"}, update=True)
    assert widths(gallery) == [2]
    assert gallery.size_bytes == len(encoded(2))


def test_a_cell_that_runs_again_loses_its_old_pictures(gallery: Gallery, shell: Any) -> None:
    shell.user_ns["png"] = encoded
    source = "from IPython.display import Image, display; display(Image(png({})))"
    shell.run_cell(source.format(3), store_history=True, cell_id="a")
    shell.run_cell(source.format(4), store_history=True, cell_id="b")
    shell.run_cell(source.format(5), store_history=True, cell_id="a")
    assert widths(gallery) == [4, 5]
    assert [shown.cell for shown in gallery.of_cell("a")] == ["a"]
    assert gallery.size_bytes == len(encoded(4)) + len(encoded(5))
    number = str(len(shell.user_ns["In"]) - 1)
    assert gallery.of_cell(number) == gallery.of_cell("a")


def test_the_bound_holds_and_the_oldest_go_first(shell: Any) -> None:
    gallery = Gallery(shell, limit_bytes=lambda: 2_000_000)
    pictures = [encoded(noise=600_000) for _ in range(5)]
    for data in pictures:
        gallery.keep({"image/bmp": data})
    assert gallery.size_bytes <= 2_000_000
    assert [shown.trouble for shown in gallery.newest(5)] == ["let-go", "let-go", "", "", ""]
    assert [shown.data for shown in gallery.newest(3)] == pictures[2:]


def test_the_bound_is_not_asked_for_a_few_figures(shell: Any) -> None:
    def refuse() -> int:
        raise AssertionError("reading the settings costs time")

    gallery = Gallery(shell, limit_bytes=refuse)
    gallery.keep({"image/png": encoded()})
    assert 0 < gallery.size_bytes < LEAST_LIMIT_BYTES


def test_what_has_no_picture_is_passed_over(gallery: Gallery, shell: Any) -> None:
    for bundle in ({"text/plain": "x"}, {"image/png": ""}, {"image/png": b""}, {}):
        shell.display_pub.publish(bundle)
    assert gallery.newest() == []


def test_a_display_is_not_harmed_by_what_cannot_be_kept(gallery: Gallery, shell: Any, capsys: Any) -> None:
    shell.display_pub.publish({"image/png": "not base64!", "text/plain": "a figure"})
    assert "a figure" in capsys.readouterr().out
    assert gallery.newest() == []


def test_closing_leaves_the_shell_as_it_was(shell: Any) -> None:
    gallery = Gallery(shell, limit_bytes=lambda: 1)
    before = dict(shell.display_pub.__dict__), dict(shell.displayhook.__dict__)
    gallery.open()
    gallery.keep({"image/png": encoded()})
    gallery.close()
    assert (dict(shell.display_pub.__dict__), dict(shell.displayhook.__dict__)) == before
    assert gallery.newest() == []
    assert gallery._begin_cell not in shell.events.callbacks["pre_run_cell"]


def test_another_wrapper_on_top_stays_and_ours_does_nothing_any_more(shell: Any) -> None:
    gallery = Gallery(shell, limit_bytes=lambda: 64_000_000)
    gallery.open()
    ours = shell.display_pub.publish
    shell.display_pub.publish = lambda *args, **options: ours(*args, **options)
    gallery.close()
    shell.display_pub.publish({"image/png": encoded()})
    assert gallery.newest() == []
    del shell.display_pub.publish


def test_only_the_latest_displays_are_remembered(gallery: Gallery) -> None:
    data = encoded(noise=30_000)
    for number in range(5000):
        gallery.keep({"image/bmp": data + number.to_bytes(4, "big")}, display_id=None)
    assert len(gallery.newest(9999)) == 4096
