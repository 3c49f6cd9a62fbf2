"""The speed of the stream, as ratios within one run: machines are noisy, so CPU time and the best of several rounds."""

from __future__ import annotations

import pytest
import stream

ATTEMPTS = 6


def test_a_stream_becomes_a_reply_in_no_more_time_than_a_loop_by_hand_needs() -> None:
    ratios = []
    for _ in range(ATTEMPTS):
        hand, client, _ = stream.compare(5_000, rounds=5)
        ratios.append(client.cpu / hand.cpu)
        if ratios[-1] <= 1.0:
            return
    pytest.fail(f"CPU of the client over that of the loop: {ratios}")


def test_ten_times_the_chunks_take_at_most_eleven_times_as_long() -> None:
    ratios = []
    for _ in range(ATTEMPTS):
        _, short, _ = stream.compare(2_000, rounds=5)
        _, long, _ = stream.compare(20_000, rounds=3)
        ratios.append(long.cpu / short.cpu)
        if ratios[-1] <= 11:
            return
    pytest.fail(f"CPU of 20,000 chunks over that of 2,000: {ratios}")
