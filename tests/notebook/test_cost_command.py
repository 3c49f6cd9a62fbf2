"""`kimi-magics cost`: what notebooks cost by their saved receipts, whatever else stands in them."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from kimi_magics.cli import main
from kimi_magics.sandbox import Sandbox

ROOT = Path(__file__).parents[2]


def receipt(cost: Any = "0.25", *, request_id: Any = None, model: Any = "kimi-k2.6", **changes: Any) -> dict[str, Any]:
    """Return a receipt as `Reply.receipt` makes it."""
    usage = {
        "prompt_tokens": 1000,
        "completion_tokens": 50,
        "cached_tokens": 200,
        "cache_write_tokens": 0,
        "estimated": False,
        "web_searches": 0,
    }
    return {
        "model": model,
        "prompt_hash": "0123456789abcdef",
        "usage": usage,
        "cost": cost,
        "currency": "USD",
        "price_date": "2026-11-01",
        "price_source": "genai-prices",
        "request_id": request_id,
        "finish_reason": "stop",
        "is_partial": False,
        "steps": 1,
    } | changes


def cell(*receipts: Any, cell_id: str | None = None) -> dict[str, Any]:
    outputs = [
        {"output_type": "display_data", "data": {"text/plain": "x"}, "metadata": {"kimi_magics": row}}
        for row in receipts
    ]
    made = {"cell_type": "code", "source": "%%kimi", "metadata": {}, "execution_count": 1, "outputs": outputs}
    return made | ({"id": cell_id} if cell_id else {})


def write(path: Path, *cells: Any, **changes: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": list(cells)} | changes
    path.write_text(json.dumps(content), "utf-8")
    return path


class Ran:
    """What the command printed and returned."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: Any) -> None:
        self.code = main(["cost", *map(str, arguments)])
        self.out, self.err = capsys.readouterr()

    @property
    def facts(self) -> Any:
        return json.loads(self.out)

    def row(self, word: str) -> list[str]:
        return next(line for line in self.out.splitlines() if word in line).split()


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: Ran(capsys, *arguments)


# ---------------------------------------------------------------- sums


def test_a_table_sums_up_by_notebook_and_model(ran: Any) -> None:
    write(Path("a.ipynb"), cell(receipt("0.25")), cell(receipt("0.5", model="kimi-k3")), cell(receipt("0.125")))
    write(Path("b.ipynb"), cell(receipt("0.0625")))
    done = ran("a.ipynb", "b.ipynb")
    lines = [line.split() for line in done.out.splitlines()]
    assert lines[0] == ["notebook", "model", "calls", "prompt", "cached", "completion", "cost"]
    assert lines[2:] == [
        ["a.ipynb", "kimi-k2.6", "2", "2,000", "400", "100", "$0.3750"],
        ["a.ipynb", "kimi-k3", "1", "1,000", "200", "50", "$0.5000"],
        ["b.ipynb", "kimi-k2.6", "1", "1,000", "200", "50", "$0.0625"],
        ["together", "4", "4,000", "800", "200", "$0.9375"],
    ]
    assert (done.code, done.err) == (0, "")


def test_each_currency_has_its_own_sum(ran: Any) -> None:
    write(Path("a.ipynb"), cell(receipt("0.25")), cell(receipt("2", currency="CNY")), cell(receipt("1.5")))
    done = ran("a.ipynb", "--by", "notebook")
    assert done.row("a.ipynb")[-3:] == ["$1.7500", "+", "¥2.0000"]
    totals = ran("a.ipynb", "--json").facts["totals"]
    assert [(one["currency"], one["cost"], one["calls"]) for one in totals] == [("USD", "1.75", 2), ("CNY", "2", 1)]


