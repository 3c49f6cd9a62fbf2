from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

from kimi_magics.sandbox import PRESETS, Fault, Sandbox, SandboxOptions, command


def wait_until(is_true):
    end = time.monotonic() + 10
    while not is_true() and time.monotonic() < end:
        time.sleep(0.005)
    assert is_true()


def leave_early(caller, body):
    with caller.http.stream("POST", "/chat/completions", json=body) as response:
        next(response.iter_lines())


def test_a_client_that_goes_away_is_noticed_and_no_longer_served(serve):
    caller = serve(SandboxOptions(tokens_per_second=20))
    began = time.monotonic()
    leave_early(caller, caller.body(stream=True))
    wait_until(lambda: caller.sandbox.disconnects == 1)
    assert time.monotonic() - began < 3
    url = f"http://127.0.0.1:{caller.sandbox.port}/_sandbox/state"
    wait_until(lambda: caller.bare.get(url).json()["running"] == 0)


def test_a_client_that_goes_away_from_a_stalled_stream_is_noticed(caller):
    caller.fault(Fault(stall_after=0))
    leave_early(caller, caller.body(stream=True))
    wait_until(lambda: caller.sandbox.disconnects == 1)


def test_a_client_that_goes_away_before_the_first_byte_is_noticed(caller):
    caller.fault(Fault(delay_seconds=30))
    with pytest.raises(httpx.ReadTimeout):
        caller.http.post("/chat/completions", json=caller.body(stream=True), timeout=0.1)
    wait_until(lambda: caller.sandbox.disconnects == 1)


def test_a_client_that_goes_away_amid_a_replay_is_noticed(serve):
    caller = serve(SandboxOptions(replay=(b"data: " + b"x" * 192 + b"\n\n",) * 100_000))
    leave_early(caller, caller.body(stream=True))
    wait_until(lambda: caller.sandbox.disconnects == 1)


def test_a_client_that_stays_to_the_end_does_not_count(caller):
    caller.events()
    caller.ask()
    assert caller.sandbox.disconnects == 0


def test_clear_forgets_the_disconnects(caller):
    caller.fault(Fault(stall_after=0))
    leave_early(caller, caller.body(stream=True))
    wait_until(lambda: caller.sandbox.disconnects == 1)
    caller.sandbox.clear()
    assert caller.sandbox.disconnects == 0


def test_a_fast_replay_keeps_up_with_a_benchmark(serve):
    pieces = (b"data: " + b"x" * 192 + b"\n\n",) * 10_000
    caller = serve(SandboxOptions(replay=pieces))
    began = time.monotonic()
    with caller.http.stream("POST", "/chat/completions", json=caller.body(stream=True)) as response:
        size = sum(map(len, response.iter_raw()))
    assert size == 2_000_000
    assert time.monotonic() - began < 8


def test_many_clients_are_served_at_once(serve):
    caller = serve(SandboxOptions(tokens_per_second=400))
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(caller.events("in one word"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8


def test_a_stopped_sandbox_leaves_no_thread_and_no_port():
    before = set(threading.enumerate())
    with Sandbox() as sandbox:
        port = sandbox.port
        assert httpx.get(sandbox.base_url).status_code == 404
    assert set(threading.enumerate()) <= before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_a_sandbox_stops_within_two_seconds_amid_a_stream(serve):
    caller = serve(SandboxOptions(tokens_per_second=5))
    with caller.http.stream("POST", "/chat/completions", json=caller.body(stream=True)) as response:
        lines = response.iter_lines()
        next(lines)
        began = time.monotonic()
        caller.sandbox.stop()
        assert time.monotonic() - began < 2
        assert "data: [DONE]" not in list(lines)


def test_a_sandbox_stops_though_a_client_does_not_read(serve, caplog):
    caller = serve(SandboxOptions(replay=(bytes(1_000),) * 50_000))
    with caller.http.stream("POST", "/chat/completions", json=caller.body(stream=True)):
        began = time.monotonic()
        caller.sandbox.stop()
        assert time.monotonic() - began < 2
    assert caplog.messages == []


def test_a_sandbox_starts_and_stops_again_and_again():
    sandbox = Sandbox()
    for _ in range(3):
        sandbox.start()
        sandbox.start()
        assert httpx.get(sandbox.base_url + "/models").status_code == 401
        sandbox.stop()
        sandbox.stop()


def test_two_sandboxes_do_not_disturb_each_other():
    with Sandbox() as one, Sandbox() as two:
        httpx.get(one.base_url + "/models")
        assert (len(one.requests), len(two.requests)) == (1, 0)


def test_the_port_can_be_chosen_and_must_be_free():
    with Sandbox() as first, pytest.raises(OSError, match="in use"):
        Sandbox(port=first.port).start()


def test_only_the_loopback_address_is_served(caller):
    assert caller.sandbox.base_url == f"http://127.0.0.1:{caller.sandbox.port}/v1"


def test_before_the_start_there_is_no_port():
    with pytest.raises(RuntimeError, match="not been started"):
        _ = Sandbox().port


def test_importing_the_package_pulls_in_no_server():
    code = "import sys, kimi_magics.sandbox.command; print({'tornado', 'PIL', 'asyncio'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_package_has_no_other_names():
    import kimi_magics.sandbox

    with pytest.raises(AttributeError, match="has no attribute 'Server'"):
        _ = kimi_magics.sandbox.Server  # type: ignore[attr-defined]


def parse(*arguments):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(arguments)


def test_the_command_serves_a_free_port_at_a_demos_pace():
    arguments = parse()
    assert (arguments.port, arguments.key, arguments.tokens_per_second, arguments.fault) == (0, "sandbox", 120, [])


def test_the_command_takes_faults_with_their_times():
    assert parse("--fault", "drop", "quota:always", "--fault", "slow:3").fault == [
        PRESETS["drop"],
        Fault(**{**vars(PRESETS["quota"]), "times": None}),
        Fault(**{**vars(PRESETS["slow"]), "times": 3}),
    ]


@pytest.mark.parametrize("fault", ["rain", "drop:often"])
def test_the_command_refuses_an_unknown_fault(fault, capsys):
    with pytest.raises(SystemExit):
        parse("--fault", fault)
    assert fault in capsys.readouterr().err


def test_the_command_says_so_when_the_port_is_taken(capsys):
    with Sandbox() as sandbox:
        assert command.run(parse("--port", str(sandbox.port))) == 1
    assert "cannot serve on port" in capsys.readouterr().err


RUN = """
import argparse, sys
from kimi_magics.sandbox import command
parser = argparse.ArgumentParser()
command.add_arguments(parser)
sys.exit(command.run(parser.parse_args()))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_a_signal(number):
    arguments = [
        sys.executable,
        "-W",
        "error",
        "-c",
        RUN,
        "--key",
        "sk-demo",
        "--fault",
        "overloaded",
        "--usage",
        "extra",
    ]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        first, url, key = (process.stdout.readline().strip() for _ in range(3))
        base_url = url.removeprefix("export MOONSHOT_BASE_URL=")
        assert base_url in first
        assert key == "export MOONSHOT_API_KEY=sk-demo"
        headers = {"Authorization": "Bearer sk-demo"}
        body = {"model": "kimi-k2.6", "messages": [{"role": "user", "content": "Hello"}]}
        refused = httpx.post(base_url + "/chat/completions", headers=headers, content=json.dumps(body))
        assert refused.status_code == 429
        process.send_signal(number)
        out, err = process.communicate(timeout=5)
    assert (process.returncode, out, err) == (0, "", "")
