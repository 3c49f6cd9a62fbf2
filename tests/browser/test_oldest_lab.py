"""The gauge in the oldest JupyterLab that is supported, with a kernel that has no subshells, as a user sees it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from environments import make_environment
from giving import RED, give, name_saved
from playwright.sync_api import expect

if TYPE_CHECKING:
    from driver import NotebookPage
    from playwright.sync_api import BrowserContext, Locator

    from kimi_magics.sandbox import Sandbox

    from .conftest import OpenFrontend

LOAD, PROMPT, LONG, TEXT, ASK = range(5)
PACKAGES = ("jupyterlab==4.2.*", "ipykernel<7")
VERSIONS = "import ipykernel, kimi_magics\nprint(ipykernel.__version__, kimi_magics.__file__)"
WAIT_FOR_FILE = "import pathlib, time\nwhile not pathlib.Path('go on').exists(): time.sleep(0.05)"
#: Longer than the pauses after which the gauge asks.
PAUSE_MS = 500
#: Notes each number of a gauge with its state, beginning with those that are shown.
WATCH = """gauge => {
    const seen = [];
    const note = () => {
        const now = [gauge.dataset.state, Number(gauge.dataset.tokens)];
        if (String(now) !== String(seen.at(-1))) seen.push(now);
    };
    note();
    new MutationObserver(note).observe(gauge, {attributes: true});
    return seen;
}"""


@pytest.fixture(scope="module")
def oldest_python(chromium_path: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of an environment of its own, with this project as a user installs it."""
    return make_environment(tmp_path_factory.mktemp("oldest") / "venv", *PACKAGES)


class Opened(NamedTuple):
    """A notebook in the old front end, and what its page sent to the kernel."""

    notebook: NotebookPage
    sent: list[bytes]

    @property
    def gauge(self) -> Locator:
        return self.notebook.gauge(PROMPT)

    def count_asked(self) -> int:
        """How many questions the page has sent to the kernel, those that it answers without the API included."""
        return sum(b'"op":"estimate"' in message for message in self.sent)


def _watch(context: BrowserContext) -> list[bytes]:
    """Note what the pages of a profile send over their websockets from now on."""
    sent: list[bytes] = []

    def note_sent(payload: bytes | str) -> None:
        sent.append(payload.encode() if isinstance(payload, str) else payload)

    context.on("page", lambda page: page.on("websocket", lambda socket: socket.on("framesent", note_sent)))
    return sent


@pytest.fixture(scope="module")
def opened(open_frontend: OpenFrontend, oldest_python: str) -> Iterator[Opened]:
    """A notebook whose kernel has the extension; the cell LONG runs until the test creates a file."""
    with open_frontend("lab", python=oldest_python) as lab:
        sent = _watch(lab.context)
        prompt, ask = "%%kimi --thinking off\nTell me", "%kimi --thinking off -i attachment:* In one word: what?"
        notebook = lab.open([f"%load_ext kimi_magics\n{VERSIONS}", prompt, WAIT_FOR_FILE, "", ask])
        opened = Opened(notebook, sent)
        expect(opened.gauge).to_have_attribute("data-state", "unloaded")
        notebook.screenshot("oldest-unloaded")
        notebook.run(LOAD)
        notebook.wait_until_done(LOAD)
        yield opened


def type_and_count(opened: Opened, text: str) -> int:
    """Type at the end of the prompt, wait until it is counted, and return the tokens."""
    opened.notebook.type(PROMPT, text)
    expect(opened.gauge).to_have_attribute("data-state", "counted")
    return int(opened.gauge.get_attribute("data-tokens") or "")


def count_requests(sandbox: Sandbox) -> int:
    """How often the API was asked to count."""
    return sum(request.path.endswith("estimate-token-count") for request in sandbox.requests)


# ---------------------------------------------------------------- tests


def test_versions_are_the_oldest(opened: Opened, oldest_python: str) -> None:
    version, path = opened.notebook.output_text(LOAD).split()
    lab_version = opened.notebook.page.evaluate(
        "JSON.parse(document.querySelector('#jupyter-config-data').textContent).appVersion"
    )

    assert lab_version.startswith("4.2.")
    assert version.startswith("6.")
    assert Path(path).is_relative_to(Path(oldest_python).parents[1])


