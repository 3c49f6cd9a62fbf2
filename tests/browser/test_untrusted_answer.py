"""Text of a model is not trusted: shown in JupyterLab, it loads nothing and runs nothing.

JupyterLab itself strips nothing from the output of a cell that was just run, as the control in this module proves: the
same text, displayed without us, makes the requests that an answer must not make.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import pytest

from kimi_magics.sandbox import Fault, Sandbox, SandboxOptions

if TYPE_CHECKING:
    from driver import NotebookPage

    from .conftest import BuildStream, OpenFrontend, WaitFor

#: Each way to make a browser load something or run something; HOST is put in later.
ATTACK = """\
![](HOST/markdown.png) ![ref][pic] [click](javascript:alert('link'))

[pic]: HOST/reference.png

<img src="HOST/tag.png" onerror="alert('onerror')">

<script>alert('script'); fetch("HOST/script")</script>

<picture><source srcset="HOST/source.png"><img></picture> <video poster="HOST/poster.png" src="HOST/video.mp4"></video>
<audio src="HOST/audio.mp3"></audio> <svg onload="alert('svg')"><image href="HOST/svg.png"/></svg>
<input type="image" src="HOST/input.png"> <object data="HOST/object"></object> <embed src="HOST/embed">
<iframe src="HOST/frame"></iframe> <link rel="stylesheet" href="HOST/link.css">

<div style="background-image:url(HOST/style.png)">x</div> <table background="HOST/table.png"><tr><td>x</td></tr></table>

$\\style{background-image:url(HOST/math.png)}{x}$ and $\\href{javascript:alert('math')}{y}$

```html
<img src="HOST/fence.png" onerror="alert('fence')">
```

```mermaid
flowchart TD
  A["<img src='HOST/mermaid-label.png' onerror='alert(5)'/>"] --> B@{ img: "HOST/mermaid-shape.png", w: 60, h: 60 }
```

The end.
"""
#: What the control is known to load; the others are blocked by JupyterLab itself.
LOADED_BY_CONTROL = {"markdown.png", "reference.png", "tag.png", "script", "mermaid-label.png", "mermaid-shape.png"}


class Attacked(NamedTuple):
    """What a page did while it showed `ATTACK` in an answer: the names that it loaded, the dialogs that it opened."""

    notebook: NotebookPage
    loaded: set[str]
    dialogs: list[str]


@pytest.fixture(scope="module")
def attacked(
    open_frontend: OpenFrontend, build_stream: BuildStream, shared_sandbox: Sandbox, wait_for: WaitFor
) -> Iterator[Attacked]:
    """Show `ATTACK` in an answer and then, until the page has loaded what it can, without us."""
    answer_host, control_host = f"{shared_sandbox.base_url}/answer", f"{shared_sandbox.base_url}/control"
    attack = ATTACK.replace("HOST", answer_host)
    replay = SandboxOptions(replay=build_stream(attack, thinking=attack))
    with Sandbox(replay) as attacker, open_frontend("lab") as lab:
        attacker.fault(Fault(chunk_delay_seconds=0.01))
        control = f"from IPython.display import Markdown\nMarkdown({ATTACK.replace('HOST', control_host)!r})"
        environment = f"%load_ext kimi_magics\n%env MOONSHOT_BASE_URL={attacker.base_url}"
        notebook = lab.open([environment, "%%kimi\nAttack me.", control])
        urls: list[str] = []
        dialogs: list[str] = []
        notebook.page.on("request", lambda request: urls.append(request.url))
        notebook.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        notebook.run(0)
        notebook.run(1)
        notebook.wait_until_done(1)
        notebook.wait_for_output(1, "The end")
        notebook.screenshot("untrusted-answer")
        dialogs_of_answer = list(dialogs)

        notebook.run(2)
        wait_for(lambda: find_names(urls, control_host, notebook) >= LOADED_BY_CONTROL, what="the control loads all")
        yield Attacked(notebook, find_names(urls, answer_host, notebook), dialogs_of_answer)


def find_names(urls: list[str], host: str, notebook: NotebookPage) -> set[str]:
    """Return what was loaded from `host`, after the page could report its last requests."""
    notebook.page.evaluate("0")
    return {url.removeprefix(f"{host}/") for url in urls if url.startswith(f"{host}/")}


def test_answer_loads_nothing(attacked: Attacked) -> None:
    assert {name for name in attacked.loaded if not name.startswith("mermaid")} == set()


def test_diagram_in_an_answer_loads_nothing(attacked: Attacked) -> None:
    assert {name for name in attacked.loaded if name.startswith("mermaid")} == set()


def test_answer_runs_nothing(attacked: Attacked) -> None:
    assert attacked.dialogs == []


def test_answer_holds_no_link_that_runs_something(attacked: Attacked) -> None:
    links = attacked.notebook.outputs(1).locator("a").evaluate_all("links => links.map(link => link.protocol)")

    assert set(links) <= {"http:", "https:", "mailto:"}
