"""Pictures for the tests, and how a user gives them to a cell: by the clipboard or the mouse."""

from __future__ import annotations

import hashlib
import io
from base64 import b64encode
from typing import TYPE_CHECKING

import PIL.Image

if TYPE_CHECKING:
    from driver import NotebookPage

#: Gives files to the editor as a user does by the clipboard or the mouse.
GIVE = """(content, {kind, files, text, padding, beside}) => {
    const data = new DataTransfer();
    for (const {name, type, base64} of files) {
        const bytes = Uint8Array.from(atob(base64), one => one.charCodeAt(0));
        data.items.add(new File([bytes, new Uint8Array(padding)], name, {type}));
    }
    if (text) data.setData("text/plain", text);
    const box = content.querySelector(".cm-line").getBoundingClientRect();
    const place = {clientX: box.left + 2, clientY: box.top + box.height / 2};
    const options = {bubbles: true, cancelable: true, ...place};
    const events = kind === "paste"
        ? [new ClipboardEvent("paste", {...options, clipboardData: data})]
        : ["dragenter", "dragover", "drop"].map(name => new DragEvent(name, {...options, dataTransfer: data}));
    const target = beside ? content.closest(".cm-editor").querySelector(".cm-panel") : content;
    for (const event of events) target.dispatchEvent(event);
}"""


def make_picture(width: int, height: int, color: str, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    PIL.Image.new("RGB", (width, height), color).save(out, kind)
    return out.getvalue()


def name_saved(data: bytes, suffix: str = "png") -> str:
    return f"images/pasted-{hashlib.sha256(data).hexdigest()[:8]}.{suffix}"


def give(
    notebook: NotebookPage,
    index: int,
    kind: str,
    *pictures: bytes,
    mime: str = "image/png",
    text: str = "",
    padding: int = 0,
    beside: bool = False,
) -> None:
    """Paste or drop pictures, each with `padding` bytes more, into a cell, with the cursor at its end.

    With `beside` they are dropped on the first panel below the text, as the gauge is one.
    """
    content = notebook.cell(index).locator(".cm-content")
    content.click()
    notebook.page.keyboard.press("Control+End")
    files = [{"name": "image.png", "type": mime, "base64": b64encode(data).decode()} for data in pictures]
    content.evaluate(GIVE, {"kind": kind, "files": files, "text": text, "padding": padding, "beside": beside})


RED, GREEN, BLUE = (make_picture(*size) for size in ((60, 40, "red"), (30, 70, "green"), (50, 50, "blue")))
PHOTO = make_picture(33, 44, "orange", "JPEG")