def test_number_follows_each_key_and_is_counted_after_a_pause(opened: Opened) -> None:
    type_and_count(opened, " of wells")
    seen = opened.gauge.evaluate_handle(WATCH)
    type_and_count(opened, ", rivers, seas and lakes")
    opened.notebook.screenshot("oldest-counted")

    # The page shows that it counts before it sends the question.
    states, numbers = zip(*seen.json_value(), strict=True)
    own = numbers[1 : states.index("counting")]
    assert states[:2] == ("counted", "local")
    assert len(own) >= 3, list(zip(states, numbers, strict=True))
    assert list(own) == sorted(own)
    assert own[0] > numbers[0]


def test_count_is_what_the_run_is_billed(opened: Opened, sandbox: Sandbox) -> None:
    counted = type_and_count(opened, " and ponds")
    opened.notebook.run(PROMPT)
    opened.notebook.wait_until_done(PROMPT)
    expect(opened.gauge).to_have_attribute("data-state", "billed")
    opened.notebook.screenshot("oldest-billed")

    assert opened.gauge.get_attribute("data-tokens") == str(counted)
    expect(opened.gauge).to_contain_text(f"est. {counted} → billed {counted}")
    assert "Sandbox answer" in opened.notebook.output_text(PROMPT)
    assert [request.path for request in sandbox.requests].count("/v1/chat/completions") == 1


def test_one_question_waits_for_the_end_of_the_cell_that_runs(opened: Opened, sandbox: Sandbox) -> None:
    notebook = opened.notebook
    type_and_count(opened, " Zero")
    notebook.run(LONG)
    notebook.wait_until_running(LONG)
    asked, requests = opened.count_asked(), count_requests(sandbox)
    for word in (" One", " two", " three", " four"):
        notebook.type(PROMPT, word)
        expect(opened.gauge).to_contain_text("counted when the cell that runs is done")
        notebook.page.wait_for_timeout(PAUSE_MS)
    expect(opened.gauge).to_have_attribute("data-state", "local")
    notebook.screenshot("oldest-held-up")
    assert opened.count_asked() - asked == 1
    assert count_requests(sandbox) == requests

    (notebook.path.parent / "go on").touch()
    notebook.wait_until_done(LONG)
    expect(opened.gauge).to_have_attribute("data-state", "counted")
    expect(opened.gauge).not_to_contain_text("counted when")
    notebook.screenshot("oldest-counted-after")
    # The question that waited is about the first word; the next one is about all.
    assert count_requests(sandbox) - requests <= 2


def test_a_pasted_picture_is_saved_and_named_in_the_cell(opened: Opened) -> None:
    notebook = opened.notebook
    first = notebook.cell(PROMPT).locator(".cm-line").first
    give(notebook, PROMPT, "paste", RED)
    expect(first).to_have_text(f"%%kimi --thinking off -i {name_saved(RED)}")
    assert (notebook.path.parent / name_saved(RED)).read_bytes() == RED
    notebook.screenshot("oldest-pasted")
    notebook.page.keyboard.press("Control+Z")
    expect(first).to_have_text("%%kimi --thinking off")


def test_an_attachment_is_found_once_the_notebook_is_saved(opened: Opened) -> None:
    notebook = opened.notebook
    notebook.cell(TEXT).locator(".jp-InputPrompt").click()
    notebook.page.keyboard.press("m")
    notebook.page.keyboard.press("Enter")
    give(notebook, TEXT, "paste", RED)
    expect(notebook.cell(TEXT).locator(".cm-content")).to_contain_text("(attachment:")
    notebook.run(ASK)
    notebook.wait_for_output(ASK, "no Markdown cell has an attachment .* save the notebook")
    notebook.save()
    notebook.run(ASK)
    notebook.wait_for_output(ASK, r" in / .* out")


def test_page_complains_of_nothing(opened: Opened) -> None:
    assert opened.notebook.complaints == []