@pytest.mark.parametrize(
    ("by", "keys"),
    [
        (None, [{"notebook": "a.ipynb", "model": "kimi-k2.6"}, {"notebook": "a.ipynb", "model": "kimi-k3"}]),
        ("notebook", [{"notebook": "a.ipynb"}]),
        ("model", [{"model": "kimi-k2.6"}, {"model": "kimi-k3"}]),
        (
            "cell",
            [
                {"notebook": "a.ipynb", "cell": 1, "cell_id": "one"},
                {"notebook": "a.ipynb", "cell": 2, "cell_id": None},
            ],
        ),
    ],
)
def test_json_and_csv_have_the_same_rows(ran: Any, by: str | None, keys: list[dict[str, Any]]) -> None:
    first, second = cell(receipt("0.25"), cell_id="one"), cell(receipt("0.5", model="kimi-k3"))
    write(Path("a.ipynb"), {"cell_type": "markdown", "source": "# x", "metadata": {}}, first, second)
    flags = ["--by", by] if by else []
    rows = ran("a.ipynb", "--json", *flags).facts["rows"]
    assert [{name: row[name] for name in keys[0]} for row in rows] == keys
    assert sum(Decimal(row["cost"]) for row in rows) == Decimal("0.75")
    assert sum(row["prompt_tokens"] for row in rows) == 2000
    read = list(csv.DictReader(io.StringIO(ran("a.ipynb", "--csv", *flags).out)))
    assert read == [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows]


def test_costs_that_are_unknown_or_estimated_are_told(ran: Any) -> None:
    guessed = receipt("0.5")
    guessed["usage"]["estimated"] = True
    write(Path("a.ipynb"), cell(receipt(None)), cell(guessed))
    done = ran("a.ipynb")
    assert done.row("a.ipynb")[-5:] == ["≈", "$0.5000", "+", "1", "unknown"]
    assert "≈ 1 call with figures that are estimated" in done.out
    (row,) = ran("a.ipynb", "--json").facts["rows"]
    assert (row["cost"], row["unpriced"], row["estimated"]) == ("0.5", 1, 1)
    write(Path("b.ipynb"), cell(receipt(None)))
    assert ran("b.ipynb", "--json").facts["rows"][0]["cost"] is None


def test_what_was_replayed_is_no_call_and_told_with_what_it_cost_once(ran: Any, tmp_path: Path) -> None:
    nothing = {"prompt_tokens": 0, "completion_tokens": 0, "cached_tokens": 0, "estimated": False}
    replayed = receipt("0", usage=nothing, replayed={"cost": "0.25", "currency": "USD", "date": "2026-11-20"})
    partly = receipt("0.10", replayed={"cost": "0.25", "currency": "USD", "date": "2026-11-20"})
    forged = receipt("0", usage=nothing, replayed={"cost": "lots", "currency": "USD"})
    path = write(tmp_path / "a.ipynb", cell(receipt("0.25")), cell(replayed, replayed), cell(partly), cell(forged))
    shown = ran(path)
    assert shown.row("kimi-k2.6")[-5:] == ["2", "2,000", "400", "100", "$0.3500"]
    assert "2 answers replayed, at no cost; when billed: $0.5000" in shown.out
    assert "cell 3: a receipt that cannot be read, its cost is no amount" in shown.out
    facts = ran(path, "--json").facts
    assert facts["replayed"] == [{"notebook": str(path), "cell": 1, "cost": "0.25", "currency": "USD"}] * 2
    assert ran(write(tmp_path / "b.ipynb", cell(replayed)), "--max", "0.001").code == 0


def test_a_call_counts_once_wherever_it_was_copied_to(ran: Any) -> None:
    paid = receipt("0.25", request_id="cmpl-0123456789abcdef")
    write(Path("a.ipynb"), cell(paid), cell(paid, paid))
    write(Path("b.ipynb"), cell(paid), cell(receipt("0.25", request_id="cmpl-fedcba9876543210")))
    done = ran("a.ipynb", "b.ipynb")
    assert done.row("together")[1] == "2"
    assert "3 receipts left out: of calls that are counted already" in done.out
    copies = ran("a.ipynb", "b.ipynb", "--json").facts["copies"]
    assert copies == [
        {"notebook": "a.ipynb", "cell": 1},
        {"notebook": "a.ipynb", "cell": 1},
        {"notebook": "b.ipynb", "cell": 0},
    ]


def test_one_call_with_two_figures_is_told_and_both_count(ran: Any) -> None:
    for cost in ("0.25", "0.0001"):
        write(Path(f"{cost}.ipynb"), cell(receipt(cost, request_id="cmpl-0123456789abcdef")))
    done = ran("0.25.ipynb", "0.0001.ipynb")
    assert done.row("together")[-1] == "$0.2501"
    assert "one call with several figures, all of them counted: 0.0001.ipynb cell 0" in done.out


