"""Pictures in the page: pasted and dropped into prompts, asked for by the kernel, shown while the answer comes."""

from __future__ import annotations

import hashlib
import io
import json
import re
from base64 import b64encode
from collections.abc import Iterator
from typing import TYPE_CHECKING

import PIL.Image
import pytest
from driver import PacedStream, build_stream
from playwright.sync_api import expect

from kimi_magics.sandbox import Sandbox, SandboxOptions

if TYPE_CHECKING:
    from driver import Frontend, NotebookPage

    from .conftest import WaitFor

LOAD = "%load_ext kimi_magics\n%kimi_config gauge=off"
#: Gives files to the editor as a user does by the clipboard or the mouse; returns whether the page took them.
GIVE = """(content, {kind, files, text}) => {
    const data = new DataTransfer();
    for (const {name, type, base64} of files) {
        const bytes = Uint8Array.from(atob(base64), one => one.charCodeAt(0));
        data.items.add(new File([bytes], name, {type}));
    }
    if (text) data.setData("text/plain", text);
    const box = content.querySelector(".cm-line").getBoundingClientRect();
    const place = {clientX: box.left + 2, clientY: box.top + box.height / 2};
    const options = {bubbles: true, cancelable: true, ...place};
    const events = kind === "paste"
        ? [new ClipboardEvent("paste", {...options, clipboardData: data})]
        : ["dragenter", "dragover", "drop"].map(name => new DragEvent(name, {...options, dataTransfer: data}));
    return events.map(event => (content.dispatchEvent(event), event.defaultPrevented));
}"""


def make_picture(width: int, height: int, color: str, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    PIL.Image.new("RGB", (width, height), color).save(out, kind)
    return out.getvalue()


def name_saved(data: bytes, suffix: str = "png") -> str:
    return f"images/pasted-{hashlib.sha256(data).hexdigest()[:8]}.{suffix}"


def give(
    notebook: NotebookPage, index: int, kind: str, *pictures: bytes, mime: str = "image/png", text: str = ""
) -> bool:
    """Paste or drop pictures into a cell; return whether the page took them from the front end."""
    content = notebook.cell(index).locator(".cm-content")
    content.click()
    files = [{"name": "image.png", "type": mime, "base64": b64encode(data).decode()} for data in pictures]
    return content.evaluate(GIVE, {"kind": kind, "files": files, "text": text})[-1]


def wait_for_source(notebook: NotebookPage, index: int, source: str) -> None:
    expect(notebook.cell(index).locator(".cm-content")).to_have_text(re.compile(rf"^{re.escape(source)}$"))


def saved_names(notebook: NotebookPage) -> list[str]:
    folder = notebook.path.parent / "images"
    return sorted(f"images/{path.name}" for path in folder.iterdir()) if folder.exists() else []


RED, GREEN, BLUE = (make_picture(*size) for size in ((60, 40, "red"), (30, 70, "green"), (50, 50, "blue")))
PHOTO = make_picture(33, 44, "orange", "JPEG")


def test_pasted_picture_is_saved_once_named_in_the_cell_and_sent(lab: Frontend, sandbox: Sandbox) -> None:
    notebook = lab.open([LOAD, "%%kimi\nWhat is it?", "x = 1", "%%kimi -o again\nWhat?"])
    notebook.run(0)
    notebook.wait_until_done(0)
    assert give(notebook, 1, "paste", RED)
    wait_for_source(notebook, 1, f"%%kimi -i {name_saved(RED)}What is it?")
    notebook.screenshot("pictures-pasted")
    assert (notebook.path.parent / name_saved(RED)).read_bytes() == RED

    notebook.page.keyboard.press("Control+Z")
    wait_for_source(notebook, 1, "%%kimiWhat is it?")
    notebook.page.keyboard.press("Control+Shift+Z")
    wait_for_source(notebook, 1, f"%%kimi -i {name_saved(RED)}What is it?")

    notebook.run(1)
    text = notebook.wait_for_output(1, " out · ")
    assert "60×40" in text or "60x40" in text, text


def paint_photo(width: int, height: int) -> bytes:
    """Return a JPEG of a landscape, about: it is large, and nothing in it is one colour."""
    sky = PIL.Image.linear_gradient("L").resize((width, height))
    hills = PIL.Image.radial_gradient("L").resize((width, height))
    picture = PIL.Image.merge("RGB", (hills, sky, sky.transpose(PIL.Image.Transpose.FLIP_TOP_BOTTOM)))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=92)
    return out.getvalue()


@pytest.fixture
def held(lab: Frontend) -> Iterator[NotebookPage]:
    """A notebook whose answers come when the test lets them."""
    stream = PacedStream()
    with Sandbox(SandboxOptions(replay=stream)) as host:
        files = {
            "photo of the valley.jpg": paint_photo(5000, 3000),
            "red.png": RED,
            "tall.png": make_picture(40, 400, "teal"),
        }
        for name, data in files.items():
            (lab.server.folder / name).write_bytes(data)
        ask = "%%kimi -i 'photo of the valley.jpg' -i red.png -i tall.png\nWhat do they show?"
        notebook = lab.open([f"{LOAD}\n%env MOONSHOT_BASE_URL={host.base_url}", ask])
        notebook.stream = stream
        notebook.run(0)
        notebook.wait_until_done(0)
        yield notebook
        stream.hurry()


def test_what_is_sent_is_shown_while_the_answer_comes_and_gone_after_it(held: NotebookPage, wait_for: WaitFor) -> None:
    held.stream.set(build_stream("They show nothing. " * 40), 0.02, held_at=4)
    held.run(1)
    strip = held.outputs(1).locator(".kimi-media")
    expect(strip.locator("img")).to_have_count(3)
    expect(strip.locator("figcaption").nth(0)).to_have_text(re.compile("photo of the valley"))
    wait_for(lambda: strip.locator("img").nth(0).evaluate("img => img.naturalWidth") > 0, what="they are drawn")
    held.screenshot("pictures-live")
    held.stream.go_on()
    held.wait_until_done(1)
    expect(strip).to_have_count(0)
    held.wait_until_idle()
    assert "data:image" not in json.dumps(held.save())
