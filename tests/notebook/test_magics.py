"""The magics as a user types them, against the sandbox."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from kimi_magics.errors import (
    BudgetError,
    ConfigError,
    ContextError,
    ImageError,
    KimiError,
    MagicLineError,
    MissingKeyError,
    ModelNotFoundError,
    PromptError,
    ReplyBrokenError,
    VariableError,
)
from kimi_magics.notebook.questions import keep_questions
from kimi_magics.sandbox import Fault, Sandbox

CHAT = "/v1/chat/completions"


def bodies(sandbox: Sandbox, path: str = CHAT) -> list[Any]:
    return [request.body for request in sandbox.requests if request.path == path]


def test_a_cell_asks_and_binds_the_reply(cells: Any, sandbox: Sandbox) -> None:
    ran = cells.run("%%kimi -o answer\nWhat is a token?")
    reply = cells["answer"]
    assert ran.error is None
    assert "sandbox" in reply.text.lower()
    assert reply is cells["_kimi"]
    assert (reply.model, reply.finish_reason, reply.is_partial, reply.currency) == ("kimi-k2.6", "stop", False, "USD")
    usage = reply.usage
    assert reply.cost == (usage["prompt_tokens"] * Decimal("0.95") + usage.completion_tokens * 4) / 1_000_000
    assert bodies(sandbox) == [
        {"model": "kimi-k2.6", "messages": [{"role": "user", "content": "What is a token?"}], "stream": True}
    ]


def test_a_line_asks_too_and_keeps_its_question_mark(cells: Any, sandbox: Sandbox) -> None:
    ran = cells.run("%kimi -m kimi-k3 --effort low what's a token?")
    assert ran.error is None
    assert bodies(sandbox)[0]["messages"][0]["content"] == "what's a token?"
    assert bodies(sandbox)[0]["reasoning_effort"] == "low"


def test_every_flag_reaches_the_request(cells: Any, sandbox: Sandbox) -> None:
    cells.run("who = 'Ada'")
    ran = cells.run(
        '%%kimi -m kimi-k2.6 -s "Be {{who}}" --max-tokens 50 --stop END --stop "a b" --thinking off --no-stream -o r\n'
        "Hi {who} {{who}}\n"
    )
    assert ran.error is None
    assert bodies(sandbox) == [
        {
            "model": "kimi-k2.6",
            "messages": [{"role": "system", "content": "Be Ada"}, {"role": "user", "content": "Hi {who} Ada"}],
            "max_completion_tokens": 50,
            "stop": ["END", "a b"],
            "thinking": {"type": "disabled"},
        }
    ]


def test_neither_ipython_nor_python_expand_anything(cells: Any, sandbox: Sandbox) -> None:
    cells.run("x = 5")
    cells.run('%%kimi\n$x {x} {x!r} $HOME {{}} {"a": {x}} %s\n!ls')
    cells.run("%kimi $x {x} {{x}}")
    assert [body["messages"][0]["content"] for body in bodies(sandbox)] == [
        '$x {x} {x!r} $HOME {{}} {"a": {x}} %s\n!ls',
        "$x {x} 5",
    ]


def test_a_local_variable_of_a_function_is_seen(cells: Any, sandbox: Sandbox) -> None:
    ran = cells.run("def ask(topic):\n    %kimi About {{topic}}\nask('cats')")
    assert ran.error is None
    assert bodies(sandbox)[0]["messages"][0]["content"] == "About cats"


@pytest.mark.parametrize(
    ("source", "error", "says"),
    [
        ("%%kimi --mdel x\nhi", MagicLineError, "did you mean --model?"),
        ("%%kimi -m\nhi", MagicLineError, "-m needs a value"),
        ('%%kimi -s "x\nhi', MagicLineError, "a quote on the line is not closed"),
        ("%%kimi sk-abcdefghijklmnop1234\nhi", MagicLineError, "looks like an API key"),
        ("%%kimi\nhi {{nobody}}", VariableError, "no variable 'nobody'"),
        ("%%kimi\nhi {{f()}}", VariableError, "would call f()"),
        ("%%kimi\n  \n", PromptError, "the prompt is empty"),
        ("%kimi", PromptError, "the prompt is empty"),
        ("%kimi --stop 012345678901234567890123456789012 hi", PromptError, "33 bytes"),
        ("%kimi --stop a --stop b --stop c --stop d --stop e --stop f hi", PromptError, "at most 5"),
        ("%kimi -m kimi-k3 --thinking off hi", PromptError, "always thinks"),
        ("%kimi --max-tokens 300000 hi", ContextError, "does not fit the 262,144"),
        ("%kimi -i nothing_here.png hi", ImageError, "neither a variable nor a file"),
        ("%kimi -i http://127.0.0.1:1/x.png hi", ImageError, "could not be fetched"),
        ("%kimi_config nothing=1", ConfigError, "there is no setting 'nothing'"),
        ("%kimi_config api_key=x", ConfigError, "never kept"),
        ("%kimi_models extra", MagicLineError, "only flags"),
    ],
)
def test_what_cannot_be_sent_fails_the_cell_and_sends_nothing(
    cells: Any, sandbox: Sandbox, source: str, error: type, says: str
) -> None:
    ran = cells.run(source)
    assert type(ran.error) is error
    assert says in ran.shown_error
    assert ran.shown_error.count("\n") in (1, 2)
    assert "sk-abc" not in ran.shown_error + ran.stdout
    assert (sandbox.requests, ran.bundles) == ([], [])
    assert "_kimi" not in cells.shell.user_ns


def test_a_prompt_longer_than_the_context_is_not_sent(cells: Any, sandbox: Sandbox) -> None:
    cells.run("long = 'word ' * 400_000")
    ran = cells.run("%kimi {{long}}")
    assert isinstance(ran.error, ContextError)
    assert sandbox.requests == []


def test_near_the_limit_the_api_s_own_count_decides(cells: Any, sandbox: Sandbox) -> None:
    cells.run("long = 'word ' * 250_000")
    cells.run("%kimi -m kimi-k2.6 {{long}}")
    assert sandbox.requests[0].path == "/v1/tokenizers/estimate-token-count"


def test_without_a_key_nothing_is_sent_and_getpass_is_shown(
    cells: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MOONSHOT_API_KEY")
    ran = cells.run("%kimi hi")
    assert isinstance(ran.error, MissingKeyError)
    assert "getpass" in ran.shown_error
    assert sandbox.requests == []


def test_a_key_set_later_is_used_at_once(cells: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOONSHOT_API_KEY", "wrong-key")
    assert "MOONSHOT_API_KEY" in cells.run("%kimi hi").shown_error
    cells.run("import os; os.environ['MOONSHOT_API_KEY'] = 'sandbox'")
    assert cells.run("%kimi hi").error is None


def test_a_refused_call_leaves_the_variables_alone(cells: Any, sandbox: Sandbox) -> None:
    cells.run("%kimi -o answer first")
    before = cells["answer"]
    ran = cells.run("%kimi -m kimi-k2.5 -o answer second")
    assert isinstance(ran.error, ModelNotFoundError)
    assert "kimi-k2.5 was retired on 2026-08-31" in ran.shown_error
    assert "use -m kimi-k2.6" in ran.shown_error
    assert cells["answer"] is before is cells["_kimi"]


def test_a_cut_answer_is_shown_and_bound_before_the_cell_fails(cells: Any, sandbox: Sandbox) -> None:
    sandbox.fault(Fault(drop_after=5))
    ran = cells.run("%kimi_config view=once\n%kimi -o answer --thinking off Tell me about tokens")
    reply = cells["answer"]
    assert isinstance(ran.error, ReplyBrokenError)
    assert (reply.is_partial, reply.usage.estimated, ran.error.reply) == (True, True, reply)
    assert reply.text
    assert ran.bundles[0]["text/plain"] == reply.text
    assert ran.bundles[1]["text/plain"].startswith("partial · ")
    assert reply.usage.completion_tokens > 0


def test_the_dry_run_shows_the_exact_body_and_sends_nothing(
    cells: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = '-s "S" --stop x --max-tokens 7 --thinking off'
    cells.run(f"%%kimi {flags}\nHé {{}}")
    [sent] = bodies(sandbox)
    monkeypatch.delenv("MOONSHOT_API_KEY")
    ran = cells.run(f"%%kimi {flags} --dry-run\nHé {{}}")
    assert json.loads(ran.stdout) == sent
    assert "Hé" in ran.stdout
    assert len(sandbox.requests) == 1


def test_help_is_shown_in_the_place_where_jupyter_looks(cells: Any, sandbox: Sandbox) -> None:
    for name in ("kimi", "kimi_estimate", "kimi_models", "kimi_config"):
        assert "--help" in cells.shell.find_line_magic(name).__doc__
    assert "--max-tokens N" in cells.shell.find_cell_magic("kimi").__doc__
    ran = cells.run("%kimi --help")
    assert "--max-tokens N" in ran.stdout
    assert (ran.error, sandbox.requests) == (None, [])


def test_an_image_goes_as_data_and_comes_back_as_facts(cells: Any, sandbox: Sandbox, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (64, 32), "red").save(tmp_path / "red.png")
    ran = cells.run(f'%kimi -i "{tmp_path / "red.png"}" -o seen What is it?')
    assert ran.error is None
    [part, text] = bodies(sandbox)[0]["messages"][0]["content"]
    assert part["image_url"]["url"].startswith("data:image/png;base64,")
    assert text == {"type": "text", "text": "What is it?"}
    assert "64" in cells["seen"].text
    assert "32" in cells["seen"].text


# ---------------------------------------------------------------- reports


def test_the_estimate_is_the_count_of_the_api_and_generates_nothing(cells: Any, sandbox: Sandbox) -> None:
    facts = json.loads(cells.run("%kimi_estimate --json -s Short. What is a token?").stdout)
    cells.run("%kimi -s Short. -o r What is a token?")
    assert facts["counted"] is True
    assert facts["prompt_tokens"] == cells["r"].usage.prompt_tokens
    assert Decimal(facts["input_cost"]) == facts["prompt_tokens"] * Decimal("0.95") / 1_000_000
    assert (facts["output_limit"], facts["currency"], facts["note"]) == (32_768, "USD", "")
    assert len(bodies(sandbox)) == 1


def test_the_estimate_of_a_cell_is_shown_as_a_table(cells: Any, sandbox: Sandbox) -> None:
    ran = cells.run("%%kimi_estimate -m kimi-k3\nWhat is a token?")
    [bundle] = ran.bundles
    assert "kimi-k3" in bundle["text/plain"]
    assert bundle["text/markdown"].startswith("| model")
    assert "Counted by the API" in bundle["text/plain"]
    assert bodies(sandbox) == []


def test_an_endpoint_that_refuses_leaves_a_local_count_that_says_so(cells: Any, sandbox: Sandbox) -> None:
    facts = json.loads(cells.run("%kimi_estimate --json -m kimi-k9 hello").stdout)
    assert (facts["counted"], facts["prompt_tokens"] > 0, facts["input_cost"]) == (False, True, None)
    assert "no model kimi-k9" in facts["note"]
    ran = cells.run("%kimi_estimate -m kimi-k9 hello")
    assert "≈" in ran.bundles[0]["text/plain"]
    assert "unknown price" in ran.bundles[0]["text/plain"]


def test_without_a_key_a_prompt_is_counted_here(cells: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOONSHOT_API_KEY")
    facts = json.loads(cells.run("%kimi_estimate --json hello").stdout)
    assert (facts["counted"], facts["prompt_tokens"]) == (False, 9)
    assert Decimal(facts["input_cost"]) == Decimal("0.00000855")
    assert "there is no API key" in facts["note"]
    assert sandbox.requests == []


def test_compare_counts_for_all_live_models(cells: Any, sandbox: Sandbox) -> None:
    facts = json.loads(cells.run("%kimi_estimate --json --compare --thinking off hello").stdout)
    assert {"kimi-k2.6", "kimi-k3", "kimi-k3.1-pro"} <= {row["model"] for row in facts}
    assert all(row["counted"] and row["input_cost"] for row in facts)
    assert bodies(sandbox) == []


def test_models_come_from_the_host_and_carry_our_prices(cells: Any, sandbox: Sandbox) -> None:
    facts = {row["model"]: row for row in json.loads(cells.run("%kimi_models --json").stdout)}
    assert facts["kimi-k2.6"]["price"]["input"] == "0.95"
    assert facts["kimi-k3"]["context_tokens"] == 1_048_576
    assert "kimi-k2.5" not in facts
    everything = {row["model"]: row for row in json.loads(cells.run("%kimi_models --json --all").stdout)}
    assert everything["kimi-k2.5"]["retired"] == "2026-08-31"


def test_without_a_host_the_models_come_from_our_list_and_it_is_said(
    cells: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MOONSHOT_API_KEY", raising=False)
    ran = cells.run("%kimi_models")
    assert "kimi-k2.6" in ran.bundles[0]["text/plain"]
    assert "built-in list of 2026-11-22" in ran.bundles[0]["text/plain"]


def test_settings_are_shown_got_and_set(cells: Any, sandbox: Sandbox) -> None:
    assert cells.run("%kimi_config model").stdout == "model = kimi-k2.6 (default)\n"
    assert cells.run("%kimi_config model=kimi-k3").stdout == "model = kimi-k3 (session)\n"
    assert cells.run('%kimi_config system "Be brief."').stdout == "system = Be brief. (session)\n"
    cells.run("%kimi hi")
    assert (bodies(sandbox)[0]["model"], bodies(sandbox)[0]["messages"][0]["content"]) == ("kimi-k3", "Be brief.")
    assert cells.run("%kimi_config --unset model").stdout == "model = kimi-k2.6 (default)\n"
    assert cells.run("%kimi_config --save footer=off").stdout == "footer = off (saved)\n"
    assert json.loads(cells.run("%kimi_config --json footer").stdout) == {
        "name": "footer",
        "value": "off",
        "source": "saved",
    }
    table = cells.run("%kimi_config").bundles[0]["text/plain"]
    assert "MOONSHOT_API_KEY is set" in table
    assert "The host is 127.0.0.1;" in table
    assert "sandbox" not in table


def test_a_password_in_the_address_is_not_shown(cells: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOONSHOT_BASE_URL", "https://me:hidden@api.moonshot.ai/v1")
    shown = str(cells.run("%kimi_config").bundles) + cells.run("%kimi hi").shown_error
    assert "user name or password" in shown
    assert "hidden" not in shown


def test_the_footer_can_be_switched_off(cells: Any, sandbox: Sandbox) -> None:
    cells.run("%kimi_config view=once")
    assert len(cells.run("%kimi hi").bundles) == 2
    cells.run("%kimi_config footer=off")
    assert len(cells.run("%kimi hi").bundles) == 1


def test_cny_for_the_chinese_host_and_by_choice(cells: Any, sandbox: Sandbox) -> None:
    cells.run("%kimi_config currency=CNY")
    cells.run("%kimi -o r hi")
    assert cells["r"].currency == "CNY"
    assert (
        cells["r"].cost
        == (cells["r"].usage.prompt_tokens * Decimal("6.5") + cells["r"].usage.completion_tokens * 27) / 1_000_000
    )


def test_an_unknown_price_is_none_and_no_figure_in_the_footer(cells: Any, sandbox: Sandbox) -> None:
    cells.run("%kimi_config currency=CNY\n%kimi_config view=once")
    ran = cells.run("%kimi -m kimi-k3.1-pro -o r hi")
    assert cells["r"].cost is None
    assert "¥" not in ran.bundles[1]["text/plain"]
    assert " in / " in ran.bundles[1]["text/plain"]


# ---------------------------------------------------------------- loading


def test_loading_twice_and_unloading_leaves_no_trace(shell: InteractiveShell) -> None:
    before = list(shell.input_transformers_cleanup)
    shell.run_line_magic("load_ext", "kimi_magics")
    shell.run_line_magic("reload_ext", "kimi_magics")
    assert (
        sum(getattr(other, "__name__", "") == keep_questions.__name__ for other in shell.input_transformers_cleanup)
        == 1
    )
    assert shell.find_cell_magic("kimi")
    shell.run_line_magic("unload_ext", "kimi_magics")
    assert shell.find_cell_magic("kimi") is None
    assert shell.input_transformers_cleanup == before


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("%kimi what is {{x}}, 'so'?\n", "get_ipython().run_line_magic('kimi', \"what is {{x}}, 'so'?\")\n"),
        ("if 1:\n    %kimi_estimate why??\n", "if 1:\n    get_ipython().run_line_magic('kimi_estimate', 'why??')\n"),
        ("%kimi?\n", None),
        ("%kimi ?\n", None),
        ("%kimi no question\n", None),
        ("%%kimi\n%kimi a question?\n", None),
        ('text = """\n%kimi a question?\n"""\n', None),
        ("kimi?\n", None),
    ],
)
def test_only_a_question_to_the_model_is_kept_from_ipython_s_help(cell: str, expected: str | None) -> None:
    assert "".join(keep_questions(cell.splitlines(keepends=True))) == (expected or cell)


# ---------------------------------------------------------------- the budget


def test_a_budget_counts_what_was_spent_and_the_next_call(cells: Any, sandbox: Sandbox) -> None:
    cells.run("%kimi_budget 0.01")
    assert cells.run("%%kimi\nHello").error is None
    spent = cells["_kimi"].cost
    cells.run(f"%kimi_budget {spent}")
    sent = len(sandbox.requests)
    refused = cells.run("%%kimi\nHello again")

    assert isinstance(refused.error, BudgetError)
    assert "%kimi_budget" in refused.shown_error
    assert len(refused.shown_error.splitlines()) < 6
    assert not [request for request in sandbox.requests[sent:] if "chat" in request.path]
    raised = re.search(r"%kimi_budget (\S+) USD", refused.shown_error)
    assert raised is not None
    cells.run(raised[0])
    assert cells.run("%%kimi\nHello again").error is None


def test_the_longest_answer_is_no_longer_than_the_rest_of_the_budget_pays_for(cells: Any, sandbox: Sandbox) -> None:
    cells.run("%kimi_budget 0.01")
    cells.run("%%kimi --max-tokens 30000\nHello")
    cells.run("%%kimi --max-tokens 500\nHello")
    cells.run("%%kimi --over-budget --max-tokens 30000\nHello")
    limits = [request.body["max_completion_tokens"] for request in sandbox.requests if "chat" in request.path]

    price = Decimal(4) / 1_000_000
    assert 2400 < limits[0] < 2500
    assert limits[0] * price < Decimal("0.01")
    assert limits[1:] == [500, 30000]


def test_an_answer_that_the_budget_shortened_says_so(cells: Any, sandbox: Sandbox) -> None:
    cells.run("%kimi_budget 0.00121 USD per day")
    ran = cells.run("%%kimi --thinking off\nHello")

    assert ran.error is None
    assert re.search(r"answer limited to 3\d\d tokens by the budget of \$0\.00121 per day", ran.stdout)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("%kimi_budget 2", ["$2 per session", "$0", "$0", "$2.0000", "this session"]),
        ("%kimi_budget $0.5 usd", ["$0.5 per session", "$0", "$0", "$0.5000", "this session"]),
        ("%kimi_budget 5 CNY per day", ["¥5 per day", "¥0", "¥0", "¥5.0000", "this session"]),
        ("%kimi_budget --save 5k tokens per month", ["5,000 tokens per month", "0 tokens", "saved, for all sessions"]),
        ("%kimi_budget 0.05 per call", ["$0.05 per call", "$0.0500"]),
    ],
)
def test_a_budget_is_set_shown_and_taken_away(cells: Any, line: str, shown: list[str]) -> None:
    table = cells.run(line).bundles[0]["text/plain"]
    row = next(row for row in table.splitlines() if row.startswith(shown[0]))
    assert all(part in row for part in shown)
    saved = " --save" if "--save" in line else ""
    assert cells.run(f"%kimi_budget{saved} off").stdout.strip() == "no budget; $0 was spent in this session"


def test_several_budgets_hold_at_once_and_one_of_them_is_taken_away(cells: Any, sandbox: Sandbox) -> None:
    for line in ("1 USD per day", "100 tokens per call", "0.5 per day"):
        cells.run(f"%kimi_budget {line}")
    told = json.loads(cells.run("%kimi_budget --json").stdout)
    assert [(one["amount"], one["unit"], one["per"]) for one in told["budgets"]] == [
        ("100", "tokens", "call"),
        ("0.5", "USD", "day"),
    ]
    assert "100 tokens per call" in cells.run("%%kimi\nHello").shown_error
    cells.run("%kimi_budget off per call")
    assert cells.run("%%kimi\nHello").error is None
    assert "you have no budget per week" in cells.run("%kimi_budget off per week").shown_error


def test_the_budget_is_told_to_a_program(cells: Any) -> None:
    cells.run("%kimi_budget 0.25")
    told = json.loads(cells.run("%kimi_budget --json").stdout)

    assert (told["budget"], told["spent"], told["left"], told["currency"]) == ("0.25", "0", "0.25", "USD")
    assert told["budgets"] == [
        {
            "amount": "0.25",
            "unit": "USD",
            "per": "session",
            "spent": "0",
            "under_way": "0",
            "left": "0.25",
            "unpriced": 0,
            "set_by": "session",
        }
    ]


@pytest.mark.parametrize("line", ["%kimi_budget much", "%kimi_budget -1", "%kimi_budget 1 EUR", "%kimi_budget nan"])
def test_what_is_no_budget_is_refused(cells: Any, line: str) -> None:
    ran = cells.run(line)

    assert isinstance(ran.error, KimiError)
    assert ran.error.remedy


def test_a_price_that_is_not_known_and_a_budget_do_not_go_together(cells: Any, sandbox: Sandbox) -> None:
    cells.run("%kimi_budget 1")
    refused = cells.run("%%kimi -m kimi-k9\nHello")

    assert isinstance(refused.error, BudgetError)
    assert "price.kimi-k9" in refused.shown_error
    assert sandbox.requests == []
