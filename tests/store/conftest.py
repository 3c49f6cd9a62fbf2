"""What the tests of the store share: ledgers in both databases that the product knows."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import postgresql
import pytest

from kimi_magics.store.ledger import Ledger

OpenLedger = Callable[..., Ledger]
_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The address of a PostgreSQL server that was started for the tests."""
    programs = postgresql.find_programs()
    if programs is None:
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL is not installed: apt-get install postgresql")
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with postgresql.serve(programs) as address:
        yield address


@pytest.fixture
def postgresql_url(postgresql_server: str) -> str:
    """The address of an empty database."""
    import psycopg

    name = f"ledger{next(_numbers)}"
    address = postgresql_server.replace("+psycopg", "")
    with closing(psycopg.connect(f"{address}postgres", autocommit=True)) as server:
        server.execute(f"CREATE DATABASE {name}".encode())
    return f"{postgresql_server}{name}"


@pytest.fixture(params=["sqlite", "postgresql"])
def open_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenLedger]:
    """What opens the ledger of this test, again and again, in either database."""
    url = request.getfixturevalue("postgresql_url") if request.param == "postgresql" else None
    opened: list[Ledger] = []

    def open_one(**options: Any) -> Ledger:
        opened.append(Ledger(url, **{"home": tmp_path, "user": "ada", **options}))
        return opened[-1]

    yield open_one
    for ledger in opened:
        ledger.close()
