"""One sandbox for a module's tests, forgotten between them, and a client that knows nothing of the product."""

from __future__ import annotations

import base64
import io
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from PIL import Image

from kimi_magics.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kimi_magics.sandbox import Fault, Request


class Caller:
    """Speaks to a sandbox in plain HTTP: `http` with the key, `bare` without."""

    def __init__(self, sandbox: Sandbox, key: str = "sandbox") -> None:
        self.sandbox = sandbox
        headers = {"Authorization": f"Bearer {key}"}
        self.http = httpx.Client(base_url=sandbox.base_url, headers=headers, timeout=10, verify=False)
        self.bare = httpx.Client(base_url=sandbox.base_url, timeout=10, verify=False)

    def body(self, prompt: object = "Tell me about tokens, please.", **parameters: Any) -> dict[str, Any]:
        messages = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
        return {"model": "kimi-k2.6", "messages": messages} | parameters

    def post(self, prompt: object = "Tell me about tokens, please.", **parameters: Any) -> httpx.Response:
        return self.http.post("/chat/completions", json=self.body(prompt, **parameters))

    def ask(self, prompt: object = "Tell me about tokens, please.", **parameters: Any) -> dict[str, Any]:
        response = self.post(prompt, **parameters)
        assert response.status_code == 200, response.text
        return response.json()

    def message(self, prompt: object = "Tell me about tokens, please.", **parameters: Any) -> dict[str, Any]:
        return self.ask(prompt, **parameters)["choices"][0]["message"]

    def text(self, prompt: object = "Tell me about tokens, please.", **parameters: Any) -> str:
        return self.message(prompt, **parameters)["content"]

    def events(self, prompt: object = "Tell me about tokens, please.", **parameters: Any) -> list[dict[str, Any]]:
        response = self.post(prompt, stream=True, **parameters)
        assert response.status_code == 200, response.text
        *events, done = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data")]
        assert done == "[DONE]"
        return [json.loads(event) for event in events]

    def estimate(self, prompt: object, **parameters: Any) -> int:
        response = self.http.post("/tokenizers/estimate-token-count", json=self.body(prompt, **parameters))
        assert response.status_code == 200, response.text
        return response.json()["data"]["total_tokens"]

    def error(self, response: httpx.Response) -> tuple[int, str, str]:
        error = response.json()["error"]
        return response.status_code, error["type"], error["message"]

    def fault(self, fault: Fault | str) -> None:
        self.sandbox.fault(fault)

    @property
    def requests(self) -> list[Request]:
        return self.sandbox.requests


@pytest.fixture(scope="session")
def shared() -> Iterator[Caller]:
    with Sandbox() as sandbox:
        caller = Caller(sandbox)
        with caller.http, caller.bare:
            yield caller


@pytest.fixture
def caller(shared: Caller) -> Caller:
    """A caller of a sandbox with default options that has forgotten the tests before."""
    shared.sandbox.clear()
    return shared


@pytest.fixture
def serve() -> Iterator[Any]:
    """Start further sandboxes: `serve(SandboxOptions(…))` returns a caller."""
    started: list[Caller] = []

    def start(options: Any, key: str = "sandbox") -> Caller:
        sandbox = Sandbox(options)
        sandbox.start()
        started.append(Caller(sandbox, key))
        return started[-1]

    yield start
    for one in started:
        one.http.close()
        one.bare.close()
        one.sandbox.stop()


@pytest.fixture(scope="session")
def draw() -> Any:
    """Draw a plain image: `draw("red", size=(64, 48), format="PNG")` returns a data URL."""

    def build(colour: object = "red", size: tuple[int, int] = (64, 48), format: str = "PNG", mode: str = "RGB") -> str:  # noqa: A002
        buffer = io.BytesIO()
        Image.new(mode, size, colour).save(buffer, format)  # type: ignore[arg-type]
        return f"data:image/{format.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"

    return build
