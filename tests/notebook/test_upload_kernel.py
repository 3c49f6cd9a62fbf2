"""An upload in a real kernel: what a page sees of it, what is left in the notebook, and how an interrupt ends it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kernels import start_kernel

from kimi_magics.sandbox import Fault, Sandbox, SandboxOptions

CHAT, FILES = "/v1/chat/completions", "/v1/files"
CLIP = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2mp41" + os.urandom(12_000_000)


def left_over(messages: list[dict]) -> list[dict[str, Any]]:
    """Return the bundles that stand in the notebook when the cell is done: updates replace what they update."""
    outputs: dict[str, dict[str, Any]] = {}
    for message in messages:
        content = message["content"]
        if message["msg_type"] in ("display_data", "update_display_data"):
            name = (content.get("transient") or {}).get("display_id") or message["header"]["msg_id"]
            outputs[name] = content["data"]
    return list(outputs.values())


def notes(messages: list[dict]) -> list[str]:
    """Return the remarks that the widget of an answer was told."""
    wholes = [
        message["content"]["data"].get("content", {}).get("all")
        for message in messages
        if message["msg_type"] == "comm_msg"
    ]
    return [whole["note"] for whole in wholes if whole and whole["note"]]


def paths(sandbox: Sandbox) -> list[str]:
    return [request.path for request in sandbox.requests]


def test_nothing_of_an_upload_is_left_in_the_notebook(environment: Path, monkeypatch: Any, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(CLIP)
    with Sandbox(options=SandboxOptions()) as sandbox:
        monkeypatch.setenv("MOONSHOT_BASE_URL", sandbox.base_url)
        monkeypatch.setenv("MOONSHOT_API_KEY", "sandbox")
        with start_kernel() as kernel:
            kernel.run("%load_ext kimi_magics")
            for view in ("widget", "markdown", "once"):
                kernel.run(f"%kimi_config view={view}")
                kernel.run("%kimi_files --delete-all")
                sandbox.fault(Fault(delay_seconds=0.5))  # or the answer may take the place of the remark at once
                messages = kernel.run(f"%kimi --video {tmp_path}/clip.mp4 -o answer What is this?")
                answer, footer = left_over(messages)
                assert set(answer) == {"text/markdown", "text/plain"}
                assert "12,000,0" in answer["text/plain"]  # the sandbox weighs what it received
                assert " out · " in footer["text/plain"]
                assert not any("upload" in str(output) for output in (answer, footer))
                if view == "widget":
                    assert notes(messages)[-1] == "clip.mp4 is uploaded (12.0 MB)"
                    assert {"comm_open", "comm_close"} <= {message["msg_type"] for message in messages}
        assert paths(sandbox).count(FILES) == paths(sandbox).count(CHAT) == 3
        assert sandbox.files.list()[-1].data == CLIP


def test_an_interrupt_ends_the_upload_in_one_line_and_nothing_is_asked(
    environment: Path, monkeypatch: Any, tmp_path: Path
) -> None:
    (tmp_path / "clip.mp4").write_bytes(CLIP)
    with Sandbox(options=SandboxOptions()) as sandbox:
        monkeypatch.setenv("MOONSHOT_BASE_URL", sandbox.base_url)
        monkeypatch.setenv("MOONSHOT_API_KEY", "sandbox")
        sandbox.fault(Fault(delay_seconds=600, path="files"))
        with start_kernel() as kernel:
            kernel.run("%load_ext kimi_magics")

            def interrupt(message: dict) -> None:
                if notes([message]):
                    kernel.ask("control", "interrupt_request")

            messages = kernel.run(f"%kimi --video {tmp_path}/clip.mp4 What is this?", on_message=interrupt)
            [error] = [message["content"] for message in messages if message["msg_type"] == "error"]
            assert error["ename"] == "InterruptedReplyError"
            assert "clip.mp4 was being uploaded; nothing was asked" in "\n".join(error["traceback"])
            assert len("\n".join(error["traceback"]).splitlines()) < 6
            assert not any(text.strip() for output in left_over(messages) for text in output.values())
            assert CHAT not in paths(sandbox)
            assert sandbox.files.list() == []
            sandbox.clear()  # the interrupt may have come before the host had the whole body, and with it the fault
            again = kernel.run(f"%kimi --video {tmp_path}/clip.mp4 What is this?")
            assert "12,000,0" in left_over(again)[0]["text/plain"]
