"""Pictures in the page: pasted and dropped into prompts, asked for by the kernel, shown while the answer comes."""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import PIL.Image
import pytest
from driver import PacedStream, build_stream
from giving import BLUE, GREEN, PHOTO, RED, give, make_picture, name_saved
from playwright.sync_api import expect

from kimi_magics.sandbox import Sandbox, SandboxOptions

if TYPE_CHECKING:
    from driver import Frontend, NotebookPage
    from playwright.sync_api import Route

    from .conftest import WaitFor

LOAD = "%load_ext kimi_magics\n%kimi_config gauge=off"


def wait_for_source(notebook: NotebookPage, index: int, *lines: str) -> None:
    """Wait until the cell's editor holds these lines."""
    expect(notebook.cell(index).locator(".cm-line")).to_have_text(list(lines), use_inner_text=True)


def start(frontend: Frontend, *cells: str) -> NotebookPage:
    """Open a notebook with these cells after one that has loaded the extension."""
    notebook = frontend.open([LOAD, *cells])
    notebook.run(0)
    notebook.wait_until_done(0)
    return notebook


def sent_pictures(sandbox: Sandbox) -> list[tuple[int, int]]:
    """Return width and height of the pictures in the last request for an answer."""
    body = [request.body for request in sandbox.requests if request.path.endswith("/chat/completions")][-1]
    content = body["messages"][-1]["content"]
    urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"] if content else []
    return [PIL.Image.open(io.BytesIO(b64decode(url.partition(",")[2]))).size for url in urls]


def run_and_see(notebook: NotebookPage, index: int, sandbox: Sandbox) -> list[tuple[int, int]]:
    """Run a prompt, and return the sizes of the pictures that arrived."""
    notebook.run(index)
    notebook.wait_for_output(index, r" in / .* out")
    return sent_pictures(sandbox)


# ---------------------------------------------------------------- paste and drop


def test_a_pasted_picture_is_saved_beside_the_notebook_named_in_the_cell_and_sent(
    frontend: Frontend, sandbox: Sandbox
) -> None:
    notebook = start(frontend, "%%kimi\nWhat is it?", "%%kimi --thinking off -o again\nAnd this?")
    name = name_saved(RED)
    give(notebook, 1, "paste", RED)
    wait_for_source(notebook, 1, f"%%kimi -i {name}", "What is it?")
    assert (notebook.path.parent / name).read_bytes() == RED
    notebook.screenshot("pictures-pasted")

    notebook.page.keyboard.press("Control+Z")
    wait_for_source(notebook, 1, "%%kimi", "What is it?")
    notebook.page.keyboard.press("Control+Shift+Z")
    wait_for_source(notebook, 1, f"%%kimi -i {name}", "What is it?")
    assert run_and_see(notebook, 1, sandbox) == [(60, 40)]

    written: list[str] = []
    notebook.page.on("request", lambda request: request.method == "PUT" and written.append(request.url))
    give(notebook, 2, "paste", RED, GREEN)
    give(notebook, 2, "paste", PHOTO, mime="image/jpeg")
    names = f"{name} -i {name_saved(GREEN)} -i {name_saved(PHOTO, 'jpg')}"
    wait_for_source(notebook, 2, f"%%kimi --thinking off -o again -i {names}", "And this?")
    assert [url.partition("/images/")[2].partition("?")[0] for url in written if "/images/" in url] == [
        name_saved(GREEN).removeprefix("images/"),
        name_saved(PHOTO, "jpg").removeprefix("images/"),
    ]
    assert run_and_see(notebook, 2, sandbox) == [(60, 40), (30, 70), (33, 44)]
    assert notebook.complaints == []


COPY = """async base64 => {
    const bytes = Uint8Array.from(atob(base64), one => one.charCodeAt(0));
    await navigator.clipboard.write([new ClipboardItem({"image/png": new Blob([bytes], {type: "image/png"})})]);
}"""


