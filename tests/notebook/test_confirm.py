"""The question before a call that may cost much: asked above the amount, answered below the cell, refused by nobody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from kernels import SECONDS, start_client

from kimi_magics.sandbox import Sandbox


class Asked:
    """A kernel whose front end answers what a cell asks."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self._client = client
        self.questions: list[str] = []

    def run(self, code: str, answer: str | None = None) -> tuple[str, str]:
        """Run a cell, with a place to type an answer if there is one; return what it printed, and its error."""
        self.questions.clear()
        printed: list[str] = []

        def take_output(message: dict[str, Any]) -> None:
            if message["msg_type"] == "stream":
                printed.append(message["content"]["text"])

        def take_question(message: dict[str, Any]) -> None:
            self.questions.append(message["content"]["prompt"])
            self._client.input(answer or "")

        reply = self._client.execute_interactive(
            code,
            allow_stdin=answer is not None,
            output_hook=take_output,
            stdin_hook=take_question,
            timeout=SECONDS,
        )["content"]
        return "".join(printed), "\n".join(reply.get("traceback", []))


@pytest.fixture(scope="module")
def kernel() -> Iterator[Asked]:
    """One kernel for all, since each takes seconds to start."""
    with start_client() as client:
        yield Asked(client)


@pytest.fixture
def asked(kernel: Asked, sandbox: Sandbox, environment: Any) -> Asked:
    """The kernel, with a session and a home of this test."""
    variables = {
        "MOONSHOT_BASE_URL": sandbox.base_url,
        "MOONSHOT_API_KEY": "sandbox",
        "KIMI_MAGICS_HOME": str(environment / "kimi_magics"),
    }
    kernel.run(f"import os\nos.environ |= {variables!r}\n%reload_ext kimi_magics")
    kernel.run("%kimi_config view=plain")
    return kernel


def completions(sandbox: Sandbox) -> int:
    return sum(request.path.endswith("chat/completions") for request in sandbox.requests)


def rows(asked: Asked) -> int:
    return len(json.loads(asked.run("%kimi_usage --json")[0]))


CALL = "%kimi --max-tokens 1000 Hello"  # may cost a little more than $0.004


def test_above_the_amount_a_yes_sends_it(asked: Asked, sandbox: Sandbox) -> None:
    asked.run("%kimi_config confirm=0.004")
    _, error = asked.run(CALL, "y")
    assert error == ""
    assert len(asked.questions) == 1
    assert "this call may cost $0.0040; send it? [y/N]" in asked.questions[0]
    assert (completions(sandbox), rows(asked)) == (1, 1)


def test_below_the_amount_nobody_is_asked(asked: Asked, sandbox: Sandbox) -> None:
    asked.run("%kimi_config confirm=0.005")
    assert asked.run(CALL, "n")[1] == ""
    assert asked.questions == []
    assert completions(sandbox) == 1


@pytest.mark.parametrize("answer", ["n", "", "what?"])
def test_anything_but_a_yes_sends_and_records_nothing(asked: Asked, sandbox: Sandbox, answer: str) -> None:
    asked.run("%kimi_config confirm=0.0001")
    _, error = asked.run(CALL, answer)
    assert "BudgetError: not sent: the call may cost $0.0040" in error
    assert len(asked.questions) == 1
    assert (completions(sandbox), rows(asked)) == (0, 0)


def test_where_nobody_can_answer_it_is_refused_with_the_way_out(asked: Asked, sandbox: Sandbox) -> None:
    asked.run("%kimi_config confirm=0.0001")
    _, error = asked.run(CALL)
    assert "BudgetError: not sent: the call may cost $0.0040, and there is nobody to ask" in error
    assert "%kimi_config confirm=" in error
    assert "--over-budget sends it without a question" in error
    assert len(error.splitlines()) < 6
    assert (completions(sandbox), rows(asked)) == (0, 0)
    assert asked.run(CALL.replace("%kimi", "%kimi --over-budget"))[1] == ""
    assert completions(sandbox) == 1


def test_what_nobody_knows_the_price_of_is_asked_about(asked: Asked, sandbox: Sandbox) -> None:
    asked.run("%kimi_config confirm=5\n%kimi_config currency=CNY")
    _, error = asked.run("%kimi -m kimi-k3.1-pro --max-tokens 20 Hello", "n")
    assert "costs what nobody knows" in asked.questions[0]
    assert "not sent" in error
    assert completions(sandbox) == 0
