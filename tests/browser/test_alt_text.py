"""Alt text as a browser sees it: of `%kimi_describe --alt`, and of a notebook that `kimi-magics alt` has written.

That notebook is not trusted, since Jupyter has not written it: its HTML passes the sanitiser of the front end.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from typing import TYPE_CHECKING, Any

import PIL.Image
import pytest

from kimi_magics.cli import main
from kimi_magics.store.alts import AltStore, AltText

if TYPE_CHECKING:
    from driver import Frontend, NotebookPage

    from kimi_magics.sandbox import Sandbox

    from .conftest import WaitFor

SHOW = """\
import PIL.Image
from IPython.display import display
display(PIL.Image.new("RGB", (64, 48), "green"))"""
ATTACK = '"><img src=x onerror="document.title=1"><script>document.title=1</script>'


def png(width: int) -> bytes:
    out = io.BytesIO()
    PIL.Image.new("RGB", (width, 40), "navy").save(out, "PNG")
    return out.getvalue()


def images(notebook: NotebookPage, index: int) -> list[dict[str, Any]]:
    """Return the images of a cell as the page has them: the alt text, and the width of what is really shown."""
    return (
        notebook.cell(index)
        .locator("img")
        .evaluate_all("images => images.map(image => ({alt: image.alt, width: image.naturalWidth}))")
    )


def test_a_picture_is_shown_again_with_its_alt_text_and_stays_when_saved(frontend: Frontend, wait_for: WaitFor) -> None:
    notebook = frontend.open(["%load_ext kimi_magics", SHOW, "%kimi_describe --alt"])
    notebook.run_all()
    notebook.wait_for_output(2, r"in / \d+ out · \$")
    wait_for(lambda: [image["width"] for image in images(notebook, 2)] == [64], what="the picture is shown again")
    (shown,) = images(notebook, 2)
    assert "PNG of 64×48" in shown["alt"]
    assert "writing the alt text" not in notebook.output_text(2)
    notebook.screenshot("alt-text")
    saved, _footer = notebook.save()["cells"][2]["outputs"]
    assert saved["metadata"]["image/png"] == {"alt": shown["alt"]}
    assert set(saved["data"]) == {"image/png", "text/html", "text/plain"}
    assert notebook.complaints == []


def test_the_alt_texts_of_the_command_show_in_a_notebook_that_is_not_trusted(
    frontend: Frontend, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, wait_for: WaitFor
) -> None:
    monkeypatch.setenv("MOONSHOT_BASE_URL", sandbox.base_url)
    monkeypatch.setenv("MOONSHOT_API_KEY", "sandbox")
    AltStore().put(hashlib.sha256(png(51)).hexdigest(), "English", AltText(ATTACK, "a model", "2026-01-01"))
    notebook = frontend.open(["1"])
    content = json.loads(notebook.path.read_text("utf-8"))
    outputs = [
        {
            "output_type": "display_data",
            "data": {"image/png": base64.b64encode(png(width)).decode(), "text/plain": "<Figure>"},
            "metadata": {},
        }
        for width in (50, 51)
    ]
    content["cells"][0]["outputs"] = outputs
    (notebook.path.parent / "plot.png").write_bytes(png(51))
    attached = {"a.png": {"image/png": base64.b64encode(png(52)).decode()}}
    lines = ["![](attachment:a.png)\n", "![](plot.png)\n", "<img src='plot.png'>"]
    content["cells"].append(
        {"cell_type": "markdown", "id": "text", "metadata": {}, "source": lines, "attachments": attached}
    )
    notebook.path.write_text(json.dumps(content), "utf-8")
    assert main(["alt", "--yes", str(notebook.path)]) == 0

    second = frontend.open_again(notebook)
    wait_for(lambda: [one["width"] for one in images(second, 0)] == [50, 51], what="the outputs are shown")
    wait_for(lambda: [one["width"] for one in images(second, 1)] == [52, 51, 51], what="the Markdown is shown")
    second.screenshot("alt-text-command")
    first, attacked = (one["alt"] for one in images(second, 0))
    assert "PNG of 50×40" in first
    assert attacked == ATTACK
    attachment, *files = (one["alt"] for one in images(second, 1))
    assert "PNG of 52×40" in attachment
    assert files == [ATTACK, ATTACK]
    assert second.page.title() != "1"
