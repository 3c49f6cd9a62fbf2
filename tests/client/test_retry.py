"""When a call is tried again, and after how long."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kimi_magics import errors
from kimi_magics.client.retry import RetryPolicy, stated_wait
from kimi_magics.errors import CallError, ConnectionFailedError, OverloadedError, RateLimitError

POLICY = RetryPolicy()


def wait(error: CallError, attempt: int = 1, *, has_begun: bool = False, jitter: float = 1.0) -> float | None:
    return POLICY.wait_before_next(error, attempt, has_begun=has_begun, jitter=jitter)


def test_the_wait_doubles_up_to_a_bound_and_ends_after_eight_tries() -> None:
    waits = [wait(OverloadedError("busy"), attempt) for attempt in range(1, 9)]
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, None]


def test_without_a_connection_it_gives_up_sooner() -> None:
    waits = [wait(ConnectionFailedError("dead"), attempt) for attempt in range(1, 5)]
    assert waits == [0.5, 1.0, 2.0, None]


def test_jitter_spreads_the_wait_over_its_upper_half() -> None:
    assert (wait(OverloadedError("busy"), 3, jitter=0.0), wait(OverloadedError("busy"), 3, jitter=1.0)) == (1.0, 2.0)


@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("attempt", range(1, 8))
def test_a_stated_wait_is_kept_with_at_most_three_seconds_added(attempt: int, jitter: float) -> None:
    error = RateLimitError("slow", wait_seconds=7.0)
    assert 7.0 <= wait(error, attempt, jitter=jitter) <= 10.0


def test_nothing_is_tried_again_once_a_delta_has_arrived() -> None:
    assert wait(OverloadedError("busy"), has_begun=True) is None


def test_a_wait_of_an_hour_is_not_sat_through() -> None:
    assert wait(RateLimitError("slow", wait_seconds=3600.0)) is None


@pytest.mark.parametrize(
    ("name", "is_retried"),
    [
        ("ConnectionFailedError", True),
        ("ConnectTimeoutError", True),
        ("OverloadedError", True),
        ("RateLimitError", True),
        ("TooManyRequestsError", True),
        ("ServerFaultError", True),
        ("GatewayTimeoutError", True),
        ("TlsError", False),
        ("ProxyFailedError", False),
        ("ReadTimeoutError", False),
        ("ReplyBrokenError", False),
        ("InterruptedReplyError", False),
        ("BadRequestError", False),
        ("ContentFilterError", False),
        ("ContextExceededError", False),
        ("AuthenticationError", False),
        ("PermissionDeniedError", False),
        ("NotFoundError", False),
        ("ModelNotFoundError", False),
        ("RequestTooLargeError", False),
        ("DailyLimitError", False),
        ("QuotaError", False),
    ],
)
def test_only_what_may_pass_is_tried_again(name: str, is_retried: bool) -> None:
    assert (wait(getattr(errors, name)("x")) is not None) is is_retried


NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("message", "header", "seconds"),
    [
        ("max RPM: 3, please try again after 1 seconds", None, 1.0),
        ("please try again in 2.5s", None, 2.5),
        ("try again after 2 minutes", None, 120.0),
        ("overloaded", "4", 4.0),
        ("overloaded", "0.5", 0.5),
        ("try again after 1 seconds", "6", 6.0),
        ("try again after 9 seconds", "6", 9.0),
        ("overloaded", "Sun, 22 Nov 2026 12:00:05 GMT", 5.0),
        ("overloaded", "Sun, 22 Nov 2026 11:00:00 GMT", 0.0),
        ("overloaded", "soon", None),
        ("overloaded", None, None),
    ],
)
def test_the_stated_wait_is_read_from_text_and_header(message: str, header: str | None, seconds: float | None) -> None:
    headers = {} if header is None else {"retry-after": header}
    assert stated_wait(message, headers, now=NOW) == seconds