def test_keys_paste_the_clipboard_and_undo_takes_the_name_alone(lab: Frontend) -> None:
    lab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    notebook = start(lab, "%%kimi\nWhat?", "x = 1")
    notebook.page.evaluate(COPY, b64encode(RED).decode())
    notebook.type(1, " Tell me")
    notebook.page.keyboard.press("Control+V")
    first = notebook.cell(1).locator(".cm-line").first
    # A browser writes the picture of its clipboard anew.
    expect(first).to_have_text(re.compile(r"^%%kimi -i images/pasted-[0-9a-f]{8}\.png$"))
    named = first.inner_text()
    path = notebook.path.parent / named.removeprefix("%%kimi -i ")
    assert PIL.Image.open(io.BytesIO(path.read_bytes())).size == (60, 40)
    notebook.page.keyboard.type(" more")
    for lines in ((named, "What? Tell me"), ("%%kimi", "What? Tell me"), ("%%kimi", "What?")):
        notebook.page.keyboard.press("Control+Z")
        wait_for_source(notebook, 1, *lines)
    notebook.type(2, "")
    notebook.page.keyboard.press("Control+V")
    notebook.page.keyboard.type(" + 1")
    wait_for_source(notebook, 2, "x = 1 + 1")


def test_a_dropped_picture_belongs_to_the_prompt_that_it_is_dropped_on(lab: Frontend, sandbox: Sandbox) -> None:
    notebook = start(
        lab, "%kimi -i red.png --max-tokens 50 What is it?\nx = 1", "%kimi_estimate What?", "%kimi_describe"
    )
    (notebook.path.parent / "red.png").write_bytes(RED)
    give(notebook, 1, "drop", GREEN)
    wait_for_source(notebook, 1, f"%kimi -i red.png --max-tokens 50 -i {name_saved(GREEN)} What is it?", "x = 1")
    assert run_and_see(notebook, 1, sandbox) == [(60, 40), (30, 70)]
    for index, magic, rest in ((2, "%kimi_estimate", " What?"), (3, "%kimi_describe", "")):
        # A gauge is part of its prompt.
        give(notebook, index, "drop", GREEN, beside=True)
        wait_for_source(notebook, index, f"{magic} -i {name_saved(GREEN)}{rest}")
    assert notebook.complaints == []


#: A text with the cursor as ¦, and with the place as |, or "" where nothing is a prompt.
PLACES = {
    "%%kimi¦\nhi": "%%kimi|\nhi",
    "\n%%kimi -i a.png  -m x  \nhi¦": "\n%%kimi -i a.png  -m x|  \nhi",
    '%%kimi --raw -o out --image="a b.png"\n¦': '%%kimi --raw -o out --image="a b.png"|\n',
    "%%kimi -s 'it¦ is\nhi": "%%kimi| -s 'it is\nhi",
    "x = 1\n%kimi -i 'a b.png' --stop=5 what -m¦ is\n%kimi": "x = 1\n%kimi -i 'a b.png' --stop=5| what -m is\n%kimi",
    "  %kimi_describe --alt last¦": "  %kimi_describe --alt| last",
    "%kimi_estimate --unknown x¦": "%kimi_estimate| --unknown x",
    "x =¦ 1\n%kimi hi": "",
    "%%time\n%kimi hi¦": "",
    "%kimi_models¦": "",
    "%%kimis\n¦": "",
    "¦": "",
}
FIND_PLACES = """async drafts => {
    const script = [...document.scripts].find(one => one.src.includes("kimi-magics/static/remoteEntry"));
    const text = await import(new URL("./pictures_text.js", script.src).href);
    const makeDoc = source => ({
        sliceString: (from, to) => source.slice(from, to),
        lineAt: position => {
            const from = source.lastIndexOf("\\n", position - 1) + 1;
            return {from, text: source.slice(from).split("\\n")[0]};
        },
    });
    const find = draft => {
        const source = draft.replace("¦", "");
        const place = text.findPlace(makeDoc(source), draft.indexOf("¦"));
        return place == null ? "" : source.slice(0, place) + "|" + source.slice(place);
    };
    const ways = [["", "a.png"], ["x", "x/images/a.png"], ["x/y", "x/z/a.png"], ["x", "a.png"]];
    return [
        Object.fromEntries(drafts.map(draft => [draft, find(draft)])),
        ways.map(([folder, path]) => text.findWay(folder, path)),
        ["a.png", "a b.png", "it's.png"].map(text.quote),
    ];
}"""


