"""`kimi-magics alt` as a user runs it, against the sandbox."""

from __future__ import annotations

import base64
import copy
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from kimi_magics.cli import main
from kimi_magics.errors import BudgetError, ConfigError, RefusedError
from kimi_magics.notebook.alt_command import Order, run
from kimi_magics.sandbox import Fault, Sandbox

CHAT, COUNT = "/v1/chat/completions", "/v1/tokenizers/estimate-token-count"
ELSEWHERE = "not looked at: only files beside the notebook are looked at"
STYLES: dict[str, Callable[[Any], str]] = {
    "as Jupyter writes": lambda content: json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n",
    "two blanks": lambda content: json.dumps(content, indent=2) + "\n",
    "four blanks, no end of line": lambda content: json.dumps(content, indent=4, sort_keys=True, ensure_ascii=False),
    "tabs": lambda content: json.dumps(content, indent="\t"),
    "one line": json.dumps,
    "compact": lambda content: json.dumps(content, separators=(",", ":"), ensure_ascii=False),
    "Windows": lambda content: json.dumps(content, indent=1, ensure_ascii=False).replace("\n", "\r\n") + "\r\n",
}


def picture(width: int = 30, height: int = 20, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    PIL.Image.new("RGB", (width, height), "white").save(out, kind)
    return out.getvalue()


def encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def show(data: dict[str, Any], metadata: Any = None, **more: Any) -> dict[str, Any]:
    return {"data": data, "metadata": metadata or {}, "output_type": "display_data", **more}


def code(*outputs: dict[str, Any], name: str | None = "code") -> dict[str, Any]:
    cell = {"cell_type": "code", "execution_count": 1, "metadata": {}, "outputs": list(outputs), "source": ["plot()"]}
    return cell | ({"id": name} if name else {})


def markdown(*lines: str, attachments: Any = None, name: str = "text") -> dict[str, Any]:
    cell = {"cell_type": "markdown", "id": name, "metadata": {"tags": ["é"]}, "source": list(lines)}
    return cell | ({"attachments": attachments} if attachments else {})


def book(*cells: dict[str, Any], minor: int = 5) -> dict[str, Any]:
    return {
        "cells": list(cells),
        "metadata": {"kernelspec": {"name": "é", "display_name": "é"}},
        "nbformat": 4,
        "nbformat_minor": minor,
    }


def chats(sandbox: Sandbox) -> list[Any]:
    return [request.body for request in sandbox.requests if request.path == CHAT]


def sizes(sandbox: Sandbox) -> list[tuple[int, int]]:
    urls = [body["messages"][-1]["content"][0]["image_url"]["url"] for body in chats(sandbox)]
    return [PIL.Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).size for url in urls]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save(content: Any, name: str = "book.ipynb", style: str = "as Jupyter writes") -> Path:
    path = Path(name)
    path.write_bytes(STYLES[style](content).encode())
    return path


def load(path: Path = Path("book.ipynb")) -> Any:
    return json.loads(path.read_bytes())


def alt(*arguments: str) -> int:
    return main(["alt", *arguments])


