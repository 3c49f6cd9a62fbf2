"""SQLAlchemy comes once, whoever asks for it first, and asks while another does."""

from __future__ import annotations

import subprocess
import sys

import pytest

# In a process of its own, as the package is to be imported there for the first time.
_BEGIN = """
import sys, threading, time
from kimi_magics.store import database
from kimi_magics.store.ledger import Ledger
from kimi_magics.store.replays import Replays
troubles, importers = [], set()
class Finder:
    # What is imported of the package, and by which thread.
    def find_spec(name, *_):
        if name.startswith("sqlalchemy"):
            importers.add(threading.current_thread().name)
sys.meta_path.insert(0, Finder)
def ask(job):
    try:
        job()
    except BaseException as error:
        troubles.append(repr(error))
"""
_USED = "(lambda: Ledger().read(lambda connection: None))"


def run(source: str) -> str:
    done = subprocess.run([sys.executable, "-c", _BEGIN + source], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("delay", [0.0, 0.03, 0.1, 0.2, 0.35])
def test_threads_that_need_it_at_the_same_time_all_get_it(delay: float) -> None:
    told = run(f"""
database.load_soon()
threads = [threading.Thread(target=ask, args=({_USED},)) for _ in range(3)]
for thread in threads:
    time.sleep({delay})
    thread.start()
ask({_USED})
for thread in threads:
    thread.join()
print(troubles, len(importers))
""")
    assert told == "[] 1"


def test_where_the_main_thread_may_do_it_the_others_wait_for_it() -> None:
    told = run(f"""
jobs = []
database.load_soon(jobs.append)
thread = threading.Thread(target=ask, args=({_USED},))
thread.start()
time.sleep(0.5)
print('sqlalchemy' in sys.modules, thread.is_alive())
jobs.pop()()
thread.join(60)
print(troubles, jobs, importers)
""")
    assert told.splitlines() == ["False True", "[] [] {'MainThread'}"]


def test_a_main_thread_that_has_no_time_is_not_waited_for_for_ever() -> None:
    told = run(f"""
database.load_soon(lambda job: None)
thread = threading.Thread(target=ask, args=({_USED},))
thread.start()
thread.join(60)
print(thread.is_alive(), troubles)
""")
    assert told == "False []"


def test_it_is_asked_for_once() -> None:
    told = run("""
jobs = []
database.load()
database.load_soon(jobs.append)
print(jobs, 'sqlalchemy' in sys.modules)
""")
    assert told == "[] True"
