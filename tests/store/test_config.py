"""Settings: session over saved over default; a write never loses anything; a key is never kept."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import pytest

from kimi_magics.core.usage import Price
from kimi_magics.errors import ConfigError
from kimi_magics.store.config import SETTINGS, Config, find_home, read_price


def test_without_a_file_every_setting_has_its_default(tmp_path: Path) -> None:
    config = Config(tmp_path / "none")
    assert {name: config.look_up(name) for name in config.names()} == {
        setting.name: (setting.default, "default") for setting in SETTINGS
    }
    assert config.get("model") == "kimi-k2.6"
    assert not (tmp_path / "none").exists()


def test_session_goes_before_saved_before_default(tmp_path: Path) -> None:
    config = Config(tmp_path)
    config.set("model", "kimi-k3", save=True)
    assert config.look_up("model") == ("kimi-k3", "saved")
    config.set("model", "kimi-k2.7-code")
    assert config.look_up("model") == ("kimi-k2.7-code", "session")
    config.unset("model")
    assert config.look_up("model") == ("kimi-k3", "saved")
    config.unset("model", save=True)
    assert config.look_up("model") == ("kimi-k2.6", "default")


def test_another_session_sees_what_is_saved_and_not_what_is_not(tmp_path: Path) -> None:
    first, second = Config(tmp_path), Config(tmp_path)
    first.set("footer", "off", save=True)
    first.set("max_tokens", "9")
    assert (second.get("footer"), second.get("max_tokens")) == ("off", None)


def test_what_was_written_by_hand_stays(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('# mine\nmodel = "kimi-k3" # dear\nfuture_setting = 1\n', "utf-8")
    Config(tmp_path).set("view", "plain", save=True)
    text = path.read_text("utf-8")
    assert '# mine\nmodel = "kimi-k3" # dear\nfuture_setting = 1\n' in text
    assert 'view = "plain"' in text
    assert [name for name in os.listdir(tmp_path) if name != "config.toml"] == []


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("modell", "x", "there is no setting 'modell'"),
        ("model", " ", "is empty"),
        ("view", "fancy", "is not one of auto, widget, markdown, once, plain"),
        ("max_tokens", "0", "is below 1"),
        ("max_tokens", "many", "is not a number"),
        ("timeout_seconds", "0", "is not between 1 and 7200"),
        ("api_key", "x", "never kept in the settings"),
        ("system", "sk-abcdefghijklmnop1234", "never kept in the settings"),
        ("price.kimi-x", "1", "is not a price"),
        ("price.kimi-x", "-1/2", "is not a price"),
        ("price.kimi-x", "NaN/2", "is not a price"),
        ("price.", "1/2", "there is no setting"),
    ],
)
@pytest.mark.parametrize("save", [False, True])
def test_a_bad_setting_is_refused_and_changes_nothing(
    tmp_path: Path, name: str, text: str, says: str, save: bool
) -> None:
    config = Config(tmp_path)
    before = {row: config.get(row) for row in config.names()}
    with pytest.raises(ConfigError) as caught:
        config.set(name, text, save=save)
    assert says in str(caught.value)
    assert "sk-abc" not in str(caught.value)
    assert {row: config.get(row) for row in config.names()} == before
    assert not config.path.exists()


def test_two_settings_in_a_line_are_told_to_be_two_lines(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="set one in each line; cache: on: "):
        Config(tmp_path).set("cache", "on view=plain")
    with pytest.raises(ConfigError) as caught:
        Config(tmp_path).set("cache", "always")
    assert "each line" not in str(caught.value)


@pytest.mark.parametrize("content", ["model = ", "model = \xff", 'max_tokens = "many"'])
def test_a_damaged_file_is_named_and_never_written_over(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content.encode("latin-1"))
    config = Config(tmp_path)
    with pytest.raises(ConfigError, match=r"config\.toml"):
        config.get("model")
    with pytest.raises(ConfigError):
        config.set("model", "kimi-k3", save=True)
    assert path.read_bytes() == content.encode("latin-1")


def test_a_folder_that_cannot_be_written_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    config = Config(tmp_path / "file")
    with pytest.raises(ConfigError, match="cannot be"):
        config.set("model", "kimi-k3", save=True)


def test_own_prices(tmp_path: Path) -> None:
    config = Config(tmp_path)
    config.set("price.kimi-x", "0.2/2/10", save=True)
    config.set("price.kimi-y", "5/20 CNY")
    assert Config(tmp_path).own_prices() == {
        "kimi-x": Price(Decimal(2), Decimal(10), cached=Decimal("0.2"), source="settings")
    }
    assert config.own_prices()["kimi-y"] == Price(Decimal(5), Decimal(20), currency="CNY", source="settings")


@pytest.mark.parametrize("text", ["", "a/b", "1/2/3/4", "1/2 dollars", "Infinity/1"])
def test_what_is_not_a_price_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a price"):
        read_price(text)


def test_the_home_is_the_one_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KIMI_MAGICS_HOME", str(tmp_path / "h"))
    assert find_home() == tmp_path / "h"
    monkeypatch.delenv("KIMI_MAGICS_HOME")
    assert "kimi_magics" in str(find_home())
