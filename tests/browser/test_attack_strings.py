"""Each of many attacks, sent as an answer, runs nothing and loads nothing in JupyterLab, Notebook 7 or exported HTML.

The promise: an attack that gets through is named by its number in `tests/attacks.py`. The same texts displayed without
us, under numbers of their own, prove that the attacks are real.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import nbformat
import pytest
from attacks import ATTACKS
from nbconvert import HTMLExporter

from kimi_magics.sandbox import Fault, Sandbox, SandboxOptions

if TYPE_CHECKING:
    from driver import NotebookPage
    from playwright.sync_api import Browser, BrowserContext, Dialog, Page, Request

    from .conftest import BuildStream, OpenFrontend, WaitFor


#: A text displayed without us has the number of its attack plus this.
WITHOUT_US = 1000
#: What does nothing without us, either, since Jupyter or the browser stops it; all others must do something.
_STOPPED_EVERYWHERE = {
    *(119, 120, 121, 308, 318, 516, 517, 518, 519, 523, 614, 708, 712, 714),
    *(806, 807, 809, 817, 818, 901, 904, 905, 912, 919),
}
STOPPED_IN_LAB = _STOPPED_EVERYWHERE | {
    *(127, 307, 409, 506, 507, 508, 513, 713, 826, 907),
    # Its MathJax is told to be safe.
    *(801, 802, 803, 804, 805, 808, 811, 812, 813, 814, 815, 816, 819, 820, 822, 823),
}
STOPPED_IN_EXPORT = _STOPPED_EVERYWHERE | {122, 124, 310, 320, 703, 704, 710, 810}
ANSWERS_PER_CELL = 10
_RUN_SECONDS = 180.0
#: Jupyter shows no more outputs of a cell than 50.
TEXTS_PER_CELL = 45
#: What the kernel runs first. The pause lets a live view show the first piece of an answer before the whole of it.
SETUP = """\
import json, os, time
from pathlib import Path
from IPython.display import display
from kimi_magics.sandbox import Sandbox, SandboxOptions

get_ipython().run_line_magic("load_ext", "kimi_magics")
streams, texts = json.loads(Path("attacks.json").read_text("utf-8"))

class Chosen:
    number = 0
    def __iter__(self):
        for position, event in enumerate(streams[str(self.number)]):
            time.sleep(0.03 if position == 1 else 0)
            yield event.encode()

def answer(numbers):
    chosen = Chosen()
    with Sandbox(SandboxOptions(replay=chosen)) as sandbox:
        os.environ["MOONSHOT_BASE_URL"] = sandbox.base_url
        for chosen.number in numbers:
            get_ipython().run_cell_magic("kimi", "", "Attack me.")

def show_without_us(numbers):
    for number in numbers:
        display({"text/markdown": texts[str(number)]}, raw=True)