def test_a_picture_is_named_behind_the_flags_and_as_the_line_is_read(lab: Frontend) -> None:
    notebook = lab.open([""])
    places, ways, quoted = notebook.page.evaluate(FIND_PLACES, list(PLACES))
    assert places == PLACES
    assert ways == ["a.png", "images/a.png", "../z/a.png", "../a.png"]
    assert quoted == ["a.png", "'a b.png'", '"it\'s.png"']
    assert [shlex.split(one) for one in quoted] == [["a.png"], ["a b.png"], ["it's.png"]]


def test_whatever_else_is_pasted_or_dropped_is_left_to_the_front_end(lab: Frontend) -> None:
    notebook = start(lab, "%%kimi\nWhat is it?", "x = 1", "y = 1\n%kimi What?", "%%time\n%kimi What?")
    folder = notebook.path.parent / "images"
    before = sorted(folder.iterdir()) if folder.exists() else []
    # A copy from a table brings its picture, too: the text is meant.
    give(notebook, 1, "paste", RED, text=" And what is that?")
    wait_for_source(notebook, 1, "%%kimi", "What is it? And what is that?")
    give(notebook, 1, "paste", text=" Tell me.")
    wait_for_source(notebook, 1, "%%kimi", "What is it? And what is that? Tell me.")
    for index in (2, 4):
        give(notebook, index, "paste", RED)
        give(notebook, index, "drop", RED)
    # Only the line with the cursor is a prompt.
    give(notebook, 3, "drop", RED)
    give(notebook, 1, "drop", b"A table: ", mime="text/csv")
    wait_for_source(notebook, 1, "A table: %%kimi", "What is it? And what is that? Tell me.")
    wait_for_source(notebook, 2, "x = 1")
    wait_for_source(notebook, 3, "y = 1", "%kimi What?")
    wait_for_source(notebook, 4, "%%time", "%kimi What?")
    assert (sorted(folder.iterdir()) if folder.exists() else []) == before
    assert notebook.complaints == []


def test_saving_is_shown_and_a_failure_says_why(lab: Frontend, wait_for: WaitFor) -> None:
    notebook = start(lab, "%%kimi\nWhat is it?")
    note = notebook.cell(1).locator(".kimi-pictures")
    held: list[Route] = []
    address = re.compile(r"/api/contents/images/pasted")
    notebook.page.route(
        address, lambda route: held.append(route) if route.request.method == "PUT" else route.continue_()
    )
    give(notebook, 1, "paste", BLUE)
    expect(note.get_by_role("status")).to_have_text("Saving the picture …")
    # The count lets the browser's events come in.
    wait_for(lambda: note.count() > 0 and bool(held), what="the page saves the picture")
    notebook.screenshot("pictures-saving")
    notebook.type(1, " Tell me")
    held.pop().continue_()
    wait_for_source(notebook, 1, f"%%kimi -i {name_saved(BLUE)}", "What is it? Tell me")
    expect(note).to_have_count(0)

    give(notebook, 1, "paste", make_picture(9, 9, "pink"))
    wait_for(lambda: note.count() > 0 and bool(held), what="the page saves the second picture")
    held.pop().fulfill(status=403, json={"message": "Permission denied: images/pasted.png"})
    expect(note.get_by_role("alert")).to_contain_text("the folder of the notebook may not be written to")
    notebook.screenshot("pictures-failed")
    note.get_by_role("button", name="Dismiss").click()
    expect(note).to_have_count(0)

    give(notebook, 1, "paste", b"", padding=50_000_001)
    expect(note.get_by_role("alert")).to_contain_text("at most 50 MB can be pasted: name its file with -i")
    wait_for_source(notebook, 1, f"%%kimi -i {name_saved(BLUE)}", "What is it? Tell me")


