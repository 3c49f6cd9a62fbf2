"""The limits of an account: read from what is typed and from what a host says, and held by whoever waits."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kimi_magics.core.rates import (
    MINUTE,
    NO_LIMITS,
    RateLimits,
    Traffic,
    find_hold,
    find_limit,
    name_limit,
    read_limits,
)
from kimi_magics.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("3 rpm", RateLimits(rpm=3)),
        ("3 RPM, 1 concurrent, 500k tpm, 1.5M tpd", RateLimits(1, 3, 500_000, 1_500_000)),
        ("1 concurrency,2_000_000 tpm", RateLimits(concurrency=1, tpm=2_000_000)),
        ("50 at a time", RateLimits(concurrency=50)),
    ],
)
def test_limits_are_read_as_they_are_typed(text: str, limits: RateLimits) -> None:
    assert read_limits(text) == limits
    assert read_limits(limits.typed()) == limits


@pytest.mark.parametrize(
    "text", ["", "3", "rpm", "0 rpm", "-1 rpm", "1.5 rpm", "3 rpm, 4 rpm", "3 rps", "1.2.3 tpm", "nan tpm", "3 rpm,"]
)
def test_what_is_no_limit_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_limits(text)
    assert "500k tpm" in caught.value.remedy


@pytest.mark.parametrize(
    ("said", "limit"),
    [
        # kimi_api.md section 5
        ("request reached organization max RPM: 3, please try again after 1 seconds", ("rpm", 3)),
        ("request reached organization max concurrency: 1, please try again after 1 seconds", ("concurrency", 1)),
        ("request reached organization TPD rate limit, current: 1500321, limit: 1500000", ("tpd", 1_500_000)),
        ("request reached project TPM rate limit, current: 600000, limit: 500000", ("tpm", 500_000)),
        # other hosts that speak the API
        ("Rate limit reached for m on tokens per min (TPM): Limit 30000, Used 29000, Requested 2000", ("tpm", 30_000)),
        ("the engine is currently overloaded, please try again later", None),
        ("request reached organization max RPM: 0, please try again after 1 seconds", None),
        ("", None),
    ],
)
def test_a_limit_is_found_in_what_the_host_says(said: str, limit: tuple[str, int] | None) -> None:
    assert find_limit(said) == limit


def test_what_is_stated_goes_before_what_was_learnt() -> None:
    assert RateLimits(rpm=3).over(RateLimits(rpm=500, tpm=7)) == RateLimits(rpm=3, tpm=7)
    assert not NO_LIMITS
    assert RateLimits(tpd=1)


def test_limits_have_names() -> None:
    assert name_limit("rpm", 3) == "3 requests a minute"
    assert name_limit("concurrency", 1) == "1 request at a time"
    assert name_limit("tpd", 1_500_000) == "1,500,000 tokens a day"


# ---------------------------------------------------------------- who may go


def test_without_limits_everything_goes() -> None:
    busy = Traffic(in_flight=99, sent=[(0.1, 10**9)] * 99, day_tokens=10**12)
    assert find_hold(NO_LIMITS, busy, 10**9) is None


def test_a_request_waits_until_the_oldest_one_is_a_minute_old() -> None:
    traffic = Traffic(sent=[(50.0, 1), (20.0, 1), (1.0, 1)])
    assert find_hold(RateLimits(rpm=4), traffic, 1) is None
    hold = find_hold(RateLimits(rpm=3), traffic, 1)
    assert hold is not None
    assert hold.seconds == pytest.approx(10, abs=0.5)
    assert hold.reason == "3 requests a minute"
    assert hold.look_again == 1.0


@pytest.mark.parametrize(("ahead", "seconds"), [(0, 10), (1, 40), (2, 59), (3, 70), (5, 119), (6, 130)])
def test_those_ahead_take_the_first_places(ahead: int, seconds: float) -> None:
    traffic = Traffic(sent=[(50.0, 1), (20.0, 1), (1.0, 1)], ahead=ahead)
    hold = find_hold(RateLimits(rpm=3), traffic, 1)
    assert hold is not None
    assert hold.seconds == pytest.approx(seconds, abs=0.5)
    assert hold.reason.endswith(f", {ahead} ahead") or not ahead


def test_nobody_passes_those_who_came_before() -> None:
    hold = find_hold(RateLimits(rpm=9), Traffic(ahead=1), 1)
    assert hold is not None
    assert hold.seconds is None


def test_tokens_wait_until_enough_are_a_minute_old() -> None:
    traffic = Traffic(sent=[(50.0, 300), (20.0, 100), (1.0, 100)])
    assert find_hold(RateLimits(tpm=600), traffic, 100) is None
    for tokens, seconds in ((101, 10), (400, 10), (401, 40), (501, 59)):
        hold = find_hold(RateLimits(tpm=600), traffic, tokens)
        assert hold is not None
        assert hold.seconds == pytest.approx(seconds, abs=0.5)


def test_a_request_above_the_limit_of_tokens_goes_alone() -> None:
    assert find_hold(RateLimits(tpm=600), Traffic(), 1000) is None
    hold = find_hold(RateLimits(tpm=600), Traffic(sent=[(30.0, 1)]), 1000)
    assert hold is not None
    assert hold.seconds == pytest.approx(30, abs=0.5)


def test_a_request_waits_for_one_under_way_to_end() -> None:
    assert find_hold(RateLimits(concurrency=2), Traffic(in_flight=1), 1) is None
    hold = find_hold(RateLimits(concurrency=2), Traffic(in_flight=2), 1)
    assert hold is not None
    assert (hold.reason, hold.seconds) == ("2 requests at a time", None)


def test_all_wait_where_the_host_asks_for_it() -> None:
    hold = find_hold(NO_LIMITS, Traffic(pause_seconds=7.5), 1)
    assert hold is not None
    assert hold.seconds == 7.5


def test_the_longest_wait_is_told() -> None:
    traffic = Traffic(in_flight=1, sent=[(50.0, 1)], pause_seconds=2.0)
    hold = find_hold(RateLimits(concurrency=1, rpm=1), traffic, 1)
    assert hold is not None
    assert hold.reason == "1 request a minute"


def test_the_tokens_of_a_day_are_not_waited_for() -> None:
    assert find_hold(RateLimits(tpd=1000), Traffic(day_tokens=900), 100) is None
    hold = find_hold(RateLimits(tpd=1000), Traffic(day_tokens=900), 101)
    assert hold is not None
    assert hold.is_for_today
    assert "900 of 1,000 tokens a day are used, and this request counts 101" in hold.reason


@settings(max_examples=200, deadline=None)
@given(
    rpm=st.integers(1, 4),
    tpm=st.integers(50, 400),
    asked=st.lists(st.tuples(st.floats(0, 200), st.integers(1, 100)), min_size=1, max_size=12),
)
def test_everyone_goes_in_turn_and_no_minute_holds_too_much(rpm: int, tpm: int, asked: list[tuple[float, int]]) -> None:
    """Play a row of requests: each looks again when it was told to, and the first of the row goes first."""
    limits = RateLimits(rpm=rpm, tpm=tpm)
    arrivals = sorted(asked)
    sent: list[tuple[float, int]] = []
    now = 0.0
    for arrival, tokens in arrivals:
        now = max(now, arrival)
        for _ in range(2000):
            window = [(now - at, one) for at, one in sent if now - at < MINUTE]
            hold = find_hold(limits, Traffic(sent=window), tokens)
            if hold is None:
                break
            assert hold.look_again > 0
            now += hold.look_again
        else:
            pytest.fail("starved")
        sent.append((now, tokens))
    assert all(one[0] <= other[0] for one, other in pairwise(sent))
    for at, _ in sent:
        window = [one for when, one in sent if at <= when < at + MINUTE]
        assert len(window) <= rpm
        assert sum(window) <= max(tpm, max(window))