"""
LAST_CELL = 'display({"text/markdown": "The last formula is $x$."}, raw=True)'
#: What in the outputs of a page would run something, or leads to where no answer may: with the number of its attack.
FIND_OFFENCES = r"""
() => [...document.querySelectorAll(".jp-OutputArea-output")].flatMap(output => {
    const shown = output.textContent.match(/End of attack (\d+)/) || [0, 0];
    const leads = /^(?:xlink:)?href$|^(?:form)?action$/i, allowed = /^(?:https?:|mailto:|#)/i;
    return [...output.querySelectorAll("*")].flatMap(element => [...element.attributes]).filter(
        ({name, value}) => /^on/i.test(name) || (leads.test(name) && !allowed.test(value))
    ).map(({name, value}) => {
        const [, alerted, led] = value.match(/alert(?:\(|%28)(\d+)|attack\/(\d+)\//) || [];
        return [Number(alerted || led || shown[1]), `${name}=${value}`];
    });
})
"""
#: The macros, outside of code, that MathJax would run; an exported page fetches it from a host that is not there.
FIND_MACROS = r"""
() => [...document.querySelectorAll(".jp-OutputArea-output")].flatMap(output => {
    const prose = output.cloneNode(true);
    prose.querySelectorAll("code, pre").forEach(code => code.remove());
    const [, number] = prose.textContent.match(/End of attack (\d+)/) || [0, 0];
    const names = "href|style|class|cssId|unicode|require|html\\w*|mmlToken|includegraphics|csname|url|bbox\\[[^\\]]*:";
    const macros = prose.textContent.match(new RegExp(`\\\\(?:${names})(?![A-Za-z])`, "g")) || [];
    return macros.map(macro => [Number(number), macro]);
})
"""


#: Counts how often a block of a growing answer is drawn, to prove that it was on view.
COUNT_LIVE_DRAWINGS = """
() => {
    const drawn = {count: 0};
    const note = changes => drawn.count += changes.filter(({target}) => target.closest?.(".kimi-block")).length;
    new MutationObserver(note).observe(document.body, {childList: true, subtree: true});
    return drawn;
}
"""


class Shown(NamedTuple):
    """What came of the attacks in a page: the answers that are not in it, and what was done, by number."""

    missing: set[int]
    done_by_answers: dict[int, set[str]]
    done_without_us: dict[int, set[str]]


class Watched:
    """A page that shows attacks; notes what they do in it, by number."""

    def __init__(self, context: BrowserContext, page: Page, host: str) -> None:
        self._page = page
        self._host = host
        self._deeds: dict[int, set[str]] = {}
        context.on("request", self._note_request)
        context.on("dialog", self._note_dialog)
        # A page that is led to an answer without content stays.
        context.route(f"{host}/attack/**", lambda route: route.fulfill(status=204))

    def read(self, *searches: str) -> Shown:
        """Look for what stands in the page now, and return what was noted until now."""
        for search in searches:
            for number, deed in self._page.evaluate(search):
                self._note(number, deed)
        texts = self._page.locator(".jp-OutputArea-output").all_text_contents()
        found = {int(number) for text in texts for number in re.findall(r"End of attack (\d+)\.", text)}
        without_us = {number - WITHOUT_US: deeds for number, deeds in self._deeds.items() if number >= WITHOUT_US}
        by_answers = {number: deeds for number, deeds in self._deeds.items() if number < WITHOUT_US}
        return Shown(set(ATTACKS) - found, by_answers, without_us)

    def _note_request(self, request: Request) -> None:
        if request.url.startswith(f"{self._host}/attack/"):
            self._note(int(request.url.split("/attack/")[1].split("/")[0]), request.url)

    def _note_dialog(self, dialog: Dialog) -> None:
        if dialog.type == "alert":
            self._note(int(dialog.message), "alert")
        dialog.dismiss()

    def _note(self, number: int, deed: str) -> None:
        self._deeds.setdefault(number, set()).add(deed)


# ---------------------------------------------------------------- what is shown


def write_attack(number: int, host: str, *, shown: int) -> str:
    """Return the attack with the number to be shown put in, and a last line by which it is found in a page."""
    text = ATTACKS[number].replace("HOST", f"{host}/attack/{shown}").replace("NUMBER", str(shown))
    return f"{text}\n\nEnd of attack {shown}."


def build_short_stream(text: str, *, has_reasoning: bool) -> list[str]:
    """Return the events of a stream: `text` as reasoning and then as the answer, or as an answer in two halves."""
    half = len(text) // 2
    pieces = [("reasoning_content", text), ("content", text)] if has_reasoning else []
    pieces = pieces or [("content", text[:half]), ("content", text[half:])]
    choices: list[dict[str, Any]] = [
        {"index": 0, "delta": {key: piece}, "finish_reason": None} for key, piece in pieces
    ]
    choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    events = [{"id": "cmpl-1", "object": "chat.completion.chunk", "choices": [choice]} for choice in choices]
    return [*(f"data: {json.dumps(event)}\n\n" for event in events), "data: [DONE]\n\n"]


def write_file(host: str, *, has_reasoning: bool) -> str:
    """Return the file that the kernel reads: the stream and the text of each attack."""
    texts = {number: write_attack(number, host, shown=number) for number in ATTACKS}
    streams = {number: build_short_stream(text, has_reasoning=has_reasoning) for number, text in texts.items()}
    return json.dumps([streams, {number: write_attack(number, host, shown=number + WITHOUT_US) for number in ATTACKS}])


def write_cells(function: str, size: int) -> list[str]:
    """Return cells that call a function with the numbers of the attacks, `size` in each."""
    numbers = list(ATTACKS)
    return [f"{function}({numbers[start : start + size]})" for start in range(0, len(numbers), size)]


# ---------------------------------------------------------------- where it is shown


def has_number(notebook: NotebookPage, index: int) -> bool:
    """Tell whether a cell has run; the page does not know it of a cell that is out of sight."""
    return re.fullmatch(r"\[\d+\]:", notebook.prompt(index)) is not None


@pytest.fixture(scope="module")
def notebooks(
    open_frontend: OpenFrontend, shared_sandbox: Sandbox, wait_for: WaitFor
) -> Iterator[dict[str, tuple[NotebookPage, Watched]]]:
    """All attacks as answers in both front ends, which run at the same time; then in JupyterLab without us, too."""
    host = shared_sandbox.base_url
    answers, texts = write_cells("answer", ANSWERS_PER_CELL), write_cells("show_without_us", TEXTS_PER_CELL)
    cells = {"lab": [SETUP, *answers, *texts, LAST_CELL], "notebook7": [SETUP, *answers, LAST_CELL]}
    opened = {}
    with contextlib.ExitStack() as frontends:
        for name in cells:
            frontend = frontends.enter_context(open_frontend(name))
            file = write_file(host, has_reasoning=name == "notebook7")
            (frontend.server.folder / "attacks.json").write_text(file, "utf-8")
            notebook = frontend.open(cells[name])
            opened[name] = notebook, Watched(frontend.context, notebook.page, host)
            notebook.run_all()
        for name, (notebook, _) in opened.items():
            is_done = functools.partial(has_number, notebook, len(cells[name]) - 1)
            wait_for(is_done, what=f"all cells of {notebook.path} are done", seconds=_RUN_SECONDS)
            notebook.screenshot("attacks")
        yield opened


@pytest.fixture(scope="module")
def in_lab(notebooks: dict[str, tuple[NotebookPage, Watched]], wait_for: WaitFor) -> Shown:
    notebook, watched = notebooks["lab"]
    expected = set(ATTACKS) - STOPPED_IN_LAB
    # Diagrams come late: those without us after those of the answers. A test of its own says which did not come.
    with contextlib.suppress(pytest.fail.Exception):
        wait_for(lambda: set(watched.read().done_without_us) >= expected, what="all did something", seconds=60)
    return see(notebook, watched)


@pytest.fixture(scope="module")
def in_notebook7(notebooks: dict[str, tuple[NotebookPage, Watched]]) -> Shown:
    return see(*notebooks["notebook7"])


def see(notebook: NotebookPage, watched: Watched) -> Shown:
    """Return what came of the attacks when all formulas are set."""
    notebook.page.locator(".jp-OutputArea-output", has_text="The last formula is").locator("mjx-math").wait_for()
    return watched.read(FIND_OFFENCES)


@pytest.fixture(scope="module")
def in_export(
    notebooks: dict[str, tuple[NotebookPage, Watched]],
    browser: Browser,
    shared_sandbox: Sandbox,
    tmp_path_factory: pytest.TempPathFactory,
) -> Shown:
    """Export the notebook as saved, and open it without what it fetches from other hosts."""
    saved = notebooks["lab"][0].save()
    html, _ = HTMLExporter().from_notebook_node(nbformat.reads(json.dumps(saved), as_version=4))
    path = tmp_path_factory.mktemp("export") / "attacks.html"
    path.write_text(html, "utf-8")
    with browser.new_context() as context:
        context.route(re.compile(r"https?://(?!127\.0\.0\.1)"), lambda route: route.abort())
        page = context.new_page()
        watched = Watched(context, page, shared_sandbox.base_url)
        page.goto(path.as_uri(), wait_until="networkidle")
        return watched.read(FIND_OFFENCES, FIND_MACROS)


@pytest.fixture(scope="module")
def while_they_come(open_frontend: OpenFrontend, build_stream: BuildStream, shared_sandbox: Sandbox) -> Iterator[Shown]:
    """Show the attacks of each kind as one answer, which comes so slowly that every few characters are drawn."""
    kinds: dict[int, list[str]] = {}
    for number in ATTACKS:
        text = write_attack(number, shared_sandbox.base_url, shown=number)
        kinds.setdefault(number // 100, []).append(text)
    with contextlib.ExitStack() as opened:
        cells = ["%load_ext kimi_magics"]
        for texts in kinds.values():
            answer = "\n\n".join(texts)
            options = SandboxOptions(replay=build_stream(answer, thinking=answer[: len(answer) // 3], size=29))
            host = opened.enter_context(Sandbox(options))
            host.fault(Fault(chunk_delay_seconds=0.025, times=None))
            cells += [f"%env MOONSHOT_BASE_URL={host.base_url}", "%%kimi\nAttack me."]
        frontend = opened.enter_context(open_frontend("lab"))
        notebook = frontend.open(cells)
        watched = Watched(frontend.context, notebook.page, shared_sandbox.base_url)
        drawn = notebook.page.evaluate_handle(COUNT_LIVE_DRAWINGS)
        for index in range(len(cells)):
            notebook.run(index)
            notebook.wait_until_done(index)
        assert drawn.evaluate("drawn => drawn.count") > 100
        yield watched.read(FIND_OFFENCES)


# ---------------------------------------------------------------- tests


@pytest.fixture(params=["in_lab", "in_notebook7", "in_export"])
def shown(request: pytest.FixtureRequest) -> Shown:
    return request.getfixturevalue(request.param)


def test_each_answer_is_shown_to_its_end(shown: Shown) -> None:
    assert shown.missing == set()


def test_answers_run_nothing_and_load_nothing(shown: Shown) -> None:
    assert shown.done_by_answers == {}


def test_answers_run_nothing_and_load_nothing_while_they_come(while_they_come: Shown) -> None:
    assert while_they_come.done_by_answers == {}


def test_attacks_are_real_in_lab(in_lab: Shown) -> None:
    assert set(ATTACKS) - STOPPED_IN_LAB - set(in_lab.done_without_us) == set()


def test_attacks_are_real_in_exported_html(in_export: Shown) -> None:
    assert set(ATTACKS) - STOPPED_IN_EXPORT - set(in_export.done_without_us) == set()