def test_a_picture_of_the_file_browser_is_named_where_it_is_dropped(lab: Frontend) -> None:
    (lab.server.folder / "a plot.png").write_bytes(RED)
    notebook = start(lab, "%%kimi\nWhat is it?", "x = 1")
    item = notebook.page.locator(".jp-DirListing-item", has_text="a plot.png")
    for index in (1, 2):
        item.hover()
        notebook.page.mouse.down()
        line = notebook.cell(index).locator(".cm-line").first.bounding_box()
        for step in (40, 20, 5):
            notebook.page.mouse.move(line["x"] + step, line["y"] + line["height"] / 2, steps=4)
        notebook.screenshot(f"pictures-dragged-{index}")
        notebook.page.mouse.up()
    wait_for_source(notebook, 1, "%%kimi -i 'a plot.png'", "What is it?")
    wait_for_source(notebook, 2, "x = 1")


# ---------------------------------------------------------------- what only the page has


def test_the_kernel_gets_what_is_attached_to_a_text_cell_and_not_saved(frontend: Frontend, sandbox: Sandbox) -> None:
    # No cell is a prompt as a whole, so that no gauge is there which would speak to the kernel.
    notebook = start(frontend, "", "x = 1\n%kimi -i attachment:* What is it?", "y = 1\n%kimi -i attachment:x.png What?")
    notebook.cell(1).locator(".jp-InputPrompt").click()
    notebook.page.keyboard.press("m")
    notebook.page.keyboard.press("Enter")
    give(notebook, 1, "paste", RED)
    expect(notebook.cell(1).locator(".cm-content")).to_contain_text("(attachment:")
    assert '"attachments"' not in notebook.path.read_text("utf-8")
    assert run_and_see(notebook, 2, sandbox) == [(60, 40)]

    notebook.save()
    notebook.reload()
    notebook.cell(1).dblclick()
    give(notebook, 1, "paste", GREEN)
    expect(notebook.cell(1).locator(".cm-content")).to_have_text(re.compile(r"(attachment:.*){2}"))
    assert sorted(run_and_see(notebook, 2, sandbox)) == [(30, 70), (60, 40)]
    notebook.run(3)
    assert "no Markdown cell has an attachment x.png" in notebook.wait_for_output(3, "Error")
    assert notebook.complaints == []


def test_the_kernel_gets_what_a_cell_showed_before_a_restart(lab: Frontend, sandbox: Sandbox) -> None:
    bundles = {"image/png": b64encode(RED).decode()}, {"image/jpeg": b64encode(PHOTO).decode()}
    shown = f"for bundle in {bundles}:\n    display(bundle, raw=True)"
    notebook = start(lab, shown, "%%kimi -i cell:cell-1 -i cell:2[1]\nWhat are they?")
    notebook.run(1)
    notebook.wait_until_done(1)
    notebook.page.locator(".lm-MenuBar-item", has_text=re.compile("^Kernel$")).click()
    notebook.page.locator('.lm-Menu-item[data-command="kernelmenu:restart"]').click()
    notebook.page.locator(".jp-Dialog .jp-mod-accept").click()
    notebook.page.locator(".jp-Dialog").wait_for(state="detached")
    notebook.wait_until_idle()
    notebook.run(0)
    notebook.wait_for_output(0, "gauge = off")
    notebook.wait_until_idle()
    assert run_and_see(notebook, 2, sandbox) == [(60, 40), (33, 44), (33, 44)]
    assert "output_type" not in notebook.path.read_text("utf-8")
    assert notebook.complaints == []


# ---------------------------------------------------------------- while the answer comes


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


def choose_theme(notebook: NotebookPage, name: str) -> None:
    notebook.page.locator(".lm-MenuBar-item", has_text=re.compile("^Settings$")).click()
    notebook.page.get_by_text("Theme", exact=True).hover()
    notebook.page.get_by_text(name, exact=True).click()
    is_light = "true" if name.endswith("Light") else "false"
    notebook.page.locator(f"body[data-jp-theme-light={is_light}]").wait_for(state="attached")
    notebook.page.locator("#jupyterlab-splash").wait_for(state="detached")


