"""A replay is there before any host could answer; measured side by side, never against the clock."""

from __future__ import annotations

from pathlib import Path

import replay as bench

from kimi_magics.notebook.replaying import NO_RECALL, Recall
from kimi_magics.store.replays import Replays


def test_a_replay_is_there_before_the_quickest_host() -> None:
    with bench.open_session() as session:
        prompt = bench.build(session)
        bench.measure_first_piece(session, prompt, bench.KEPT, 2)
        replayed = min(bench.measure_first_piece(session, prompt, bench.KEPT, 9) for _ in range(3))
        sent = min(bench.measure_first_piece(session, prompt, NO_RECALL, 9) for _ in range(3))
    assert replayed < sent


def test_to_look_in_vain_and_to_keep_costs_a_call_next_to_nothing() -> None:
    with bench.open_session() as session:
        prompt = bench.build(session)
        always_sent = Recall(replays=False, keeps=False)
        bench.measure_first_piece(session, prompt, always_sent, 2)
        sent = min(bench.measure_first_piece(session, prompt, always_sent, 9) for _ in range(3))
        session.replays.find("x")
        bench.fill(session.replays, 200)
        looked = min(bench.measure(lambda: session.find_kept(prompt, bench.KEPT), 30) for _ in range(3))
    assert looked < sent / 3


def test_to_look_takes_as_long_among_many_as_among_few(tmp_path: Path) -> None:
    replays = Replays(limit_bytes=lambda: 100_000_000, home=tmp_path)
    bench.fill(replays, 1)
    among_few = min(bench.measure(lambda: replays.find("x"), 100) for _ in range(3))
    bench.fill(replays, 1_500)
    among_many = min(bench.measure(lambda: replays.find("x"), 100) for _ in range(3))
    replays.close()
    assert among_many < 2 * among_few