# ---------------------------------------------------------------- what changes in the file


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("minor", [4, 5])
def test_only_alt_texts_are_added_and_the_rest_stays_to_the_byte(
    folder: Path, sandbox: Sandbox, style: str, minor: int
) -> None:
    png, jpeg = encode(picture()), encode(picture(31, 21, "JPEG"))
    (folder / "plot.png").write_bytes(picture(32, 22))
    shown = [
        show({"image/png": png, "text/plain": ["<Figure é>"]}, {"image/png": {"width": 15, "height": 10}}),
        show({"image/jpeg": [jpeg[:76] + "\n", jpeg[76:]], "text/html": ["<b>a table</b>"]}),
        {"name": "stdout", "output_type": "stream", "text": ["x"]},
    ]
    cells = [code(*shown, name=f"c{minor}" if minor == 5 else None)]
    if minor == 5:
        cells.append(markdown("# É\n", "![](plot.png) and ![](plot.png)\n", "`![](plot.png)`"))
    before = book(*cells, minor=minor)
    path = save(before, style=style)
    assert alt("--yes", "book.ipynb") == 0
    after = load()
    expected = copy.deepcopy(before)
    first, second = (output["metadata"] for output in after["cells"][0]["outputs"][:2])
    text, other = first["image/png"]["alt"], second["image/jpeg"]["alt"]
    assert ("PNG of 30×20" in text, "of 31×21" in other) == (True, True)
    shown_picture = f'<img src="data:image/png;base64,{png}" alt="{text}" width="15" height="10">'
    page = f'<figure style="margin: 0">{shown_picture}</figure>'
    outputs = expected["cells"][0]["outputs"]
    outputs[0]["data"]["text/html"] = [page]
    outputs[0]["metadata"]["image/png"]["alt"] = text
    outputs[1]["metadata"]["image/jpeg"] = {"alt": other}
    if minor == 5:
        third = after["cells"][1]["source"][1].partition("![")[2].partition("]")[0]
        assert "PNG of 32×22" in third
        expected["cells"][1]["source"][1] = f"![{third}](plot.png) and ![{third}](plot.png)\n"
    assert after == expected
    # Written in the style of the file: what the same writer makes of it, but for the order of the new members.
    assert path.read_bytes() == STYLES[style](after).encode()
    assert sorted(sizes(sandbox)) == [(30, 20), (31, 21), (32, 22)][: 1 + minor - 3]


