"""A real kernel, as JupyterLab and nbclient drive it: what is displayed, what is saved, and how an interrupt ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from kimi_magics.sandbox import Fault, Sandbox, SandboxOptions

SECONDS = 60


class Kernel:
    """One kernel with the extension loaded."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager, self.client = manager, client

    def run(self, code: str, *, cell_id: str | None = None, when: Callable[[dict], bool] | None = None) -> list[dict]:
        """Run a cell and return its iopub messages; interrupt the kernel once, when `when` says so of a message."""
        message = self.client.session.msg(
            "execute_request",
            {
                "code": code,
                "silent": False,
                "store_history": True,
                "user_expressions": {},
                "allow_stdin": False,
                "stop_on_error": True,
            },
            metadata={"cellId": cell_id} if cell_id else {},
        )
        self.client.shell_channel.send(message)
        seen: list[dict] = []
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            reply = self.client.get_iopub_msg(timeout=SECONDS)
            if reply["parent_header"].get("msg_id") != message["header"]["msg_id"]:
                continue
            if reply["msg_type"] == "status" and reply["content"]["execution_state"] == "idle":
                return seen
            seen.append(reply)
            if when is not None and when(reply):
                self.manager.interrupt_kernel()
                when = None
        raise TimeoutError(code)

    def value(self, expression: str) -> str:
        """Return what an expression prints."""
        return "".join(
            m["content"]["text"] for m in self.run(f"print({expression})") if m["msg_type"] == "stream"
        ).strip()


@pytest.fixture
def start(environment: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Sandbox], Kernel]]:
    """Start a kernel against a sandbox; ended with the test."""
    started: list[tuple[KernelManager, BlockingKernelClient]] = []

    def launch(sandbox: Sandbox) -> Kernel:
        monkeypatch.setenv("MOONSHOT_BASE_URL", sandbox.base_url)
        monkeypatch.setenv("MOONSHOT_API_KEY", "sandbox")
        manager = KernelManager(kernel_name="python3")
        manager.start_kernel(extra_arguments=["--log-level=ERROR"])
        client = manager.client()
        started.append((manager, client))
        client.start_channels()
        client.wait_for_ready(timeout=SECONDS)
        kernel = Kernel(manager, client)
        kernel.run("%load_ext kimi_magics")
        return kernel

    yield launch
    for manager, client in started:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


def displays(messages: list[dict]) -> list[dict]:
    return [m for m in messages if m["msg_type"] in ("display_data", "update_display_data")]


def errors(messages: list[dict]) -> list[dict]:
    return [m["content"] for m in messages if m["msg_type"] == "error"]


def test_without_widgets_the_text_grows_in_one_place_all_the_same(start: Callable[[Sandbox], Kernel]) -> None:
    # Slow enough that also a busy machine, which draws at a quarter of its time, draws more than twice.
    with Sandbox(options=SandboxOptions(tokens_per_second=40)) as sandbox:
        kernel = start(sandbox)
        kernel.run("%kimi_config view=markdown")
        messages = kernel.run("%kimi -o r --thinking off Tell me about tokens", cell_id="c1")
        text = kernel.value("r.text")
    *growing, final, footer = displays(messages)
    lengths = [len(m["content"]["data"]["text/plain"]) for m in growing]
    assert len(set(lengths)) >= 3
    assert lengths == sorted(lengths)
    assert len({m["content"]["transient"]["display_id"] for m in [*growing, final]}) == 1
    assert final["content"]["data"]["text/plain"].strip() == text
    assert final["content"]["metadata"]["kimi_magics"]["model"] == "kimi-k2.6"
    assert " in / " in footer["content"]["data"]["text/plain"]
    assert footer["msg_type"] == "display_data"


def test_without_a_live_front_end_it_is_displayed_once(start: Callable[[Sandbox], Kernel], sandbox: Sandbox) -> None:
    kernel = start(sandbox)
    messages = kernel.run("%kimi Tell me about tokens")
    assert [m["msg_type"] for m in displays(messages)] == ["display_data", "display_data"]
    assert set(displays(messages)[0]["content"]["data"]) == {"text/markdown", "text/plain"}


