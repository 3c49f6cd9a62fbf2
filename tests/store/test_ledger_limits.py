"""What the machine may do to a ledger: a full disk, a file nobody may write, an older file, a clock that jumps."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import Connection
from sqlalchemy.engine import URL

from kimi_magics.core.budget import Demand, read_budgets
from kimi_magics.core.usage import Price, Usage
from kimi_magics.store import ledger_tables
from kimi_magics.store.ledger import Ledger, now
from kimi_magics.store.ledger_reports import read_calls, read_sums
from kimi_magics.store.ledger_values import Entry, Outcome, Reservation

PRICE = Price(Decimal("0.95"), Decimal(4))
ENTRY = Entry("session-1", "api.moonshot.ai", "kimi-k2.6")
COST = PRICE.cost_of(Usage(1000, 100))


def reserve(ledger: Ledger, entry: Entry = ENTRY) -> Reservation:
    granted = ledger.reserve(entry, Demand("kimi-k2.6", 1000, 2000, price=PRICE), ())
    assert isinstance(granted, Reservation)
    return granted


def settle(ledger: Ledger, reservation: Reservation) -> None:
    ledger.settle(reservation, Outcome(Usage(1000, 100), COST, "USD", price=PRICE))


# ---------------------------------------------------------------- a disk that is full

#: As long as a file may get is as much as a disk has left.
FULL = """
import resource, signal, sys
from decimal import Decimal
from pathlib import Path
sys.path.insert(0, {folder!r})
from test_ledger_limits import ENTRY, Ledger, read_calls, reserve, settle
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
ledger = Ledger(home=Path({home!r}), tell=lambda text: print("told", text), user="ada")
settle(ledger, reserve(ledger))
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
for _ in range(400):
    settle(ledger, reserve(ledger))
print("counted", sum(call.state == "settled" for call in read_calls(ledger)) > 0)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no limit of a file's size on Windows")
def test_a_disk_that_gets_full_is_told_once_and_stops_no_call(tmp_path: Path) -> None:
    script = FULL.format(folder=str(Path(__file__).parent), home=str(tmp_path))
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    told = [line for line in ran.stdout.splitlines() if line.startswith("told")]
    assert len(told) == 1
    assert "free the disk" in told[0]
    assert "counted True" in ran.stdout
    # What was written before is whole, and goes on once there is room.
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    after = Ledger(home=tmp_path, user="ada")
    written = len(read_calls(after))
    assert written > 1
    (total,) = read_sums(after, ())
    assert total.cost == sum(call.cost or 0 for call in read_calls(after))
    settle(after, reserve(after))
    assert len(read_calls(after)) == written + 1
    after.close()