def test_a_second_run_finds_nothing_and_touches_nothing(
    folder: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(book(code(show({"image/png": encode(picture())}))))
    assert alt("--yes", "book.ipynb") == 0
    before = path.stat()
    sandbox.clear()
    assert alt("--yes", "book.ipynb") == 0
    after = path.stat()
    # Not the time of the last reading, which goes on by itself.
    assert (after.st_ino, after.st_mode, after.st_ctime_ns) == (before.st_ino, before.st_mode, before.st_ctime_ns)
    assert sandbox.requests == []
    assert capsys.readouterr().out.endswith("every picture has an alt text\n")


def test_the_same_picture_is_asked_for_once_in_all_notebooks_and_kept_for_later(
    folder: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    content = book(code(show({"image/png": encode(picture())}), show({"image/png": encode(picture()) + "\n"})))
    save(content, "one.ipynb"), save(content, "two.ipynb")
    assert alt("--yes", "one.ipynb", "two.ipynb", "./one.ipynb") == 0
    assert len(chats(sandbox)) == 1
    assert "4 of 4 pictures have an alt text now · 3 without a request" in capsys.readouterr().out
    assert alt("--check", "one.ipynb", "two.ipynb") == 0
    save(content, "three.ipynb")
    sandbox.clear()
    # Nothing is sent, so that there is nothing to agree to.
    assert alt("three.ipynb") == 0
    assert sandbox.requests == []
    assert "2 pictures with an alt text that is known: nothing is sent" in capsys.readouterr().out


def test_every_kind_of_picture_is_found(folder: Path, sandbox: Sandbox) -> None:
    (folder / "figs").mkdir()
    (folder / "figs/a b.png").write_bytes(picture(41))
    (folder / "b.webp").write_bytes(picture(42, kind="WEBP"))
    outputs = [
        show({"image/gif": encode(picture(43, kind="GIF"))}),
        show({"image/webp": encode(picture(44, kind="WEBP"))}, output_type="update_display_data"),
        show({"image/png": encode(picture(45))}, output_type="execute_result", execution_count=1),
    ]
    text = markdown(
        "![image.png](attachment:image.png)\n",
        "![](figs/a%20b.png 'T') ![](<figs/a b.png>)\n",
        '<img src="b.webp" width=3>\n',
        "![][c]\n",
        "\n",
        f"[c]: data:image/png;base64,{encode(picture(46))}",
        attachments={"image.png": {"image/png": encode(picture(47))}},
    )
    save(book(code(*outputs), text))
    assert alt("--yes", "book.ipynb") == 0
    assert sorted(width for width, _ in sizes(sandbox)) == [41, 42, 43, 44, 45, 46, 47]
    assert alt("--check", "book.ipynb") == 0
    source = load()["cells"][1]["source"]
    assert source[2].startswith('<img alt="Sandbox answer') is True
    assert source[2].endswith('" src="b.webp" width=3>\n')


def test_what_has_alt_text_is_left_alone(folder: Path, sandbox: Sandbox) -> None:
    png = encode(picture())
    path = save(
        book(
            code(
                show({"image/png": png}, {"image/png": {"alt": "A chart"}}),
                show({"image/png": png, "text/html": ["<p>", "<IMG src='x' alt='A chart'>"]}),
                show({"image/svg+xml": ["<svg/>"]}),
            ),
            markdown("![A chart](x.png) <img src=x.png alt=''> `![](x.png)`"),
        )
    )
    before = path.read_bytes()
    assert alt("--yes", "book.ipynb") == 0
    assert (path.read_bytes(), sandbox.requests) == (before, [])


ATTACK = '"><script>alert(1)</script>](javascript:x) `$x$` <img src=x onerror=alert(1)>'


def test_a_hostile_alt_text_stays_text_in_outputs_and_markdown_of_the_exported_page(
    folder: Path, sandbox: Sandbox
) -> None:
    import hashlib

    from nbconvert import HTMLExporter

    from kimi_magics.store.alts import AltStore, AltText

    (folder / "plot.png").write_bytes(picture())
    AltStore().put(hashlib.sha256(picture()).hexdigest(), "English", AltText(ATTACK, "m", "2026-01-01"))
    save(book(code(show({"image/png": encode(picture())})), markdown("![](plot.png) <img src='plot.png'>")))
    assert alt("book.ipynb") == 0
    page = HTMLExporter(embed_images=False).from_filename("book.ipynb")[0]
    images = _images(page)
    assert [one.get("alt") for one in images] == [ATTACK.replace("`", "")] * 3
    assert all(set(one) <= {"src", "alt", "class"} for one in images)
    assert "<script>alert(1)" not in page


def test_the_exported_page_shows_the_alt_text(folder: Path, sandbox: Sandbox) -> None:
    from nbconvert import HTMLExporter

    save(
        book(code(show({"image/png": encode(picture())}), show({"image/png": encode(picture(31)), "text/html": ["x"]})))
    )
    assert alt("--yes", "book.ipynb") == 0
    (image,) = _images(HTMLExporter().from_filename("book.ipynb")[0])
    assert "PNG of 30×20" in image["alt"]


def _images(page: str) -> list[dict[str, Any]]:
    from html.parser import HTMLParser

    class Images(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag == "img":
                found.append(dict(attrs))

    found: list[dict[str, Any]] = []
    Images().feed(page)
    return found


# ---------------------------------------------------------------- the quote


def test_the_quote_comes_first_and_a_dry_run_generates_nothing(
    folder: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(book(code(show({"image/png": encode(picture())}), show({"image/png": encode(picture(60))}))))
    before = path.read_bytes()
    assert alt("--dry-run", "book.ipynb") == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[1:3] for line in shown[:2]] == [
        ["book.ipynb: cell 0 (id code) output 0: image/png", "30×20"],
        ["book.ipynb: cell 0 (id code) output 1: image/png", "60×20"],
    ]
    assert shown[2].startswith("2 pictures to describe: ")
    assert "about 240 out, about $0.00" in shown[2]
    assert (path.read_bytes(), chats(sandbox)) == (before, [])
    assert {request.path for request in sandbox.requests} == {COUNT}


def test_the_quote_as_json_sums_up(folder: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    save(book(code(show({"image/png": encode(picture())}), show({"image/png": encode(picture())}))))
    assert alt("--dry-run", "--json", "book.ipynb") == 0
    quote = json.loads(capsys.readouterr().out)
    first, second = quote["pictures"]
    assert (first["way"], second["way"], first["counted"], second["tokens"]) == ("ask", "same", True, None)
    assert Decimal(quote["cost"]) == Decimal(first["cost"]) == (first["tokens"] * Decimal("0.95") + 120 * 4) / 1_000_000


def test_without_a_key_the_dry_run_counts_here_and_a_run_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save(book(code(show({"image/png": encode(picture())}))))
    assert alt("--dry-run", "book.ipynb") == 0
    shown = capsys.readouterr().out
    assert "≈ counted here: " in shown
    assert "1 picture to describe: ≈ " in shown
    assert alt("--yes", "book.ipynb") == 1
    assert "MOONSHOT_API_KEY" in capsys.readouterr().err


@pytest.mark.parametrize(("answer", "code", "sent"), [("y", 0, 1), (" Yes ", 0, 1), ("", 1, 0), ("n", 1, 0)])
def test_the_user_is_asked(folder: Path, sandbox: Sandbox, answer: str, code: int, sent: int) -> None:
    asked: list[str] = []

    def agree(question: str) -> str:
        asked.append(question)
        return answer

    path = save(book(globals()["code"](show({"image/png": encode(picture())}))))
    before = path.read_bytes()
    assert run(Order((path,)), agree=agree) == code
    assert (asked, len(chats(sandbox))) == (["Go on? [y/N] "], sent)
    assert (path.read_bytes() == before) is (not sent)


def test_without_a_terminal_and_without_yes_nothing_is_sent(folder: Path, sandbox: Sandbox) -> None:
    path = save(book(code(show({"image/png": encode(picture())}))))
    with pytest.raises(RefusedError, match="no terminal"):
        run(Order((path,)), agree=None)
    assert chats(sandbox) == []


def test_a_budget_below_the_quote_is_refused_before_anything_is_sent(folder: Path, sandbox: Sandbox) -> None:
    path = save(book(code(show({"image/png": encode(picture())}))))
    with pytest.raises(BudgetError, match=r"expected, over the budget of \$0\.0001"):
        run(Order((path,), is_agreed=True, budget="0.0001"), agree=None)
    with pytest.raises(BudgetError, match="the price is not known"):
        run(Order((path,), is_agreed=True, budget="5", model="kimi-unheard-of"), agree=None)
    with pytest.raises(ConfigError, match="is not a budget"):
        run(Order((path,), is_agreed=True, budget="much"), agree=None)
    assert chats(sandbox) == []


def test_a_budget_stops_before_the_call_that_would_pass_what_was_really_spent(
    folder: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Expected are no answers at all, so that each call costs more than its part of the quote.
    monkeypatch.setattr("kimi_magics.notebook.alt_quote._ALT_TOKENS", 0)
    save(book(code(*(show({"image/png": encode(picture(30 + number))}) for number in range(4)))))
    assert alt("--dry-run", "--json", "book.ipynb") == 0
    cost = json.loads(capsys.readouterr().out)["cost"]
    assert alt("--yes", "--budget", cost, "book.ipynb") == 1
    shown = capsys.readouterr()
    assert "the next picture would pass a budget" in shown.err
    assert "run it again to go on where it stopped" in shown.out
    done = [output["metadata"] != {} for output in load()["cells"][0]["outputs"]]
    assert done == [True, *[False] * 3]
    assert alt("--yes", "book.ipynb") == 0
    assert len(chats(sandbox)) == 4


def test_model_and_language_are_the_user_s(folder: Path, sandbox: Sandbox) -> None:
    save(book(code(show({"image/png": encode(picture())}))))
    assert alt("--yes", "-m", "kimi-k3", "--lang", "German", "book.ipynb") == 0
    (body,) = chats(sandbox)
    assert (body["model"], "thinking" in body, "in German" in body["messages"][0]["content"][1]["text"]) == (
        "kimi-k3", False, True
    )  # fmt: skip


def test_a_model_that_cannot_see_is_refused_with_one_that_can(
    folder: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    save(book(code(show({"image/png": encode(picture())}))))
    assert alt("--yes", "-m", "moonshot-v1-8k", "book.ipynb") == 1
    assert "moonshot-v1-8k does not read images\n  → choose a model that does: -m kimi-k2.6" in capsys.readouterr().err
    assert sandbox.requests == []


# ---------------------------------------------------------------- what goes wrong


def test_a_picture_that_cannot_be_read_is_reported_and_the_rest_goes_on(
    folder: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = [show({"image/png": text}) for text in ("not base64!", encode(b"no picture"), "", encode(picture()))]
    save(
        book(code(*outputs), markdown("![](gone.png) ![](https://example.com/x.png) ![](/etc/x.png) ![](attachment:a)"))
    )
    assert alt("--yes", "book.ipynb") == 1
    shown = capsys.readouterr().out
    for says in ("it is not base64", "cannot be read as a picture", "it is empty", "there is no such file",
                 "the cell has no such attachment"):  # fmt: skip
        assert f"cannot be described: {'' if 'picture' not in says else 'book.ipynb cell 0 output 1 '}{says}" in shown
    assert shown.count(ELSEWHERE) == 2
    assert sizes(sandbox) == [(30, 20)]
    assert load()["cells"][0]["outputs"][3]["metadata"] != {}


def test_a_refused_picture_is_reported_and_the_rest_goes_on(
    folder: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox.fault("content_filter")
    save(book(code(show({"image/png": encode(picture())}), show({"image/png": encode(picture(31))}))))
    assert alt("--yes", "book.ipynb") == 1
    shown = capsys.readouterr()
    assert "1/2 book.ipynb cell 0 output 0 … failed: " in shown.err
    assert "1 of 2 pictures have an alt text now · 1 failed" in shown.out
    assert [output["metadata"] != {} for output in load()["cells"][0]["outputs"]] == [False, True]


def test_an_error_that_befalls_all_stops_and_keeps_what_is_done(
    folder: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    save(book(code(*(show({"image/png": encode(picture(30 + number))}) for number in range(3)))))
    answered: list[str] = []

    def agree(question: str) -> str:
        answered.append(question)
        sandbox.fault("quota")
        return "y"

    assert run(Order((Path("book.ipynb"),)), agree=agree) == 1
    assert "balance" in capsys.readouterr().err
    assert len(chats(sandbox)) == 1


def test_what_is_no_notebook_is_reported_and_the_others_are_done(
    folder: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    save(book(code(show({"image/png": encode(picture())}))))
    Path("old.ipynb").write_text('{"nbformat": 3}')
    Path("broken.ipynb").write_text("{")
    Path("folder").mkdir()
    locked = save(book(code(show({"image/png": encode(picture(31))}))), "locked.ipynb")
    locked.chmod(0o444)
    names = ["old.ipynb", "broken.ipynb", "folder", "gone.ipynb", "locked.ipynb", "book.ipynb"]
    assert alt("--yes", *names) == 1
    shown = capsys.readouterr().err
    for says in ("format 3", "broken.ipynb is not a notebook", "folder is a folder", "gone.ipynb is not there",
                 "locked.ipynb is read-only"):  # fmt: skip
        assert says in shown
    assert "Traceback" not in shown
    assert sizes(sandbox) == [(30, 20)]


def test_what_another_program_changes_meanwhile_stays(folder: Path, sandbox: Sandbox) -> None:
    first, second = show({"image/png": encode(picture())}), show({"image/png": encode(picture(31))})
    path = save(book(code(first), code(second)))

    def agree(question: str) -> str:
        # A cell above is deleted and another one edited, while the user thinks.
        save(book(markdown("new"), code(second)))
        return "y"

    assert run(Order((path,)), agree=agree) == 0
    after = load()
    assert after["cells"][0]["source"] == ["new"]
    assert "PNG of 31×20" in after["cells"][1]["outputs"][0]["metadata"]["image/png"]["alt"]


def test_a_change_during_the_call_is_kept_too(folder: Path, sandbox: Sandbox) -> None:
    output = show({"image/png": encode(picture())})
    path = save(book(code(output)))
    sandbox.fault(Fault(delay_seconds=0.5))

    def change() -> None:
        while not chats(sandbox):
            is_done.wait(0.01)
        save(book(markdown("new"), code(output)))

    is_done = threading.Event()
    changer = threading.Thread(target=change)
    changer.start()
    try:
        assert run(Order((path,), is_agreed=True), agree=None) == 0
    finally:
        is_done.set()
        changer.join()
    after = load()
    assert after["cells"][0]["source"] == ["new"]
    assert "PNG of 30×20" in after["cells"][1]["outputs"][0]["metadata"]["image/png"]["alt"]


def test_an_interrupt_keeps_what_is_done_and_the_next_run_goes_on(folder: Path, sandbox: Sandbox) -> None:
    path = save(book(code(*(show({"image/png": encode(picture(30 + number))}) for number in range(3)))))
    before = load()
    sandbox.fault(Fault(chunk_delay_seconds=0))
    sandbox.fault(Fault(stall_after=1))
    command = [sys.executable, "-m", "kimi_magics.cli", "alt", "--yes", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        for line in process.stderr:
            if line.startswith("1/3"):
                break
        while len(chats(sandbox)) < 2 and process.poll() is None:
            threading.Event().wait(0.05)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "1 of 3 pictures have an alt text now" in out
    done = load()
    assert [output["metadata"] != {} for output in done["cells"][0]["outputs"]] == [True, False, False]
    assert done["cells"][0]["outputs"][1:] == before["cells"][0]["outputs"][1:]
    assert os.listdir(folder) == ["book.ipynb"]
    assert alt("--yes", "book.ipynb") == 0
    assert len(chats(sandbox)) == 4
    assert alt("--check", "book.ipynb") == 0


# ---------------------------------------------------------------- --check


def test_the_check_names_each_picture_without_key_or_network(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell = code(show({"image/png": encode(picture())}), name=None)
    save(
        book(
            code(show({"image/png": "x"}), name="abc"),
            cell,
            markdown("a\n", "![](p.png) ![](http://x/y.png)", name="t"),
        )
    )
    assert alt("--check", "book.ipynb") == 1
    assert capsys.readouterr().out.splitlines() == [
        "book.ipynb: cell 0 (id abc) output 0: image/png",
        "book.ipynb: cell 1 output 0: image/png",
        "book.ipynb: cell 2 (id t) line 2: p.png",
        f"book.ipynb: cell 2 (id t) line 2: http://x/y.png  {ELSEWHERE}",
    ]


def test_the_check_passes_with_one_line_and_fails_for_what_cannot_be_read(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(book(markdown("no pictures")))
    assert alt("--check", "book.ipynb") == 0
    assert capsys.readouterr() == ("every picture has an alt text (1 notebook)\n", "")
    assert alt("--check", "book.ipynb", "gone.ipynb") == 1
    assert capsys.readouterr().out == ""


def test_the_check_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(book(code(show({"image/png": "x"}))))
    assert alt("--check", "--json", "book.ipynb") == 1
    assert json.loads(capsys.readouterr().out) == [
        {
            "notebook": "book.ipynb",
            "cell": 0,
            "cell_id": "code",
            "place": "cell 0 output 0",
            "kind": "image/png",
            "way": "trouble",
            "remark": "it is not base64",
        }
    ]


@pytest.mark.parametrize(
    "arguments",
    [[], ["--check", "--dry-run", "x.ipynb"], ["--json", "x.ipynb"], ["--bogus", "x.ipynb"], ["--budget"]],
    ids=str,
)
def test_a_wrong_command_line_is_refused(arguments: Sequence[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        alt(*arguments)