def test_what_is_sent_is_shown_while_the_answer_comes_and_gone_after_it(held: NotebookPage, wait_for: WaitFor) -> None:
    held.stream.set(build_stream("They show nothing. " * 800), 0.05, held_at=4)
    held.run(1)
    strip = held.outputs(1).locator(".kimi-media")
    pictures = strip.locator("img[alt=''][src^='data:image/']")
    expect(pictures).to_have_count(3)
    expect(strip.locator("figcaption").nth(0)).to_have_text(
        re.compile(r"photo of the valley\.jpgJPEG 5000×3000 .* → JPEG 3600×2160 .* · ≈ 4,154 tokens")
    )
    wait_for(lambda: pictures.nth(0).evaluate("img => img.naturalWidth") > 0, what="they are drawn")
    # The places have their size before the pictures come: nothing moves.
    assert {one.bounding_box()["height"] for one in strip.locator(".kimi-medium").all()} == {72}
    held.screenshot("pictures-live")
    choose_theme(held, "JupyterLab Dark")
    held.screenshot("pictures-live-dark")
    choose_theme(held, "JupyterLab Light")

    assert "data:image" not in json.dumps(held.save())
    held.stream.go_on()
    held.reload(is_busy=True)
    expect(pictures).to_have_count(3)
    held.screenshot("pictures-live-reloaded")
    held.stream.hurry()
    held.wait_for_output(1, r" in / .* out")
    expect(strip).to_have_count(0)
    held.wait_until_idle()
    assert "data:image" not in json.dumps(held.save())
    assert held.complaints == []


# ---------------------------------------------------------------- alt text


def export(path: Path) -> str:
    """Return the notebook as a page of HTML, as `jupyter nbconvert` writes it."""
    command = [sys.executable, "-m", "nbconvert", "--to", "html", "--log-level=ERROR", str(path)]
    subprocess.run(command, check=True, timeout=120)
    return path.with_suffix(".html").read_text("utf-8")


def test_alt_text_stays_in_the_page_in_the_file_and_in_exported_html(lab: Frontend, sandbox: Sandbox) -> None:
    show = "from IPython.display import Image\nImage(data=open('red.png', 'rb').read())"
    (lab.server.folder / "red.png").write_bytes(RED)
    notebook = start(lab, show, "%kimi_describe --alt")
    notebook.run(1)
    notebook.wait_until_done(1)
    notebook.run(2)
    notebook.wait_for_output(2, " out · ")
    picture = notebook.outputs(2).locator("img")
    expect(picture).to_have_count(1)
    alt = picture.get_attribute("alt")
    assert "Sandbox" in alt
    notebook.screenshot("pictures-alt")
    notebook.save()
    notebook.reload()
    expect(picture).to_have_attribute("alt", alt)

    # A copy that this server has not signed.
    copy = notebook.path.with_name("copy.ipynb")
    content = json.loads(notebook.path.read_text("utf-8"))
    copy.write_text(json.dumps(content | {"metadata": content["metadata"] | {"note": "a copy"}}), "utf-8")
    page = lab.context.new_page()
    page.goto(notebook.page.url.partition("?")[0].replace(notebook.path.stem, copy.stem), wait_until="commit")
    page.locator('[title*="not trusted" i], [data-jp-notebook-trusted=false]').first.wait_for(state="attached")
    seen = page.locator(f'.jp-OutputArea-output img[alt="{alt}"]')
    expect(seen).to_be_visible()
    page.screenshot(path=lab.screenshots / "lab-pictures-alt-untrusted.png")
    assert seen.evaluate("img => img.naturalWidth") == 60

    exported = lab.context.new_page()
    # The page would load what sets its formulas from elsewhere.
    exported.route("**/*", lambda route: route.abort())
    exported.set_content(export(notebook.path))
    expect(exported.locator(f'img[alt="{alt}"]')).to_be_visible()
    exported.screenshot(path=lab.screenshots / "lab-pictures-alt-exported.png")
    assert notebook.complaints == []