# ---------------------------------------------------------------- what cannot be written


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: path.symlink_to("/dev/full")])
def test_what_stands_in_the_files_place_is_told_once_and_left_alone(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    make(tmp_path / "ledger.sqlite")
    told: list[str] = []
    ledger = Ledger(home=tmp_path, tell=told.append, user="ada")
    for _ in range(3):
        settle(ledger, reserve(ledger))
    assert [call.state for call in read_calls(ledger)] == ["settled"] * 3
    assert len(told) == 1
    assert str(tmp_path / "ledger.sqlite") in told[0]
    assert (tmp_path / "ledger.sqlite").is_dir() or (tmp_path / "ledger.sqlite").is_symlink()
    ledger.close()


#: Root may write everywhere: once all is imported, the process becomes nobody.
READ_ONLY = """
import os, sys
from pathlib import Path
sys.path.insert(0, {folder!r})
from test_ledger_limits import COST, ENTRY, Ledger, read_budgets, read_calls, reserve, settle
home = Path({home!r})
first = Ledger(home=home, user="ada")
settle(first, reserve(first))
read_calls(first)
first.close()
(home / "ledger.sqlite").chmod(0o444)
home.chmod(0o555)
if os.getuid() == 0:
    os.setuid(65534)
ledger = Ledger(home=home, tell=lambda text: print("told", text), user="ada")
for _ in range(2):
    settle(ledger, reserve(ledger))
(standing,) = ledger.standings(read_budgets("1 USD per day"), ENTRY)
print("spent", standing.spent == 2 * COST)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other rights")
def test_a_file_that_only_reads_is_told_once_and_budgets_go_on() -> None:
    with tempfile.TemporaryDirectory() as home:  # pytest's own folders are closed to others
        script = READ_ONLY.format(folder=str(Path(__file__).parent), home=home)
        ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
        assert ran.returncode == 0, ran.stderr
        lines = ran.stdout.splitlines()
        assert len([line for line in lines if line.startswith("told")]) == 1
        assert lines[-1] == "spent True"
        Path(home).chmod(0o700)
        after = Ledger(home=Path(home), user="ada")
        Path(home, "ledger.sqlite").chmod(0o600)
        assert len(read_calls(after)) == 1
        after.close()


# ---------------------------------------------------------------- versions


def test_a_later_file_is_not_touched(tmp_path: Path) -> None:
    ledger = Ledger(home=tmp_path, user="ada")
    settle(ledger, reserve(ledger))
    ledger.close()
    path = tmp_path / "ledger.sqlite"
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE kimi_meta SET value = '999'")
        database.commit()
    before = path.read_bytes()
    told: list[str] = []
    later = Ledger(home=tmp_path, tell=told.append, user="ada")
    settle(later, reserve(later))
    later.close()
    assert len(told) == 1
    assert "later version" in told[0]
    assert path.read_bytes() == before


@pytest.fixture
def first_version(tmp_path: Path) -> Path:
    """A folder with a ledger of the first version: two calls of the same day."""
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as database:
        database.executescript(Path(__file__).with_name("ledger_1.sql").read_text("utf-8"))
    return tmp_path


def test_an_older_file_is_brought_up_to_date_with_its_rows(first_version: Path) -> None:
    told: list[str] = []
    ledger = Ledger(home=first_version, tell=told.append, user="ada")
    assert [(call.cell, call.cost, call.usage.completion_tokens) for call in read_calls(ledger)] == [
        ("c0", Decimal("0.00175"), 200),
        ("c1", Decimal("0.001754"), 201),
    ]
    settle(ledger, reserve(ledger))
    assert sum(one.calls for one in read_sums(ledger, ())) == 3
    ledger.close()
    assert told == []
    with closing(sqlite3.connect(first_version / "ledger.sqlite")) as database:
        ((version,),) = database.execute("SELECT value FROM kimi_meta WHERE name = 'version'")
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert version == str(ledger_tables.VERSION)
    assert tables >= set(ledger_tables.metadata.tables)


def test_an_older_file_gets_all_that_a_new_one_has(
    first_version: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    fresh = tmp_path_factory.mktemp("fresh")
    found = []
    for home in (first_version, fresh):
        ledger = Ledger(home=home, user="ada")
        settle(ledger, reserve(ledger))
        ledger.close()
        with closing(sqlite3.connect(home / "ledger.sqlite")) as database:
            rows = database.execute("SELECT type, name, sql FROM sqlite_master WHERE name LIKE 'kimi%' ORDER BY name")
            found.append([(kind, name, " ".join(str(sql).split())) for kind, name, sql in rows])
    assert found[0] == found[1]


def test_a_migration_that_fails_leaves_the_file_as_it_was(first_version: Path) -> None:
    def fail(connection: Connection) -> None:
        connection.exec_driver_sql("ALTER TABLE kimi_calls ADD COLUMN half VARCHAR")
        raise OSError("no space left on device")

    path = first_version / "ledger.sqlite"
    engine = ledger_tables.open_engine(URL.create("sqlite", database=str(path)))
    with pytest.raises(OSError, match="no space"):
        ledger_tables.prepare(engine, {**ledger_tables.MIGRATIONS, ledger_tables.VERSION: fail})
    engine.dispose()
    with closing(sqlite3.connect(path)) as database:
        assert "half" not in {row[1] for row in database.execute("PRAGMA table_info(kimi_calls)")}
        assert database.execute("SELECT value FROM kimi_meta WHERE name = 'version'").fetchall() == [("1",)]
    ledger = Ledger(home=first_version, user="ada")
    assert len(read_calls(ledger)) == 2
    ledger.close()


# ---------------------------------------------------------------- days


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="Windows takes its zone from elsewhere")
@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25)])
def test_a_day_is_as_long_as_the_machine_says_when_its_clock_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, day: str, hours: int
) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        midnight = datetime.fromisoformat(day).astimezone()  # of the machine's zone
        clock = [midnight.astimezone(UTC)]
        ledger = Ledger(home=tmp_path, clock=lambda: clock[0].astimezone(), user="ada")
        budget = read_budgets("1 USD per day")
        for _ in range(hours):
            settle(ledger, reserve(ledger))
            clock[0] += timedelta(hours=1)
        clock[0] -= timedelta(seconds=1)
        assert ledger.standings(budget, ENTRY)[0].spent == hours * COST
        clock[0] += timedelta(seconds=1)
        assert ledger.standings(budget, ENTRY)[0].spent == 0
        settle(ledger, reserve(ledger))
        (of_day, of_next) = read_sums(ledger, ("day",))
        assert (of_day.key, of_day.calls, of_day.cost) == ((day,), hours, hours * COST)
        assert of_next.calls == 1
        # The order is that of the calls, through the hour that comes twice.
        times = [call.time for call in read_calls(ledger)]
        assert times == sorted(times)
        assert now().utcoffset() is not None
        ledger.close()
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_clock_that_jumps_back_takes_no_call_that_is_under_way_for_dead(tmp_path: Path) -> None:
    moment = [datetime(2026, 11, 23, 12, tzinfo=UTC)]
    ledger = Ledger(home=tmp_path, clock=lambda: moment[0], user="ada")
    reservation = reserve(ledger)
    for hours in (-30, 5, -1):
        moment[0] += timedelta(hours=hours)
        assert [call.state for call in read_calls(ledger)] == ["reserved"]
    settle(ledger, reservation)
    assert [call.state for call in read_calls(ledger)] == ["settled"]
    assert read_sums(ledger, ())[0].cost == COST
    ledger.close()