def test_an_interrupt_stops_the_request_and_keeps_the_text(start: Callable[[Sandbox], Kernel]) -> None:
    with Sandbox(options=SandboxOptions(tokens_per_second=20)) as sandbox:
        kernel = start(sandbox)

        def has_text(message: dict) -> bool:
            if message["msg_type"] != "comm_msg":
                return False
            return bool(message["content"]["data"]["content"].get("patches"))

        began = time.monotonic()
        messages = kernel.run("%kimi -o r --thinking off Tell me about tokens", cell_id="c1", when=has_text)
        assert time.monotonic() - began < 20
        assert kernel.value("bool(r.text), r.is_partial, r.usage.estimated, r is _kimi") == "True True True True"
        deadline = time.monotonic() + 5
        while not sandbox.disconnects and time.monotonic() < deadline:
            time.sleep(0.01)
        assert sandbox.disconnects == 1
        # the client is fit for the next call
        assert errors(kernel.run("%kimi_estimate hi")) == []
    [error] = errors(messages)
    assert error["ename"] == "InterruptedReplyError"
    assert len("\n".join(error["traceback"]).splitlines()) < 6
    assert displays(messages)[-1]["content"]["data"]["text/plain"].startswith("partial · ")


@pytest.mark.parametrize(
    ("fault", "flags"),
    [
        (Fault(delay_seconds=30), ""),
        (Fault(delay_seconds=30), "--no-stream"),
        (Fault(429, "rate_limit_reached_error", "please try again after 30 seconds", times=None), ""),
    ],
    ids=["before the first byte", "while the whole answer is awaited", "during a wait"],
)
def test_an_interrupt_works_at_every_moment(
    start: Callable[[Sandbox], Kernel], sandbox: Sandbox, fault: Fault, flags: str
) -> None:
    kernel = start(sandbox)
    sandbox.fault(fault)
    before = len(sandbox.requests)

    began: list[float] = []

    def is_sent(message: dict) -> bool:
        # The first message of a cell says that it runs; the request needs a moment to be out.
        deadline = time.monotonic() + 20
        while len(sandbox.requests) == before and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.3)
        began.append(time.monotonic())
        return True

    messages = kernel.run(f"%kimi {flags} hello", cell_id="c1", when=is_sent)
    assert time.monotonic() - began[0] < 5
    [error] = errors(messages)
    assert error["ename"] == "InterruptedReplyError"
    assert len("\n".join(error["traceback"]).splitlines()) < 6


def test_an_error_of_ours_is_short_and_one_of_the_user_s_code_is_not(
    start: Callable[[Sandbox], Kernel], sandbox: Sandbox
) -> None:
    kernel = start(sandbox)
    [ours] = errors(kernel.run("%kimi -m kimi-k2.5 hi"))
    assert len("\n".join(ours["traceback"]).splitlines()) < 6
    assert "retired on 2026-08-31" in "\n".join(ours["traceback"])
    [other] = errors(kernel.run("class X:\n    def __getattr__(self, n): raise SystemError('boom')\n1/0"))
    assert len("\n".join(other["traceback"]).splitlines()) > 5


def test_a_bug_keeps_its_traceback_and_shows_no_key(start: Callable[[Sandbox], Kernel], sandbox: Sandbox) -> None:
    kernel = start(sandbox)
    kernel.run("import os\nos.environ['MOONSHOT_API_KEY'] = 'sk-' + 'q' * 30\n%xmode Verbose")
    # a broken hook at the border stands for a bug of ours
    kernel.run(
        "import kimi_magics.notebook.session as s\ndef broken(*a, **k): raise TypeError('bug')\ns.prefetch = broken"
    )
    [error] = errors(kernel.run("%kimi hi"))
    shown = "\n".join(error["traceback"])
    assert error["ename"] == "TypeError"
    assert "session.py" in shown
    assert "qqqqqqqq" not in shown


def test_a_draft_that_a_thread_judges_has_the_database_imported_between_two_cells(
    start: Callable[[Sandbox], Kernel], sandbox: Sandbox
) -> None:
    kernel = start(sandbox)
    kernel.run("""
        import sys, threading, time
        importers = set()
        class Finder:
            def find_spec(name, *_):
                if name.startswith("sqlalchemy"):
                    importers.add(threading.current_thread().name)
        sys.meta_path.insert(0, Finder)
        drafts = get_ipython().magics_manager.registry["KimiMagics"].drafts
        thread = threading.Thread(target=lambda: drafts.report("%%kimi\\nHello", may_ask=False))
        thread.start()
        thread.join()
        time.sleep(0.3)
        during = set(importers)
    """)
    deadline = time.monotonic() + SECONDS
    while (importers := kernel.value("importers")) == "set()" and time.monotonic() < deadline:
        time.sleep(0.2)
    assert kernel.value("during") == "set()"
    assert importers == "{'MainThread'}"
