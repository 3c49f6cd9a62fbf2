from __future__ import annotations

import pytest

from kimi_magics.sandbox import SandboxOptions
from kimi_magics.sandbox.state import State

PATHS = [
    ("POST", "/chat/completions"),
    ("POST", "/tokenizers/estimate-token-count"),
    ("GET", "/models"),
    ("GET", "/models/kimi-k2.6"),
    ("GET", "/users/me/balance"),
    ("GET", "/files"),
]


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_no_key_is_refused(caller, method, path):
    response = caller.bare.request(method, path)
    assert caller.error(response) == (401, "invalid_authentication_error", "Invalid Authentication")


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_a_wrong_key_is_refused(caller, method, path):
    response = caller.http.request(method, path, headers={"Authorization": "Bearer sk-other"})
    assert caller.error(response) == (401, "incorrect_api_key_error", "Incorrect API key provided")


@pytest.mark.parametrize("value", ["Bearer", "sandbox", "Basic sandbox"])
def test_a_header_without_a_bearer_counts_as_no_key(caller, value):
    response = caller.http.get("/models", headers={"Authorization": value})
    assert caller.error(response)[1] == "invalid_authentication_error"


def test_the_key_can_be_chosen(serve):
    assert serve(SandboxOptions(key="sk-1"), key="sk-1").http.get("/models").status_code == 200


def test_the_models_are_the_live_ones(caller):
    rows = caller.http.get("/models").json()["data"]
    assert [(row["id"], row["context_length"]) for row in rows] == [
        ("kimi-k2.6", 262_144),
        ("kimi-k2.7-code", 262_144),
        ("kimi-k2.7-code-highspeed", 262_144),
        ("kimi-k3", 1_048_576),
        ("kimi-k3.1-pro", 1_048_576),
        ("kimi-k3.1-pro-highspeed", 1_048_576),
    ]


def test_a_models_row_states_its_abilities(caller):
    assert caller.http.get("/models/kimi-k2.6").json() == {
        "id": "kimi-k2.6",
        "object": "model",
        "owned_by": "moonshot",
        "created": 1_776_643_200,
        "context_length": 262_144,
        "supports_image_in": True,
        "supports_video_in": True,
        "supports_reasoning": True,
    }


def test_a_retired_model_has_no_row(caller):
    assert caller.error(caller.http.get("/models/kimi-k2.5"))[:2] == (404, "resource_not_found_error")


def test_a_revived_model_is_listed(serve):
    rows = serve(SandboxOptions(revived=("kimi-k2.5",))).http.get("/models").json()["data"]
    assert rows[-1]["id"] == "kimi-k2.5"


def test_the_balance(caller):
    data = caller.http.get("/users/me/balance").json()["data"]
    assert data == {"available_balance": 49.58894, "voucher_balance": 46.58893, "cash_balance": 3.00001}


@pytest.mark.parametrize("path", ["/nowhere", "/chat", "/chat/completions/x"])
def test_an_unknown_path_is_not_found(caller, path):
    assert caller.error(caller.http.get(path)) == (
        404,
        "resource_not_found_error",
        "The requested resource was not found",
    )


def test_a_wrong_method_is_refused_in_json(caller):
    assert caller.error(caller.http.get("/chat/completions")) == (405, "invalid_request_error", "Method Not Allowed")


@pytest.mark.parametrize("path", ["/models", "/nowhere", "/chat/completions"])
def test_each_response_has_an_id_of_its_own(caller, path):
    ids = {caller.http.get(path).headers["x-request-id"] for _ in range(2)}
    assert len(ids) == 2


def test_requests_are_recorded_oldest_first(caller):
    caller.http.get("/models")
    caller.ask("Hello")
    assert [(request.method, request.path) for request in caller.requests] == [
        ("GET", "/v1/models"),
        ("POST", "/v1/chat/completions"),
    ]
    assert caller.requests[0].body is None
    assert caller.requests[1].body == caller.body("Hello")


def test_a_recorded_request_holds_its_headers_but_no_key(caller):
    caller.http.get("/models", headers={"X-Colour": "blue"})
    headers = caller.requests[0].headers
    assert (headers["x-colour"], headers["authorization"]) == ("blue", "Bearer …")


def test_refused_requests_are_recorded_too(caller):
    caller.bare.get("/models")
    caller.http.get("/nowhere")
    assert [request.path for request in caller.requests] == ["/v1/models", "/v1/nowhere"]
    assert "authorization" not in caller.requests[0].headers


def test_the_oldest_requests_make_room():
    state = State(SandboxOptions())
    for number in range(10_001):
        state.record(number, 0)  # type: ignore[arg-type]
    assert (len(state.requests), state.requests[0]) == (10_000, 1)


def test_the_largest_requests_make_room():
    state = State(SandboxOptions())
    for number in range(4):
        state.record(number, 100 * 1024 * 1024)  # type: ignore[arg-type]
    assert state.requests == [2, 3]


def control(caller, method, what, **content):
    return caller.bare.request(method, f"http://127.0.0.1:{caller.sandbox.port}/_sandbox/{what}", **content)


def test_the_control_end_points_tell_what_was_seen(caller):
    caller.ask("Hello")
    assert control(caller, "GET", "requests").json()[0]["body"] == caller.body("Hello")
    assert control(caller, "GET", "state").json()["requests"] == 1
    assert "overloaded" in control(caller, "GET", "faults").json()["presets"]


def test_the_control_end_points_are_not_recorded(caller):
    control(caller, "GET", "state")
    assert caller.requests == []


def test_faults_can_be_queued_by_http(caller):
    rows = ["overloaded", {"name": "quota", "times": 2}, {"status": 418, "type": "teapot"}]
    assert control(caller, "POST", "faults", json=rows).json()["faults"] == 3
    assert [caller.post().status_code for _ in range(5)] == [429, 429, 429, 418, 200]


@pytest.mark.parametrize("row", ["nothing", {"colour": 1}, 7, {"name": "nothing"}])
def test_an_unknown_fault_is_refused(caller, row):
    assert control(caller, "POST", "faults", json=row).status_code == 400
    assert caller.post().status_code == 200


def test_clear_forgets_by_http(caller):
    caller.fault("auth")
    caller.http.get("/models")
    control(caller, "POST", "clear")
    assert caller.requests == []
    assert caller.post().status_code == 200


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_control_end_point_is_not_found(caller, method):
    assert control(caller, method, "nowhere").status_code == 404
