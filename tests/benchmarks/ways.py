"""The ways of showing an answer that `views.py` compares; a kernel runs this file with `%run`, and then `measure`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator

import httpx
from IPython.core.getipython import get_ipython
from IPython.display import Markdown, display

http = httpx.Client(headers={"Authorization": "Bearer sandbox"}, timeout=600, trust_env=False)


def read_pieces(base_url: str) -> Iterator[str]:
    """The loop that everybody writes: httpx stream → iter_lines → json.loads."""
    body = {"model": "kimi-k2.6", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    with http.stream("POST", f"{base_url}/chat/completions", json=body) as response:
        for line in response.iter_lines():
            if not line.startswith("data: "):
                continue
            data = line[6:]
            if data == "[DONE]":
                return
            content = json.loads(data)["choices"][0]["delta"].get("content")
            if content:
                yield content


def read_only(base_url: str, **_limits: float) -> int:
    """Show nothing; return the length of the text."""
    return len("".join(read_pieces(base_url)))


def update_by_hand(base_url: str, *, most_seconds: float, most_characters: float) -> int:
    """Show the text so far with each piece, until there is none or a limit is reached."""
    handle = display(Markdown(""), display_id=True)
    deadline, sent, text = time.perf_counter() + most_seconds, 0, ""
    for piece in read_pieces(base_url):
        text += piece
        handle.update(Markdown(text))
        sent += len(text)
        if sent > most_characters or time.perf_counter() > deadline:
            break
    return len(text)


def ask_kimi(base_url: str, **_limits: float) -> int:
    """Ours, as `%%kimi` in a cell."""
    os.environ["MOONSHOT_BASE_URL"] = base_url
    shell = get_ipython()
    shell.run_cell_magic("kimi", "-o kimi_reply --thinking off", "hi")
    return len(shell.user_ns["kimi_reply"].text)


def ask_kimi_for_the_end(base_url: str, **_limits: float) -> int:
    """Ours without the live view."""
    shell = get_ipython()
    shell.run_line_magic("kimi_config", "view=once")
    try:
        return ask_kimi(base_url)
    finally:
        shell.run_line_magic("kimi_config", "view=auto")


WAYS: dict[str, Callable[..., int]] = {
    "plain": read_only,
    "once": ask_kimi_for_the_end,
    "kimi": ask_kimi,
    "hand": update_by_hand,
}


def measure(way: str, base_url: str, *, most_seconds: float = 600, most_characters: float = 1e12) -> None:
    """Run a way and print its figures as JSON; `cpu` is that of all threads of the kernel."""
    started, cpu = time.perf_counter(), time.process_time()
    characters = WAYS[way](base_url, most_seconds=most_seconds, most_characters=most_characters)
    figures = {"wall": time.perf_counter() - started, "cpu": time.process_time() - cpu, "characters": characters}
    print(json.dumps(figures))
