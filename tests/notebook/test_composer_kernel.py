"""The composer in a kernel whose page writes to it over a subshell, while a cell runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from kernels import SECONDS, start_client

from kimi_magics.sandbox import Sandbox

Message = dict[str, Any]
#: A cell that runs until there is an answer, and a little longer.
WAIT = """
import time
end = time.monotonic() + 30
while "_kimi" not in globals() and time.monotonic() < end:
    time.sleep(0.01)
time.sleep(1)
"""
CLICK = {"method": "custom", "content": {"event": "click"}}
#: A cell that draws, and then runs until what the page has typed is counted.
DRAW = """
import matplotlib.pyplot as plt, threading, time
from ipywidgets.widgets.widget import _instances
plt.plot([1, 2])
def talk():
    while is_going:
        time.sleep(0.02)
        print("tick")
is_going, end = True, time.monotonic() + 30
thread = threading.Thread(target=talk)
thread.start()
print("drawn")
gauge = next(w for w in _instances.values() if type(w).__name__ == "HTML")
while "counted" not in gauge.value and time.monotonic() < end:
    time.sleep(0.01)
time.sleep(0.3)
is_going = False
thread.join()
print(plt.get_fignums())
"""


class Page:
    """A page with one notebook: sends what JupyterLab sends, and keeps what it is told on iopub."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self._client = client
        self.told: list[Message] = []

    def send(self, kind: str, content: Message, *, channel: str = "shell", subshell: str | None = None) -> str:
        message = self._client.session.msg(kind, content, metadata={"cellId": "abc"})
        if subshell:
            message["header"]["subshell_id"] = subshell
        getattr(self._client, f"{channel}_channel").send(message)
        return message["header"]["msg_id"]

    def start(self, code: str) -> str:
        return self.send("execute_request", {"code": code, "allow_stdin": False})

    def read_until(self, is_last: Callable[[Message], object]) -> list[Message]:
        """Return what is told from now on up to the message that is the last."""
        seen: list[Message] = []
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            seen.append(self._client.get_iopub_msg(timeout=SECONDS))
            if is_last(seen[-1]):
                self.told += seen
                return seen
        raise TimeoutError

    def run(self, code: str) -> list[Message]:
        return self.read_until(is_end_of(self.start(code)))

    def find(self, kind: str, **state: str) -> str:
        """Return the id of the widget whose model is `kind` and has this in its state."""
        for message in self.told:
            if message["msg_type"] == "comm_open":
                known = message["content"]["data"].get("state", {})
                if known.get("_model_name") == kind and state.items() <= known.items():
                    return message["content"]["comm_id"]
        raise KeyError(kind)

    def open_subshell(self) -> str:
        asked = self.send("create_subshell_request", {}, channel="control")
        while True:
            reply = self._client.get_control_msg(timeout=SECONDS)
            if reply["parent_header"].get("msg_id") == asked:
                return reply["content"]["subshell_id"]


def is_end_of(ran: str) -> Callable[[Message], bool]:
    def is_end(message: Message) -> bool:
        is_idle = message["msg_type"] == "status" and message["content"]["execution_state"] == "idle"
        return is_idle and message["parent_header"].get("msg_id") == ran

    return is_end


def has_printed(text: str) -> Callable[[Message], bool]:
    return lambda message: message["msg_type"] == "stream" and text in message["content"]["text"]


def sets(comm: str, name: str, text: str) -> Callable[[Message], bool]:
    """Return whether a message tells the page that a widget has `text` in that part of its state."""

    def is_it(message: Message) -> bool:
        content = message["content"]
        if message["msg_type"] != "comm_msg" or content["comm_id"] != comm:
            return False
        return text in str(content["data"].get("state", {}).get(name, ""))

    return is_it


@pytest.fixture
def page(sandbox: Sandbox) -> Iterator[Page]:
    """A page whose kernel has a composer open."""
    with start_client() as client:
        page = Page(client)
        page.run("%load_ext kimi_magics\n%matplotlib inline\nimport matplotlib.pyplot")
        page.run("%kimi_draft --thinking off In one word: token")
        yield page


def test_the_composer_is_shown_as_a_widget_with_a_word_for_where_there_is_none(page: Page, sandbox: Sandbox) -> None:
    [shown] = [message["content"] for message in page.told if message["msg_type"] == "display_data"]
    view = shown["data"].pop("application/vnd.jupyter.widget-view+json")
    assert view["model_id"] == page.find("VBoxModel")
    assert shown["data"] == {"text/plain": "The composer of this notebook; run the cell again to open it."}
    # a page that is loaded later asks for it
    text = page.find("TextareaModel")
    page.send("comm_msg", {"comm_id": text, "data": {"method": "request_state"}})
    page.read_until(sets(text, "value", "In one word: token"))
    assert sandbox.requests == []


def test_typing_in_it_while_a_cell_draws_leaves_the_figure_and_the_cell_s_output_alone(
    page: Page, sandbox: Sandbox
) -> None:
    subshell, text, gauge = page.open_subshell(), page.find("TextareaModel"), page.find("HTMLModel")
    ran = page.start(DRAW)
    page.read_until(has_printed("drawn"))
    data = {"method": "update", "state": {"value": "typed"}, "buffer_paths": []}
    page.send("comm_msg", {"comm_id": text, "data": data}, subshell=subshell)
    messages = page.read_until(is_end_of(ran))
    # the count of the API came while the cell ran
    assert any(sets(gauge, "value", "counted")(message) for message in messages)
    assert [request.path for request in sandbox.requests] == ["/v1/tokenizers/estimate-token-count"]
    streams = [message for message in messages if message["msg_type"] == "stream"]
    assert streams[-1]["content"]["text"].endswith("[1]\n")
    assert sum(message["content"]["text"].count("tick") for message in streams) > 5
    [figure] = [message for message in messages if message["msg_type"] == "display_data"]
    assert "image/png" in figure["content"]["data"]
    assert {message["parent_header"]["msg_id"] for message in [*streams, figure]} == {ran}


def test_send_answers_while_a_cell_runs(page: Page, sandbox: Sandbox) -> None:
    subshell, button, output = (
        page.open_subshell(),
        page.find("ButtonModel", description="Send"),
        page.find("OutputModel"),
    )
    ran = page.start(WAIT)
    page.read_until(lambda message: message["msg_type"] == "execute_input")
    page.send("comm_msg", {"comm_id": button, "data": CLICK}, subshell=subshell)
    messages = page.read_until(sets(output, "outputs", "Sandbox"))
    assert not any(is_end_of(ran)(message) for message in messages)
    assert not [message for message in messages if message["msg_type"] in ("stream", "display_data", "error")]
    page.read_until(is_end_of(ran))
    [printed] = [message for message in page.run("print(_kimi.text)") if message["msg_type"] == "stream"]
    assert printed["content"]["text"] == "Sandbox\n"