@pytest.mark.parametrize("request_id", [None, "", "chatcmpl-417", 5])
def test_without_an_id_of_their_own_calls_are_not_taken_for_one(ran: Any, request_id: Any) -> None:
    write(Path("a.ipynb"), cell(receipt(request_id=request_id)), cell(receipt(request_id=request_id)))
    assert ran("a.ipynb").row("a.ipynb")[2] == "2"


# ---------------------------------------------------------------- which notebooks


def test_folders_and_patterns_stand_for_their_notebooks_each_once(ran: Any) -> None:
    for name in ("x/a.ipynb", "x/deep/b.ipynb", "x/.ipynb_checkpoints/a-checkpoint.ipynb", "y/c.ipynb", "x/.d.ipynb"):
        write(Path(name), cell(receipt()))
    Path("x/readme.md").write_text("no notebook")
    os.mkfifo("x/pipe.ipynb")
    Path("x/loop").symlink_to("../x")

    def names(*arguments: str) -> list[str]:
        return [row["notebook"] for row in ran("--json", *arguments).facts["rows"]]

    assert names("x") == ["x/a.ipynb", "x/deep/b.ipynb"]
    assert names("x", "y/c.ipynb", "./x/a.ipynb", "*/*.ipynb") == ["x/a.ipynb", "x/deep/b.ipynb", "y/c.ipynb"]
    assert names("*/**/b.ipynb") == ["x/deep/b.ipynb"]


def test_a_file_whose_name_is_a_pattern_is_that_file(ran: Any) -> None:
    write(Path("a[1].ipynb"), cell(receipt()))
    assert ran("a[1].ipynb").code == 0


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere.ipynb", "is not there"),
        ("empty", "there is no notebook in it"),
        ("no*where", "there is nothing that fits"),
        ("bad.ipynb", "is not a notebook"),
        ("list.ipynb", "has no nbformat"),
        ("cells.ipynb", "has no list of cells"),
        ("deep.ipynb", "is not a notebook"),
        ("latin.ipynb", "is not a notebook"),
        ("digits.ipynb", "is not a notebook"),
        ("itself.ipynb", "cannot be read"),
        ("~nobody-of-this-name", "is not there"),
    ],
)
def test_what_cannot_be_read_is_told_and_the_rest_is_summed_up(ran: Any, name: str, says: str) -> None:
    Path("empty").mkdir()
    Path("itself.ipynb").symlink_to("itself.ipynb")
    Path("bad.ipynb").write_text('{"cells": [')
    Path("list.ipynb").write_text("[]")
    Path("cells.ipynb").write_text('{"nbformat": 4, "cells": {"a": 1}}')
    Path("deep.ipynb").write_text("[" * 100_000)
    Path("latin.ipynb").write_bytes(b'{"nbformat": 4, "x": "\xe9"}')
    Path("digits.ipynb").write_text('{"nbformat": 4, "cells": [], "x": ' + "9" * 5_000 + "}")
    write(Path("good.ipynb"), cell(receipt()))
    done = ran(name, "good.ipynb", "--json")
    assert done.code == 1
    assert says in done.err
    assert says in done.facts["problems"][0]
    assert [row["notebook"] for row in done.facts["rows"]] == ["good.ipynb"]


def test_notebooks_without_receipts_are_told_and_are_no_failure(ran: Any) -> None:
    write(Path("none.ipynb"), cell(), {"cell_type": "markdown", "source": "x", "metadata": {}})
    write(Path("good.ipynb"), cell(receipt()))
    done = ran("none.ipynb", "good.ipynb")
    assert (done.code, "without receipts: none.ipynb" in done.out) == (0, True)
    assert ran("none.ipynb").out == "no receipt in 1 notebook\n"
    assert ran("none.ipynb", "--json").facts["without_receipts"] == ["none.ipynb"]
    assert ran("none.ipynb", "--max", "0").code == 0


def test_older_formats_and_foreign_notebooks_are_read(ran: Any) -> None:
    write(Path("three.ipynb"), nbformat=3, worksheets=[{"cells": [cell(receipt())]}, "no sheet", {"cells": 5}])
    write(Path("five.ipynb"), cell(receipt()), nbformat=5)
    foreign = [
        5,
        None,
        "x",
        {"outputs": 5},
        {"outputs": [5, {"metadata": []}, {"metadata": {"kimi_magics": {"a": 1}}}]},
    ]
    write(Path("foreign.ipynb"), *foreign)
    done = ran("three.ipynb", "five.ipynb", "foreign.ipynb")
    assert done.code == 0
    assert done.row("together")[1] == "2"
    assert "without receipts: foreign.ipynb" in done.out


