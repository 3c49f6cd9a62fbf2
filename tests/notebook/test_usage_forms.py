"""What was spent, as other programs take it: charts of the library that is there, CSV, frames; and a view is a view."""

from __future__ import annotations

import csv
import io
import json
import os
import sqlite3
import subprocess
import sys
import sysconfig
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kimi_magics.core.budget import Demand
from kimi_magics.core.usage import Price, Usage
from kimi_magics.sandbox import Fault, Sandbox
from kimi_magics.store.config import find_home
from kimi_magics.store.ledger import Ledger
from kimi_magics.store.ledger_values import Entry, Outcome, Reservation

ROOT = Path(__file__).parents[2]
CHARTS = ("matplotlib", "plotly", "altair")
PRICE = Price(Decimal("0.95"), Decimal(4))
#: What each library leaves in a notebook.
KINDS = {
    "matplotlib": "image/png",
    "plotly": "application/vnd.plotly.v1+json",
    "altair": ("application/vnd.vegalite", "text/html"),
}
SHOW = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config
config = Config()
config.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=config)
shell.run_line_magic("load_ext", "kimi_magics")
with capture_output() as captured:
    result = shell.run_cell("%kimi_usage --plot")
result.raise_error()
charts = [name for name in ("matplotlib", "plotly", "altair") if name in sys.modules]
texts = [str(output.data.get("text/plain", "")) for output in captured.outputs]
print(json.dumps({"kinds": [list(output.data) for output in captured.outputs], "charts": charts, "texts": texts}))
"""


def spend(model: str, completion_tokens: int) -> None:
    """Put a call into the ledger of this test."""
    ledger = Ledger()
    granted = ledger.reserve(Entry("s", "h", model), Demand(model, 1000, 5000, price=PRICE), ())
    assert isinstance(granted, Reservation)
    usage = Usage(1000, completion_tokens)
    ledger.settle(granted, Outcome(usage, PRICE.cost_of(usage), "USD", price=PRICE))
    ledger.close()


def show_plot(folder: Path, *, hidden: set[str]) -> dict[str, Any]:
    """Return what --plot shows where some libraries are not installed: in a folder of all the others."""
    folder.mkdir()
    found = Path(sysconfig.get_path("purelib"))
    for entry in found.iterdir():
        if not any(entry.name.lower().startswith(name) for name in hidden):
            (folder / entry.name).symlink_to(entry)
    variables = {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "PLOTLY_RENDERER": "plotly_mimetype"}
    ran = subprocess.run(
        [sys.executable, "-S", "-c", SHOW],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", CHARTS)
def test_a_plot_is_drawn_with_the_library_that_is_there(tmp_path: Path, name: str) -> None:
    spend("kimi-k2.6", 500)
    shown = show_plot(tmp_path / "site", hidden={*CHARTS} - {name})
    assert shown["charts"] == [name]
    (kinds,) = shown["kinds"]
    assert any(kind.startswith(KINDS[name]) for kind in kinds)


def test_without_any_library_the_plot_is_text(tmp_path: Path) -> None:
    spend("kimi-k2.6", 500)
    spend("kimi-k3", 1000)
    shown = show_plot(tmp_path / "site", hidden={*CHARTS})
    assert shown["charts"] == []
    (text,) = shown["texts"]
    cost, other = (PRICE.cost_of(Usage(1000, tokens)) for tokens in (500, 1000))
    assert "█" in text
    assert f"${cost + other:.4f}" in text
    assert f"kimi-k2.6 ${cost:.4f} · kimi-k3 ${other:.4f}" in text


def test_csv_hides_nothing_whatever_a_name_holds(cells: Any, sandbox: Sandbox) -> None:
    names = ["plain", 'a "quoted", name', "two\nlines", "Häufigkeit; 漢字"]
    for number, name in enumerate(names):
        spend(name, 100 + number)
    sandbox.fault(Fault(drop_after=3))
    cells.run("%%kimi\nHello")  # cut
    rows = list(csv.DictReader(io.StringIO(cells.run("%kimi_usage --csv").stdout)))
    calls = json.loads(cells.run("%kimi_usage --json").stdout)
    assert rows == [{key: "" if value is None else str(value) for key, value in call.items()} for call in calls]
    assert [row["model"] for row in rows][:-1] == names
    assert (rows[-1]["estimated"], rows[0]["estimated"]) == ("True", "False")
    sums = list(csv.DictReader(io.StringIO(cells.run("%kimi_usage --csv --by model").stdout)))
    assert sum(int(one["calls"]) for one in sums) == len(calls)
    assert sum(Decimal(one["cost"]) for one in sums) == sum(Decimal(call["cost"]) for call in calls)


def test_a_frame_can_be_reckoned_with(cells: Any, sandbox: Sandbox) -> None:
    pandas = pytest.importorskip("pandas")
    spend("kimi-k2.6", 100)
    spend("kimi-k3", 200)
    assert cells.run("calls = %kimi_usage --df").error is None
    assert cells.run("sums = %kimi_usage --df --by model").error is None
    calls, sums = cells["calls"], cells["sums"]
    assert (calls.groupby("model")["cost"].sum().to_dict()) == sums.set_index("model")["cost"].to_dict()
    assert calls["completion_tokens"].tolist() == [100, 200]
    assert isinstance(calls["time"].dtype, pandas.DatetimeTZDtype)


def test_at_the_prices_of_today_no_byte_of_the_rows_changes(cells: Any, sandbox: Sandbox) -> None:
    spend("kimi-k2.6", 100)
    cells.run("%%kimi --max-tokens 30\nHello")

    def rows() -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(find_home() / "ledger.sqlite")) as database:
            tables = ("kimi_calls", "kimi_sums", "kimi_meta")
            return [row for table in tables for row in database.execute(f"SELECT rowid, * FROM {table} ORDER BY 1")]

    before, paid = rows(), cells.run("%kimi_usage --json").stdout
    cells.run("%kimi_config price.kimi-k2.6=100/200 USD")
    for form in ("", "--json", "--csv", "--df", "--plot", "--by model", "--json --by day", "--json --by cell"):
        ran = cells.run(f"%kimi_usage all --reprice {form}")
        assert ran.error is None, ran.shown_error
    assert cells.run("%kimi_usage --json --reprice").stdout != paid
    assert rows() == before
    assert cells.run("%kimi_usage --json").stdout == paid
