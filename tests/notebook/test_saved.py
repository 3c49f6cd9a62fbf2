"""What is left of an answer in a notebook file, and that it reads everywhere: nbclient, papermill, nbval, nbconvert."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert import Exporter, HTMLExporter, MarkdownExporter, PythonExporter
from nbformat import NotebookNode

from kimi_magics.sandbox import Fault, Sandbox, SandboxOptions

SECONDS = 180
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
SANITIZE = Path(__file__).with_name("nbval_sanitize.cfg")
PROMPT = "Tell me of tokens"
ANSWER = f"""\
## Sandbox answer: no model was called

It was written by the local sandbox for `kimi-k2.6`. Your prompt begins:

> `{PROMPT}`

- the request holds **1 message**, **13 tokens** in all
- the longest word is `tokens`

### The prompt in figures

| what | how many |
|:--|--:|
| words | 4 |
| lines | 1 |
| characters | 17 |

The same in Python:

```python
prompt = "{PROMPT}"  # its beginning
print(len(prompt.split()), "words")
```

The mean length of a word $w_i$, of the $n = 4$ words there are, is

$$\\bar{{w}} = \\frac{{1}}{{n}} \\sum_{{i=1}}^{{n}} |w_i| \\approx 3.50$$"""
FOOTER = "N s · 13 in / 319 out · $0.0013"
RECEIPT = {
    "model": "kimi-k2.6",
    "prompt_hash": "7118ca2fe37b4df8",
    "usage": {
        "prompt_tokens": 13,
        "completion_tokens": 319,
        "cached_tokens": 0,
        "cache_write_tokens": 0,
        "estimated": False,
        "web_searches": 0,
    },
    "cost": "0.00128835",
    "currency": "USD",
    "price_date": "date",
    "price_source": "source",
    "request_id": "id",
    "finish_reason": "stop",
    "is_partial": False,
    "steps": 1,
    "replayed": None,
}
HOSTILE = "Look: <script>alert(1)</script> and <img src=x onerror=alert(2)>\n\n[here](javascript:alert(3))\n"


# ---------------------------------------------------------------- running


@dataclass
class Runner:
    """Makes notebooks and runs them in kernels whose settings are nobody's own."""

    home: Path

    def environment(self, sandbox: Sandbox) -> dict[str, str]:
        return {
            **os.environ,
            "MOONSHOT_BASE_URL": sandbox.base_url,
            "MOONSHOT_API_KEY": "sandbox",
            "KIMI_MAGICS_HOME": str(self.home / "kimi_magics"),
            "IPYTHONDIR": str(self.home / "ipython"),
        }

    def execute(self, sandbox: Sandbox, *sources: str, view: str = "auto", allow_errors: bool = False) -> NotebookNode:
        """Run these cells after one that loads the magics and sets the view."""
        notebook = make_notebook(f"%load_ext kimi_magics\n%kimi_config view={view}", *sources)
        options = {"timeout": SECONDS, "kernel_name": "python3", "extra_arguments": ["--log-level=ERROR"]}
        NotebookClient(notebook, allow_errors=allow_errors, **options).execute(env=self.environment(sandbox))
        return notebook

    def program(self, sandbox: Sandbox, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a module of Python as a program."""
        return subprocess.run(
            [sys.executable, "-m", *map(str, arguments)],
            env=self.environment(sandbox),
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )


def make_notebook(*sources: str) -> NotebookNode:
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def mask(text: str) -> str:
    """Take away what differs from run to run."""
    return re.sub(r"\b\d+\.\d s\b", "N s", text)


def read_receipt(output: NotebookNode) -> dict[str, Any]:
    """Return the receipt; what differs from run to run, or with the price list, stands as a word, if it is there."""
    words = {"price_date": "date", "price_source": "source", "request_id": "id"}
    receipt = json.loads(json.dumps(output.metadata["kimi_magics"]))
    return {name: words[name] if value and name in words else value for name, value in receipt.items()}


def texts(cell: NotebookNode) -> list[str]:
    """Return what the outputs of a cell are as plain text; an error as its name."""
    return [
        output.ename if output.output_type == "error" else mask(output.data["text/plain"]) for output in cell.outputs
    ]


def assert_is_the_answer(cell: NotebookNode) -> None:
    answer, footer = cell.outputs
    assert [answer.output_type, footer.output_type] == ["display_data", "display_data"]
    assert dict(answer.data) == {"text/markdown": ANSWER, "text/plain": ANSWER}
    assert answer.metadata.keys() == {"kimi_magics"}
    assert read_receipt(answer) == RECEIPT
    assert footer.data.keys() == {"text/plain", "text/html"}
    assert mask(footer.data["text/plain"]) == FOOTER
    assert footer.metadata == {}


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return Runner(tmp_path_factory.mktemp("saved"))


@pytest.fixture(scope="module")
def server() -> Iterator[Sandbox]:
    """A sandbox for this module; its answers do not depend on what was asked before."""
    with Sandbox(options=SandboxOptions()) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def answered(runner: Runner, server: Sandbox) -> Callable[[str], NotebookNode]:
    """Run a notebook with one answer, once for each view."""
    done: dict[str, NotebookNode] = {}

    def run(view: str) -> NotebookNode:
        if view not in done:
            done[view] = runner.execute(server, f"%%kimi -o answer\n{PROMPT}", view=view)
        return done[view]

    return run


# ---------------------------------------------------------------- nbclient


@pytest.mark.parametrize("view", ["auto", "once", "markdown", "widget"])
def test_an_answer_is_saved_as_markdown_text_receipt_and_footer(
    answered: Callable[[str], NotebookNode], view: str
) -> None:
    notebook = answered(view)
    assert_is_the_answer(notebook.cells[1])
    assert WIDGET_VIEW not in nbformat.writes(notebook)


def test_in_the_plain_view_an_answer_is_saved_as_what_was_printed(answered: Callable[[str], NotebookNode]) -> None:
    outputs = answered("plain").cells[1].outputs
    assert {(output.output_type, output.name) for output in outputs} == {("stream", "stdout")}
    assert mask("".join(output.text for output in outputs)) == f"{ANSWER}\n{FOOTER}\n"


@pytest.mark.parametrize("view", ["auto", "once", "markdown", "plain"])
def test_no_state_of_a_widget_is_saved(answered: Callable[[str], NotebookNode], view: str) -> None:
    assert answered(view).metadata.keys() == {"kernelspec", "language_info"}


def test_where_a_widget_was_asked_for_nbclient_keeps_its_state_without_the_answer(
    answered: Callable[[str], NotebookNode],
) -> None:
    """nbclient never forgets a comm that was closed; a front end does."""
    metadata = answered("widget").metadata
    assert metadata.keys() == {"kernelspec", "language_info", "widgets"}
    [model] = metadata.widgets[WIDGET_STATE].state.values()
    assert model.model_module == "anywidget"
    assert "Sandbox answer" not in json.dumps(metadata)


@pytest.mark.parametrize("view", ["auto", "once", "markdown", "widget", "plain"])
def test_the_file_is_a_valid_notebook(answered: Callable[[str], NotebookNode], view: str) -> None:
    nbformat.validate(nbformat.reads(nbformat.writes(answered(view)), as_version=4))


# ---------------------------------------------------------------- partial and failed

BROKEN = {
    "dropped": f"%%kimi --thinking off\n{PROMPT}",
    "malformed": f"%%kimi --thinking off\n{PROMPT}",
    "dropped while thinking": f"%%kimi\n{PROMPT}",
    "refused": f"%%kimi\n{PROMPT}",
    "cut": f"%%kimi --thinking off --max-tokens 20\n{PROMPT}",
    "only thought": f"%%kimi --max-tokens 10\n{PROMPT}",
    "refilled": f"%%kimi\n{PROMPT}",
}
FAULTS = (
    Fault(drop_after=5),
    Fault(malformed_after=5),
    Fault(drop_after=0),
    Fault(401, "invalid_authentication_error", "Invalid Authentication"),
)
ARRIVED = "## Sandbox answer: no model was called\n\nIt was writt"
#: Its footer: what the local count makes of it may be a token more or less.
ESTIMATED = r"partial · N s · ≈ 1\d in / 1\d out · ≈ \$0\.0000[5-9]\d"
KEPT = "\n  → the answer so far is kept in _kimi; run the cell again for the whole\n  request id: "
CUT = "The answer was cut at the token limit (finish reason: length): raise --max-tokens for the rest."
EMPTY = (
    "The answer is empty: the reasoning used up the token limit (finish reason: length). Raise --max-tokens,"
    " which includes the reasoning, or use --thinking off where the model allows it."
)


@pytest.fixture(scope="module", params=["auto", "widget"])
def broken(request: pytest.FixtureRequest, runner: Runner) -> dict[str, NotebookNode]:
    """The cells of a notebook in which each call ends otherwise than it should, and then one that does not."""
    with Sandbox(options=SandboxOptions()) as sandbox:
        for fault in FAULTS:
            sandbox.fault(fault)
        notebook = runner.execute(sandbox, *BROKEN.values(), view=request.param, allow_errors=True)
    assert WIDGET_VIEW not in nbformat.writes(notebook)
    return dict(zip(BROKEN, notebook.cells[1:], strict=True))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("dropped", "the connection to 127.0.0.1 broke off in the midst of the answer"),
        ("malformed", "a part of the stream cannot be read (Input data was truncated)"),
    ],
)
def test_of_an_answer_that_broke_off_the_text_stays_and_the_error_follows(
    broken: dict[str, NotebookNode], name: str, says: str
) -> None:
    answer, footer, error = broken[name].outputs
    assert dict(answer.data) == {"text/markdown": ARRIVED, "text/plain": ARRIVED}
    receipt = read_receipt(answer)
    assert (receipt["is_partial"], receipt["finish_reason"], receipt["usage"]["estimated"]) == (True, None, True)
    assert receipt.keys() == RECEIPT.keys()
    assert re.fullmatch(ESTIMATED, mask(footer.data["text/plain"]))
    assert (error.output_type, error.ename) == ("error", "ReplyBrokenError")
    assert error.evalue == says + KEPT + answer.metadata.kimi_magics.request_id


def test_reasoning_that_broke_off_stays_and_is_marked(broken: dict[str, NotebookNode]) -> None:
    thought, footer, error = broken["dropped while thinking"].outputs
    assert thought.data["text/plain"].startswith("thinking …\nThe user wrote 4 words in 1 line.")
    assert thought.data["text/html"].startswith("<details open><summary>Thinking</summary>")
    assert read_receipt(thought)["is_partial"] is True
    assert footer.data["text/plain"].startswith("partial · ")
    assert error.evalue.startswith("the connection to 127.0.0.1 broke off in the midst of the answer\n  → ")


def test_an_answer_that_was_cut_says_so_and_what_to_do(broken: dict[str, NotebookNode]) -> None:
    answer, footer = broken["cut"].outputs
    assert answer.data["text/plain"] == "## Sandbox answer: no model was called\n\nIt was written by the local sandb"
    receipt = read_receipt(answer)
    assert (receipt["is_partial"], receipt["finish_reason"], receipt["usage"]["estimated"]) == (False, "length", False)
    assert mask(footer.data["text/plain"]) == f"{CUT}\nN s · 13 in / 20 out · $0.000092"


def test_an_answer_of_reasoning_only_says_so_and_what_to_do(broken: dict[str, NotebookNode]) -> None:
    thought, footer = broken["only thought"].outputs
    assert thought.data["text/plain"] == "thinking …\nThe user wrote 4 words in 1 line"
    assert read_receipt(thought)["finish_reason"] == "length"
    assert mask(footer.data["text/plain"]) == f"{EMPTY}\nN s · 13 in / 10 out · $0.000052"


def test_of_a_refused_call_nothing_stays_but_its_error(broken: dict[str, NotebookNode]) -> None:
    *shown, error = broken["refused"].outputs
    assert [text for text in texts(broken["refused"])[:-1] if text] == []
    assert [output.metadata for output in shown] == [{}] * len(shown)
    assert error.ename == "AuthenticationError"
    assert error.evalue.startswith("127.0.0.1 refused the key in MOONSHOT_API_KEY (401: Invalid Authentication)\n  → ")


def test_after_all_that_the_next_answer_is_whole(broken: dict[str, NotebookNode]) -> None:
    assert_is_the_answer(broken["refilled"])


# ---------------------------------------------------------------- papermill


def write_parametrized(path: Path, source: str) -> Path:
    """Write a notebook with parameters as papermill takes them."""
    notebook = make_notebook("topic = 'nothing'", "%load_ext kimi_magics", source, "print('after')")
    notebook.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(notebook, path)
    return path


def run_papermill(runner: Runner, sandbox: Sandbox, source: Path) -> tuple[subprocess.CompletedProcess[str], Path]:
    target = source.with_name("out.ipynb")
    arguments = ("papermill", source, target, "-p", "topic", "tokens", "--no-progress-bar")
    return runner.program(sandbox, *arguments, cwd=source.parent), target


def test_papermill_fills_its_parameters_in_and_saves_the_same_answer(
    runner: Runner, server: Sandbox, tmp_path: Path
) -> None:
    source = write_parametrized(tmp_path / "in.ipynb", "%%kimi -o answer\nTell me of {{topic}}")
    ran, target = run_papermill(runner, server, source)
    assert ran.returncode == 0, ran.stderr
    assert "Warning" not in ran.stderr
    notebook = nbformat.read(target, as_version=4)
    assert server.requests[-1].body["messages"] == [{"role": "user", "content": PROMPT}]
    [answered] = [cell for cell in notebook.cells if cell.source.startswith("%%kimi")]
    assert_is_the_answer(answered)
    assert "widgets" not in notebook.metadata
    assert notebook.cells[-1].outputs[0].text == "after\n"


def test_a_failing_cell_stops_papermill_with_our_error(runner: Runner, server: Sandbox, tmp_path: Path) -> None:
    source = write_parametrized(tmp_path / "in.ipynb", "%%kimi --thinking off\nTell me of {{topic}}")
    server.fault(Fault(drop_after=5))
    ran, target = run_papermill(runner, server, source)
    says = "ReplyBrokenError: the connection to 127.0.0.1 broke off in the midst of the answer\n  → the answer so far"
    assert ran.returncode == 1
    assert says in ran.stderr
    notebook = nbformat.read(target, as_version=4)
    [asked] = [cell for cell in notebook.cells if cell.source.startswith("%%kimi")]
    answer, footer, error = texts(asked)
    assert (answer, error) == (ARRIVED, "ReplyBrokenError")
    assert re.fullmatch(ESTIMATED, footer)
    assert notebook.cells[-1].outputs == []


# ---------------------------------------------------------------- nbval


def test_a_saved_notebook_passes_nbval_and_one_whose_answer_was_altered_fails(
    runner: Runner, server: Sandbox, answered: Callable[[str], NotebookNode], tmp_path: Path
) -> None:
    saved = nbformat.writes(answered("auto"))
    (tmp_path / "saved.ipynb").write_text(saved, "utf-8")
    (tmp_path / "altered.ipynb").write_text(saved.replace("no model was", "a model was"), "utf-8")
    options = ("--nbval", "--nbval-sanitize-with", SANITIZE, "-p", "no:cacheprovider", "-c", os.devnull)
    ran = runner.program(
        server, "pytest", "-q", "-rA", *options, "--rootdir", tmp_path, "saved.ipynb", "altered.ipynb", cwd=tmp_path
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert re.findall(r"^(PASSED|FAILED) (\w+)\.ipynb::Cell (\d)", ran.stdout, re.MULTILINE) == [
        *(("PASSED", "saved", "0"), ("PASSED", "saved", "1"), ("PASSED", "altered", "0"), ("FAILED", "altered", "1")),
    ]
    assert "a model was called" in ran.stdout


# ---------------------------------------------------------------- nbconvert


def stream_of(text: str) -> tuple[bytes, ...]:
    """Return a stream in which a model says just this."""
    head = {"id": "cmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "kimi-k2.6"}
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    choices = [
        {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None},
        {"index": 0, "delta": {}, "finish_reason": "stop", "usage": usage},
    ]
    events = [json.dumps({**head, "choices": [choice]}) for choice in choices]
    return tuple(f"data: {event}\n\n".encode() for event in [*events, "[DONE]"])


@pytest.fixture(scope="module")
def to_read(runner: Runner, server: Sandbox) -> NotebookNode:
    """A notebook with a whole answer, one that was cut, and one of a model that means harm."""
    with Sandbox(options=SandboxOptions(replay=stream_of(HOSTILE))) as hostile:
        return runner.execute(
            server,
            f"%%kimi\n{PROMPT}",
            BROKEN["cut"],
            f"import os\nos.environ['MOONSHOT_BASE_URL'] = {hostile.base_url!r}",
            "%kimi hello",
        )


def convert(notebook: NotebookNode, exporter: type[Exporter]) -> str:
    page, _ = exporter().from_notebook_node(nbformat.reads(nbformat.writes(notebook), as_version=4))
    return page


def test_as_html_answers_footers_and_explanations_are_there_and_nothing_of_the_model_runs(
    to_read: NotebookNode,
) -> None:
    page = convert(to_read, HTMLExporter)
    assert re.search(r"<h2[^>]*>Sandbox answer: no model was called", page)
    assert re.search(r"<td[^>]*>characters</td>", page)
    assert f">{FOOTER}</div>" in mask(page)
    assert f">{CUT}<br/>N s · 13 in / 20 out · $0.000092</div>" in mask(page)
    assert "Look: &lt;script&gt;alert(1)&lt;/script&gt; and &lt;img src=x onerror=alert(2)&gt;" in page
    without_outputs = make_notebook(*[cell.source for cell in to_read.cells])
    bare = convert(without_outputs, HTMLExporter)
    for danger in ("<script", "<img", 'href="javascript'):
        assert page.count(danger) == bare.count(danger), danger


def test_as_markdown_answers_footers_and_explanations_are_there_and_nothing_of_the_model_runs(
    to_read: NotebookNode,
) -> None:
    page = convert(to_read, MarkdownExporter)
    assert ANSWER in page
    assert f">{FOOTER}</div>" in mask(page)
    assert f">{CUT}<br>N s · 13 in / 20 out · $0.000092</div>" in mask(page)
    assert "<script" not in page
    assert "<img" not in page


def test_as_a_script_the_cells_are_there_and_the_answers_are_not(to_read: NotebookNode) -> None:
    script = convert(to_read, PythonExporter)
    assert f"get_ipython().run_cell_magic('kimi', '', '{PROMPT}\\n')" in script
    assert "Sandbox answer" not in script
    compile(script, "saved.py", "exec")