# ---------------------------------------------------------------- somebody else's text

USAGE = receipt()["usage"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (5, "it is no object"),
        ([receipt()], "it is no object"),
        (receipt(model=None), "it names no model"),
        (receipt(model=" "), "it names no model"),
        (receipt(usage=None), "its tokens are no figures"),
        (receipt(usage=USAGE | {"prompt_tokens": -1}), "its tokens are no figures"),
        (receipt(usage=USAGE | {"prompt_tokens": True}), "its tokens are no figures"),
        (receipt(usage=USAGE | {"prompt_tokens": 1.5}), "its tokens are no figures"),
        (receipt(usage=USAGE | {"cached_tokens": 10**13}), "its tokens are no figures"),
        (receipt(usage=USAGE | {"completion_tokens": "5"}), "its tokens are no figures"),
        (receipt(currency="dollars"), "its currency is none"),
        (receipt(currency=None), "its currency is none"),
        (receipt(currency="\x1b[3"), "its currency is none"),
        (receipt(5), "its cost is no amount"),
        (receipt("-1"), "its cost is no amount"),
        (receipt("NaN"), "its cost is no amount"),
        (receipt("Infinity"), "its cost is no amount"),
        (receipt("1e999999999"), "its cost is no amount"),
        (receipt("9" * 10), "its cost is no amount"),
        (receipt("٣.٥"), "its cost is no amount"),
        (receipt("0." + "1" * 31), "its cost is no amount"),
        (receipt(["1"]), "its cost is no amount"),
    ],
)
def test_a_receipt_that_cannot_be_is_told_and_not_counted(ran: Any, row: Any, reason: str) -> None:
    write(Path("a.ipynb"), cell(receipt("0.25")), cell(row))
    done = ran("a.ipynb")
    assert (done.code, done.row("a.ipynb")[2]) == (0, "1")
    assert f"a.ipynb cell 1: a receipt that cannot be read, {reason}" in done.out
    assert ran("a.ipynb", "--max", "1").code == 4


@pytest.mark.parametrize("cost", ["9E-8", "9.5E-7", "0", "0.00000001", "999999999"])
def test_amounts_are_read_as_they_are_written(ran: Any, cost: str) -> None:
    write(Path("a.ipynb"), cell(receipt(cost)))
    assert Decimal(ran("a.ipynb", "--json").facts["totals"][0]["cost"]) == Decimal(cost)


HOSTILE = "\x1b]0;owned\x07\x1b[2Jkimi\u202e\r\n| a | b |\x9b31m\u2028"


def test_no_text_of_a_notebook_steers_the_terminal(ran: Any) -> None:
    name = "n\x1b[31m\n.ipynb"
    write(Path(name), cell(receipt(model=HOSTILE), cell_id=HOSTILE), cell(receipt(model="x" * 5_000)), cell(5))
    Path("bad\x1b[31m.ipynb").write_text("{")
    for flags in ([], ["--by", "cell"], ["--json"], ["--csv"], ["--by", "model", "--json"]):
        done = ran(name, "bad\x1b[31m.ipynb", "gone\x1b[31m*", *flags)
        shown = done.out + done.err
        assert all(letter.isprintable() or letter == "\n" for letter in shown)
        assert max(map(len, shown.splitlines())) < 600
    assert "�" in ran(name).out


@pytest.mark.parametrize("model", ["=1+1", "@x", "+1", "-1"])
def test_a_model_that_is_a_formula_is_text_in_csv(ran: Any, model: str) -> None:
    write(Path("a.ipynb"), cell(receipt(model=model)))
    (row,) = csv.DictReader(io.StringIO(ran("a.ipynb", "--csv").out))
    assert row["model"] == f"'{model}"


# ---------------------------------------------------------------- the limit


@pytest.mark.parametrize(
    ("most", "code"),
    [("0.75", 0), ("0.7499", 3), ("$1", 0), ("0", 3), ("1 USD", 0), ("0.5USD", 3), ("1e", None), ("-1", None)],
)
def test_more_than_the_limit_has_a_code_of_its_own(ran: Any, most: str, code: int | None) -> None:
    write(Path("a.ipynb"), cell(receipt("0.25")), cell(receipt("0.5")))
    done = ran("a.ipynb", f"--max={most}")
    if code is None:
        assert (done.code, done.out) == (1, "")
        assert "is not an amount" in done.err
        return
    assert done.code == code
    assert ("the receipts sum up to $0.7500, more than --max" in done.err) == (code == 3)


