"""What was uploaded is known in other kernels; a broken file, a full disk and other processes harm nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kimi_magics.store.uploads import MAX_UPLOADS, Known, UploadsStore


def known(file_id: str = "f1", *, site: str = "api.moonshot.ai", digest: str = "d1") -> Known:
    return Known(site, file_id, digest, "video", 12_000_000, 1_700_000_000)


def test_another_kernel_knows_it(tmp_path: Path) -> None:
    UploadsStore(tmp_path).add(known())
    other = UploadsStore(tmp_path)
    assert other.all("api.moonshot.ai") == [known()]
    assert (other.find("api.moonshot.ai", "d1"), other.find("api.moonshot.ai", "d2")) == (["f1"], [])


def test_each_host_has_its_own(tmp_path: Path) -> None:
    store = UploadsStore(tmp_path)
    store.add(known("f1"))
    store.add(known("f2", site="api.moonshot.cn"))
    assert store.find("api.moonshot.cn", "d1") == ["f2"]
    store.remove("api.moonshot.cn", "f1")
    assert store.find("api.moonshot.ai", "d1") == ["f1"]


def test_the_newest_comes_first_and_a_removed_one_is_forgotten(tmp_path: Path) -> None:
    store = UploadsStore(tmp_path)
    for name in ("f1", "f2", "f3"):
        store.add(known(name))
    store.remove("api.moonshot.ai", "f2")
    store.remove("api.moonshot.ai", "never there")
    assert store.find("api.moonshot.ai", "d1") == UploadsStore(tmp_path).find("api.moonshot.ai", "d1") == ["f3", "f1"]


def test_only_hashes_ids_sizes_and_dates_are_kept(tmp_path: Path) -> None:
    store = UploadsStore(tmp_path)
    store.add(known())
    assert json.loads(store.path.read_text()) == {
        "version": 1,
        "uploads": [
            {
                "site": "api.moonshot.ai",
                "id": "f1",
                "digest": "d1",
                "purpose": "video",
                "size_bytes": 12_000_000,
                "uploaded": 1_700_000_000,
            }
        ],
    }


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"[" * 100_000,
        b"[]",
        b'{"version": 1}',
        b'{"version": 1, "uploads": {}}',
        b'{"version": 1, "uploads": [1, null, {}, {"id": "f"}]}',
        b'{"version": 2, "uploads": []}',
        json.dumps({"version": 1, "uploads": [dict.fromkeys(Known.__slots__, 5)]}).encode(),
        b" " * 5_000_000,
    ],
)
def test_a_broken_file_is_an_empty_one(tmp_path: Path, content: bytes) -> None:
    store = UploadsStore(tmp_path)
    store.path.write_bytes(content)
    assert store.all("api.moonshot.ai") == []
    store.add(known())
    assert UploadsStore(tmp_path).all("api.moonshot.ai") == [known()]


def test_one_broken_row_takes_no_other_with_it(tmp_path: Path) -> None:
    store = UploadsStore(tmp_path)
    store.add(known())
    content = json.loads(store.path.read_text())
    content["uploads"].append({"id": 7})
    store.path.write_text(json.dumps(content))
    assert store.all("api.moonshot.ai") == [known()]


def test_where_nothing_can_be_written_this_kernel_still_knows(tmp_path: Path) -> None:
    blocked = tmp_path / "a file where the folder should be"
    blocked.write_text("")
    store = UploadsStore(blocked)
    store.add(known())
    assert store.find("api.moonshot.ai", "d1") == ["f1"]
    store.remove("api.moonshot.ai", "f1")
    assert store.find("api.moonshot.ai", "d1") == []


def test_the_oldest_are_forgotten(tmp_path: Path) -> None:
    store = UploadsStore(tmp_path)
    rows = [known(f"f{number}") for number in range(MAX_UPLOADS)]
    store._unsaved.extend(rows)
    store.add(known("newest"))
    assert [row.id for row in store.all("api.moonshot.ai")] == ["newest", *(row.id for row in reversed(rows[1:]))]


ADD_MANY = """
import sys
from pathlib import Path
from kimi_magics.store.uploads import Known, UploadsStore
store = UploadsStore(Path(sys.argv[1]))
for number in range(40):
    store.add(Known("host", f"{sys.argv[2]}{number}", "d", "video", 1, 1))
"""


def test_processes_that_write_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    names = ("a", "b", "c")
    running = [subprocess.Popen([sys.executable, "-c", ADD_MANY, str(tmp_path), name]) for name in names]
    assert [process.wait(120) for process in running] == [0, 0, 0]
    found = {row.id for row in UploadsStore(tmp_path).all("host")}
    assert found == {f"{name}{number}" for name in names for number in range(40)}
