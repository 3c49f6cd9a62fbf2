"""The command line: demo, sandbox, doctor."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from kimi_magics import __version__
from kimi_magics.cli import main
from kimi_magics.notebook.doctor import describe_kernel
from kimi_magics.sandbox import Sandbox

SECONDS = 120


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start `kimi-magics` as a process of its own; it is ended, if it still runs, with the test."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kimi_magics.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(20)
        process.stdout.close()


def read_until(process: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    """Read lines until one matches."""
    seen = []
    for line in process.stdout:
        seen.append(line)
        if found := re.search(pattern, line):
            return found
    raise AssertionError(f"no {pattern!r} in {seen}")


def is_gone(address: str) -> bool:
    """Tell whether nothing answers any more."""
    try:
        httpx.get(address, timeout=2, trust_env=False)
    except httpx.ConnectError:
        return True
    return False


def test_the_demo_runs_once_and_prints_prompt_answer_tokens_and_cost(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--once"]) == 0
    shown = capfd.readouterr().out
    assert "prompt   %%kimi -o answer" in shown
    assert "Sandbox answer" in shown
    assert re.search(r"tokens   \d+ in \(\d+ cached\), \d+ out\ncost     0\.\d+ USD", shown)
    assert "all cells of 01_first_question.ipynb passed" in shown


def test_the_demo_fails_when_a_cell_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from kimi_magics.notebook import demo

    broken = json.loads((demo.find_notebooks() / demo.FIRST_NOTEBOOK).read_text("utf-8"))
    broken["cells"][-1] = {
        "cell_type": "code",
        "id": "x",
        "metadata": {},
        "outputs": [],
        "execution_count": None,
        "source": "1/0",
    }
    (tmp_path / demo.FIRST_NOTEBOOK).write_text(json.dumps(broken), "utf-8")
    monkeypatch.setattr(demo, "find_notebooks", lambda: tmp_path)
    assert main(["demo", "--once"]) == 1
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_the_demo_opens_a_lab_and_shuts_everything_down(tmp_path: Path) -> None:
    with started("demo", "--no-browser") as process:
        address = read_until(process, r"(http://127\.0\.0\.1:\d+)/lab/tree/01_first_question\.ipynb\?token=(\S+)")
        base, token = address.groups()
        with urllib.request.urlopen(f"{base}/api/contents?token={token}", timeout=20) as answer:
            names = {row["name"] for row in json.load(answer)["content"]}
        assert "01_first_question.ipynb" in names
        process.send_signal(signal.SIGINT)
        read_until(process, "Shutting down")
        assert process.wait(60) == 0
    deadline = time.monotonic() + 10
    while not is_gone(base) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert is_gone(base)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_sandbox_serves_until_it_is_told_to_end(end: signal.Signals) -> None:
    with started("sandbox") as process:
        base = read_until(process, r"(http://127\.0\.0\.1:\d+/v1)")[1]
        rows = httpx.get(f"{base}/models", headers={"Authorization": "Bearer sandbox"}, trust_env=False).json()["data"]
        assert "kimi-k2.6" in {row["id"] for row in rows}
        process.send_signal(end)
        assert process.wait(20) == 0


# ---------------------------------------------------------------- doctor


def examine(capsys: pytest.CaptureFixture[str], expected_code: int) -> dict[str, dict[str, str]]:
    """Run the doctor and return its findings by their first words."""
    assert main(["doctor", "--json"]) == expected_code
    return {row["what"]: row for row in json.loads(capsys.readouterr().out)}


def find(findings: dict[str, dict[str, str]], words: str) -> dict[str, str]:
    return next(row for what, row in findings.items() if words in what)


def test_the_doctor_finds_a_good_set_up_good(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    findings = examine(capsys, 0)
    assert find(findings, "the key was found in the environment variable MOONSHOT_API_KEY")["state"] == "good"
    assert find(findings, "serves 6 models")["state"] == "good"
    assert find(findings, "from MOONSHOT_BASE_URL")["state"] == "good"
    for words in ("IPython ", "ipykernel ", "jupyterlab ", "settings ", "gauge", f"kimi-magics {__version__}"):
        assert find(findings, words)["state"] != "wrong"


@pytest.mark.parametrize(
    ("name", "value", "says", "advises"),
    [
        ("MOONSHOT_API_KEY", "", "there is no API key", "getpass"),
        ("MOONSHOT_API_KEY", "sk-wrongwrongwrongwrong", "refused the key", "check MOONSHOT_API_KEY"),
        ("MOONSHOT_BASE_URL", "http://127.0.0.1:9/v1", "no connection", "check the network"),
        ("MOONSHOT_BASE_URL", "http://example.com/v1", "in the open", "https://"),
        ("MOONSHOT_BASE_URL", "nowhere", "does not start with https://", "https://api.moonshot.ai/v1"),
    ],
)
def test_the_doctor_names_each_problem_with_its_remedy_and_no_key(
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: str,
    says: str,
    advises: str,
) -> None:
    monkeypatch.setenv(name, value)
    findings = examine(capsys, 1)
    problem = find(findings, says)
    assert problem["state"] == "wrong"
    assert advises in problem["remedy"]
    assert "wrongwrong" not in json.dumps(findings)


@pytest.mark.parametrize(
    ("number", "state", "says"),
    [
        ("6.31.0", "good", "without subshells"),
        ("7.0.1", "note", "unread"),
        ("7.3.0", "note", "unread"),
        ("7.4.0", "good", "with subshells"),
        ("7.30.0", "good", "with subshells"),
        ("8.0.0a1", "good", "with subshells"),
    ],
)
def test_the_doctor_knows_which_ipykernel_may_leave_a_message_unread(number: str, state: str, says: str) -> None:
    finding = describe_kernel(number)

    assert finding.state == state
    assert number in finding.what
    assert says in finding.what
    assert ("--upgrade ipykernel" in finding.remedy) == (state == "note")


def test_the_doctor_finds_damaged_settings(
    sandbox: Sandbox, environment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = environment / "kimi_magics"
    folder.mkdir()
    (folder / "config.toml").write_text("model =")
    assert find(examine(capsys, 1), "cannot be read")["remedy"] == "mend the file, or move it away"


def test_the_doctor_tells_whether_the_magics_load_by_themselves(
    sandbox: Sandbox, environment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert find(examine(capsys, 0), "load with %load_ext")["state"] == "note"
    profile = environment / "ipython" / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_config.py").write_text("c.InteractiveShellApp.extensions = ['kimi_magics']\n")
    assert find(examine(capsys, 0), "load by themselves")["state"] == "good"


def test_the_doctor_writes_for_people_too(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MOONSHOT_API_KEY")
    assert main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("✗"))
    assert lines[at + 1].startswith("    → ")


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["demo", "--onc"]])
def test_a_wrong_command_line_shows_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: kimi-magics" in capsys.readouterr().err