@pytest.mark.parametrize("most", ["2 EUR", "100 tokens", "2 USD per day", "1 a day", "$2 CNY", "much", ""])
def test_what_is_no_amount_of_money_is_refused_before_anything_is_read(ran: Any, most: str) -> None:
    done = ran("nowhere.ipynb", f"--max={most}")
    assert (done.code, done.out) == (1, "")
    assert "--max" in done.err
    assert "nowhere" not in done.err


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (receipt(None), "the cost of 1 call is not known"),
        (receipt("2", currency="CNY"), "1 call cost ¥2.0000"),
        (receipt("NaN"), "1 receipt cannot be read"),
    ],
)
def test_what_nobody_can_compare_fails_unless_it_is_allowed(ran: Any, row: dict[str, Any], says: str) -> None:
    write(Path("a.ipynb"), cell(receipt("0.25")), cell(row))
    done = ran("a.ipynb", "--max", "1")
    assert done.code == 4
    assert f"nobody can tell whether --max 1 USD is held: {says}" in done.err
    assert ran("a.ipynb", "--max", "1", "--allow-unknown").code == 0
    assert ran("a.ipynb", "--max", "0.1", "--allow-unknown").code == 3
    assert ran("a.ipynb", "--max", "0.1").code == 3
    assert ran("a.ipynb").code == 0


def test_an_estimated_cost_counts_as_it_is_stated(ran: Any) -> None:
    guessed = receipt("0.5")
    guessed["usage"]["estimated"] = True
    write(Path("a.ipynb"), cell(guessed))
    assert ran("a.ipynb", "--max", "0.5").code == 0
    assert ran("a.ipynb", "--max", "0.4").code == 3


def test_a_notebook_that_cannot_be_read_holds_no_limit(ran: Any) -> None:
    write(Path("a.ipynb"), cell(receipt("0.25")))
    assert ran("a.ipynb", "nowhere.ipynb", "--max", "1").code == 1
    assert ran("a.ipynb", "nowhere.ipynb", "--max", "0.1").code == 3


@pytest.mark.parametrize(
    "arguments", [[], ["a.ipynb", "--json", "--csv"], ["a.ipynb", "--by", "day"], ["a.ipynb", "--allow-unknown"]]
)
def test_a_line_that_cannot_be_read_shows_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["cost", *arguments])
    assert caught.value.code == 2
    assert "usage: kimi-magics cost" in capsys.readouterr().err


# ---------------------------------------------------------------- as a whole


def test_what_a_notebook_saved_is_what_its_calls_cost(ran: Any, sandbox: Sandbox, tmp_path: Path) -> None:
    sources = ["%load_ext kimi_magics", "%%kimi --max-tokens 30\nHello", "%kimi -m kimi-k3 --max-tokens 20 Hello"]
    cells = [nbformat.v4.new_code_cell(source) for source in [*sources, "%kimi_usage --json"]]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    nbformat.write(notebook, tmp_path / "saved.ipynb")
    calls = json.loads(notebook.cells[-1].outputs[0].text)
    facts = ran("saved.ipynb", "--json").facts
    assert Decimal(facts["totals"][0]["cost"]) == sum(Decimal(call["cost"]) for call in calls)
    assert {row["model"]: row["prompt_tokens"] for row in facts["rows"]} == {
        call["model"]: call["prompt_tokens"] for call in calls
    }


def test_it_needs_neither_jupyter_nor_the_network(tmp_path: Path) -> None:
    write(tmp_path / "a.ipynb", cell(receipt()))
    script = (
        "import sys\nfrom kimi_magics.cli import main\n"
        f"code = main(['cost', {str(tmp_path)!r}, '--max', '1'])\n"
        "heavy = ('IPython', 'ipywidgets', 'httpx', 'sqlalchemy', 'PIL', 'pydantic')\n"
        "print(code, [name for name in heavy if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert ran.stdout.splitlines()[-1] == "0 []"


def test_the_notebooks_of_this_repository_can_be_summed_up(ran: Any) -> None:
    done = ran(ROOT / "notebooks", "--max", "1")
    assert (done.code, done.err) == (0, "")
