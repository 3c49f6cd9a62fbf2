from __future__ import annotations

import json
import threading
import time

import httpx
import pytest

from kimi_magics.sandbox import PRESETS, Fault, SandboxOptions
from kimi_magics.sandbox.faults import build_preset

STATUSES = {
    "overloaded": (429, "engine_overloaded_error"),
    "rate_limit": (429, "rate_limit_reached_error"),
    "tpd": (429, "rate_limit_reached_error"),
    "quota": (429, "exceeded_current_quota_error"),
    "content_filter": (400, "content_filter"),
    "server_error": (500, "server_error"),
    "unavailable": (503, "server_unavailable"),
    "auth": (401, "invalid_authentication_error"),
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", STATUSES)
def test_a_preset_answers_with_the_apis_error(caller, name, stream):
    caller.fault(name)
    assert caller.error(caller.post(stream=stream))[:2] == STATUSES[name]


def test_every_preset_is_tested():
    assert set(PRESETS) - set(STATUSES) == {"html_504", "drop", "no_done", "slow"}


@pytest.mark.parametrize("name", ["rate_limit", "tpd", "quota"])
def test_the_limits_carry_ids_as_the_api_does(name):
    for piece in ("org-", "proj-", "<ak-"):
        assert piece in PRESETS[name].message


def test_the_rate_limit_states_its_wait():
    assert PRESETS["rate_limit"].message.endswith("please try again after 1 seconds")


def test_a_504_is_a_page_of_html(caller):
    caller.fault("html_504")
    response = caller.post()
    assert (response.status_code, response.headers["content-type"]) == (504, "text/html")
    assert "<h1>504 Gateway Time-out</h1>" in response.text


def test_an_unknown_preset_names_those_there_are():
    with pytest.raises(ValueError, match="unknown fault 'rain'; there are overloaded, rate_limit"):
        build_preset("rain")


def test_a_fault_befalls_one_request(caller):
    caller.fault("overloaded")
    assert [caller.post().status_code for _ in range(2)] == [429, 200]


def test_faults_befall_in_order_and_as_often_as_told(caller):
    caller.fault(Fault(500, times=2))
    caller.fault(Fault(503))
    assert [caller.post().status_code for _ in range(4)] == [500, 500, 503, 200]


def test_a_fault_can_last(caller):
    caller.fault(Fault(500, times=None))
    assert {caller.post().status_code for _ in range(5)} == {500}


def test_a_fault_befalls_only_its_end_point(caller):
    caller.fault(Fault(500, path="models"))
    assert caller.post().status_code == 200
    assert caller.http.get("/models/kimi-k3").status_code == 500


def test_a_fault_can_befall_every_end_point(caller):
    caller.fault(Fault(500, path="*"))
    assert caller.http.get("/users/me/balance").status_code == 500


def test_a_fault_can_carry_headers(caller):
    caller.fault(Fault(429, "engine_overloaded_error", headers={"Retry-After": "7"}))
    assert caller.post().headers["retry-after"] == "7"


def test_a_delay_comes_before_the_first_byte(caller):
    caller.fault(Fault(delay_seconds=0.2))
    assert caller.post(stream=True).elapsed.total_seconds() > 0.2


def test_a_delay_between_chunks_slows_the_stream(caller):
    caller.fault(Fault(chunk_delay_seconds=0.03))
    began = time.monotonic()
    caller.post("in one word", stream=True, thinking={"type": "disabled"})
    assert time.monotonic() - began > 0.03


def read_until_it_breaks(caller, **parameters):
    """Return the content that came, and whether the connection broke."""
    content = ""
    body = caller.body(stream=True, **parameters)
    try:
        with caller.http.stream("POST", "/chat/completions", json=body) as response:
            for line in response.iter_lines():
                if line.startswith("data: {"):
                    choice = json.loads(line.removeprefix("data: "))["choices"][0]
                    content += choice["delta"].get("content", "")
    except httpx.RemoteProtocolError:
        return content, True
    return content, False


@pytest.mark.parametrize("chunks", [0, 1, 4])
def test_a_connection_drops_after_so_many_chunks_of_content(caller, chunks):
    pieces = [event["choices"][0]["delta"].get("content", "") for event in caller.events()]
    caller.fault(Fault(drop_after=chunks))
    expected = "".join([piece for piece in pieces if piece][:chunks])
    assert read_until_it_breaks(caller) == (expected, True)


def test_a_short_answer_drops_before_its_end(caller):
    caller.fault(Fault(drop_after=1_000))
    assert read_until_it_breaks(caller) == (caller.text(), True)


def test_a_drop_is_not_the_clients_disconnect(caller):
    caller.fault("drop")
    read_until_it_breaks(caller)
    assert caller.post().status_code == 200
    assert caller.sandbox.disconnects == 0


def test_an_answer_in_one_piece_drops_within(caller):
    caller.fault("drop")
    with pytest.raises(httpx.RemoteProtocolError):
        caller.post()


def test_a_stream_can_end_without_done(caller):
    caller.fault("no_done")
    text = caller.post(stream=True).text
    assert '"finish_reason":"stop"' in text
    assert "[DONE]" not in text


def test_a_stream_can_hold_what_is_not_json(caller):
    caller.fault(Fault(malformed_after=2))
    lines = caller.post(stream=True).text.splitlines()
    assert 'data: {"id":"cmpl-broken","choices":[{"ind' in lines
    assert lines[-2] == "data: [DONE]"


def test_a_stream_can_end_in_an_error(caller):
    caller.fault(Fault(error_after=3, type="engine_overloaded_error", message="Too much"))
    *_, last = [line for line in caller.post(stream=True).text.splitlines() if line]
    assert last == 'data: {"error":{"message":"Too much","type":"engine_overloaded_error"}}'


def test_a_stream_can_hold_comments(caller):
    caller.fault(Fault(keep_alive=True))
    text = caller.post(stream=True).text
    assert text.startswith(": keep-alive\n\n")
    assert text.count(": keep-alive") > 10


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_can_stall(caller, stream):
    caller.fault(Fault(stall_after=2))
    body = caller.body(stream=stream)
    with pytest.raises(httpx.ReadTimeout):
        caller.http.post("/chat/completions", json=body, timeout=0.2)


@pytest.mark.parametrize("last", [3, 1_000])
def test_several_disturbances_come_in_turn(caller, last):
    caller.fault(Fault(malformed_after=1, error_after=last))
    text = caller.post(stream=True).text
    assert text.index("cmpl-broken") < text.index('"error"')


def test_too_many_requests_a_minute_are_refused(serve):
    caller = serve(SandboxOptions(rpm=2))
    responses = [caller.post() for _ in range(3)]
    assert [response.status_code for response in responses] == [200, 200, 429]
    _, kind, message = caller.error(responses[-1])
    assert kind == "rate_limit_reached_error"
    assert "request reached organization max RPM: 2, please try again after" in message


def test_the_minute_ends(serve):
    caller = serve(SandboxOptions(rpm=1, rpm_window_seconds=0.1))
    assert [caller.post().status_code for _ in range(2)] == [200, 429]
    time.sleep(0.12)
    assert caller.post().status_code == 200


def test_refused_requests_do_not_count_as_requests_a_minute(serve):
    caller = serve(SandboxOptions(rpm=1))
    assert [caller.post(n=2).status_code, caller.post().status_code] == [400, 200]


def test_too_many_requests_at_once_are_refused(serve):
    caller = serve(SandboxOptions(concurrency=1, tokens_per_second=300))
    with caller.http.stream("POST", "/chat/completions", json=caller.body(stream=True)) as first:
        lines = first.iter_lines()
        next(lines)
        _, kind, message = caller.error(caller.post())
    assert kind == "rate_limit_reached_error"
    assert message.endswith("request reached organization max concurrency: 1, please try again after 1 seconds")


def test_a_request_that_ended_makes_room(serve):
    caller = serve(SandboxOptions(concurrency=1))
    caller.fault("drop")
    read_until_it_breaks(caller)
    assert [caller.post().status_code for _ in range(3)] == [200] * 3


def test_faults_can_be_queued_from_many_threads(caller):
    threads = [threading.Thread(target=caller.fault, args=("overloaded",)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [caller.post().status_code for _ in range(21)] == [429] * 20 + [200]
