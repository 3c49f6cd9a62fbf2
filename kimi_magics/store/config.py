"""The user's settings: for this session, or saved in `config.toml` of `KIMI_MAGICS_HOME`.

The promise: a key is never kept here, a write never leaves half a file, and what the user wrote into the file by hand
stays, comments included.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Literal

from kimi_magics.core.budget import read_budget, read_budgets
from kimi_magics.core.models import DEFAULT_MODEL
from kimi_magics.core.rates import read_limits
from kimi_magics.core.usage import Price
from kimi_magics.errors import ConfigError, holds_key
from kimi_magics.store.files import replace_file

Source = Literal["session", "saved", "hub", "default"]
#: Settings that start so hold the user's own price of the model that follows.
PRICE_PREFIX = "price."
#: Settings that start so hold a prompt of the user's own, for -t.
TEMPLATE_PREFIX = "template."
#: Both are tables of their own in the file.
_PREFIXES = (PRICE_PREFIX, TEMPLATE_PREFIX)
_CREDENTIALS = re.compile(r"//[^/]*@")
_PASSWORD = re.compile(r"//[^/@]*:[^/@]*@|[?&]password=", re.IGNORECASE)
TEMPLATE_NAME = re.compile(r"\w[\w.\-]{0,63}")


def find_home() -> Path:
    """Return the folder of settings and records: KIMI_MAGICS_HOME, else the platform's folder for user data."""
    home = os.environ.get("KIMI_MAGICS_HOME")
    if home:
        return Path(home).expanduser()
    from platformdirs import user_data_path

    return user_data_path("kimi_magics", appauthor=False)


def find_hub_file() -> Path:
    """Return the file in which whoever runs a hub sets what holds for all its users; it need not exist."""
    from platformdirs import site_config_path

    return site_config_path("kimi_magics", appauthor=False) / "config.toml"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: how its text is read, what it is when nobody sets it, and what it means."""

    name: str
    help: str
    read: Callable[[str], Any]
    default: Any = None
    choices: tuple[str, ...] = ()


def _text(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty")
    return value


def _whole(value: str) -> int:
    number = int(value.replace("_", ""))
    if number < 1:
        raise ValueError("is below 1")
    return number


def _seconds(value: str) -> float:
    number = float(value)
    if not 1 <= number <= 7200:
        # The host itself gives up after two hours: reference/main_concepts_page.txt.
        raise ValueError("is not between 1 and 7200")
    return number


def _megabytes(value: str) -> int:
    number = int(value.replace("_", ""))
    if not 1 <= number <= 10_000:
        raise ValueError("is not between 1 and 10,000")
    return number


def _budgets(value: str) -> str:
    if value.strip().lower() in ("off", "none", ""):
        return "off"
    return ", ".join(budget.typed() for budget in read_budgets(value))


def _amount(value: str) -> str:
    if value.strip().lower() in ("off", "none"):
        return "off"
    budget = read_budget(value)
    if not budget.is_money or budget.scope != "session":
        raise ValueError("is not an amount of money")
    return f"{budget.amount:f} {budget.unit}"


def _rate(value: str) -> str:
    if value.strip().lower() in ("auto", "off"):
        return value.strip().lower()
    return read_limits(value).typed()


def _ledger(value: str) -> str:
    if value.strip() == "file":
        return "file"
    if not value.startswith("postgresql"):
        raise ValueError("is neither file nor the address of a PostgreSQL database")
    if _PASSWORD.search(value):
        raise ValueError("holds a password, which settings never keep: give it as PGPASSWORD or in ~/.pgpass")
    return value.strip()


def _choice(*choices: str) -> dict[str, Any]:
    def read(value: str) -> str:
        if value not in choices:
            raise ValueError(f"is not one of {', '.join(choices)}")
        return value

    return {"read": read, "choices": choices}


SETTINGS: tuple[Setting, ...] = (
    Setting("model", "the model when -m is not given", _text, DEFAULT_MODEL),
    Setting("system", "the system prompt when -s is not given", _text),
    Setting("max_tokens", "the longest answer in tokens when --max-tokens is not given", _whole),
    Setting("thinking", "as --thinking, where the model lets you choose", **_choice("on", "off", "keep")),
    Setting("effort", "as --effort, for models that have it", **_choice("low", "high", "max")),
    Setting(
        "view",
        "how an answer is shown: widget and markdown grow in place, once comes at the end, plain prints",
        default="auto",
        **_choice("auto", "widget", "markdown", "once", "plain"),
    ),
    Setting("footer", "the line of time, tokens and cost below an answer", default="on", **_choice("on", "off")),
    Setting(
        "gauge",
        "live: the draft in a %%kimi cell goes to the host that would receive it, to be counted, once it is edited or"
        " has the cursor; local: it is counted here; off",
        default="live",
        **_choice("live", "local", "off"),
    ),
    Setting(
        "currency",
        "of prices; auto takes the host's: CNY for api.moonshot.cn, else USD",
        default="auto",
        **_choice("auto", "USD", "CNY"),
    ),
    Setting(
        "budget",
        "what may be spent, as %kimi_budget sets it: 2 USD per day, 100k tokens per session, …",
        _budgets,
    ),
    Setting(
        "rate",
        "what the host allows the account, for all kernels together, as 3 rpm, 1 concurrent, 500k tpm, 1.5M tpd; auto"
        " learns it from what the host refuses; off sends every call at once",
        _rate,
        "auto",
    ),
    Setting("confirm", "ask before a call that may cost more than this; off never asks", _amount, "off"),
    Setting(
        "ledger",
        "where calls are recorded: file, or postgresql+psycopg://USER@HOST/DATABASE, shared by all users of a hub",
        _ledger,
        "file",
    ),
    Setting(
        "cache",
        "on: a request that was answered before is answered from the answers that are kept, at $0, and new answers are"
        " kept; read: none is kept; off. cache clear forgets them",
        default="off",
        **_choice("off", "on", "read"),
    ),
    Setting("cache_mb", "how much of answers is kept for that, in megabytes", _megabytes, 100),
    Setting("gallery_mb", "how much of displayed pictures is kept for -i last, in megabytes", _megabytes, 64),
    Setting("language", "of descriptions and alt texts, when --lang is not given", _text, "English"),
    Setting("describe_template", "what %kimi_describe asks instead of our words; {{lang}}, {{length}}", _text),
    Setting("alt_template", "what is asked for an alt text instead of our words; {{lang}}, {{length}}", _text),
    Setting(
        "safety_identifier",
        "who asks, where several share a key: a hash of this text goes with each request",
        _text,
    ),
    Setting("timeout_seconds", "how long a silent host is waited for", _seconds, 600.0),
)
_BY_NAME = {setting.name: setting for setting in SETTINGS}


class Config:
    """Settings of one kernel over those saved in `home`."""

    def __init__(self, home: Path | None = None) -> None:
        self._home = home
        self._session: dict[str, Any] = {}

    @property
    def path(self) -> Path:
        """The file of the saved settings; it need not exist."""
        return (self._home or find_home()) / "config.toml"

    def get(self, name: str) -> Any:
        """Return the value in force. Raises ConfigError for an unknown setting or a file that cannot be read."""
        return self.look_up(name)[0]

    def look_up(self, name: str) -> tuple[Any, Source]:
        """Return the value in force and where it comes from. Raises as `get` does."""
        check_name(name)
        if name == "ledger" and name in (shared := self._read_hub()):
            # What the hub's budgets are counted in is not for a user to choose.
            return shared[name], "hub"
        if name in self._session:
            return self._session[name], "session"
        for values, source in ((self._read_saved(), "saved"), (self._read_hub(), "hub")):
            # A hub's budget is not a default that a user may change: it holds beside those of the user.
            if name in values and not (source == "hub" and name == "budget"):
                return values[name], source  # type: ignore[return-value]
        return (None if name.startswith(_PREFIXES) else _BY_NAME[name].default), "default"

    def set(self, name: str, text: str, *, save: bool = False) -> None:
        """Set for this session, or with `save` for all. Raises ConfigError; nothing is changed then."""
        value = _read_value(name, text)
        if name == "ledger" and name in self._read_hub():
            raise ConfigError("the hub sets the ledger, for all its users", remedy="ask whoever runs the hub")
        if save:
            self._write(name, value)
            self._session.pop(name, None)
        else:
            self._session[name] = value

    def unset(self, name: str, *, save: bool = False) -> None:
        """Return to the saved value, or with `save` to the default. Raises ConfigError for an unknown setting."""
        check_name(name)
        self._session.pop(name, None)
        if save:
            self._write(name, None)

    def names(self) -> list[str]:
        """Return the names of all settings, the user's own prices and templates after the others."""
        own = {name for name in (*self._session, *self._read_saved()) if name.startswith(_PREFIXES)}
        return [*_BY_NAME, *sorted(own)]

    def own_prices(self) -> dict[str, Price]:
        """Return the user's own prices by model name."""
        prices = (name for name in self.names() if name.startswith(PRICE_PREFIX))
        return {name.removeprefix(PRICE_PREFIX): read_price(self.get(name)) for name in prices}

    def own_templates(self) -> dict[str, str]:
        """Return the user's own prompts by their names, as set or saved."""
        names = (name for name in self.names() if name.startswith(TEMPLATE_PREFIX))
        return {name.removeprefix(TEMPLATE_PREFIX): self.get(name) for name in names}

    def saved(self, name: str) -> Any:
        """Return the saved value, whatever this session has set; None when there is none. Raises ConfigError."""
        return self._read_saved().get(name)

    def hub_budget(self) -> str | None:
        """Return what the hub allows each user, beside the user's own budgets; None when it says nothing."""
        budget: str | None = self._read_hub().get("budget")
        return budget

    def _read_hub(self) -> dict[str, Any]:
        return _read_file(find_hub_file())

    def _read_saved(self) -> dict[str, Any]:
        return _read_file(self.path)

    def _write(self, name: str, value: Any) -> None:
        import tomlkit

        self._read_saved()  # a file that cannot be read must not be written over
        try:
            document = tomlkit.parse(self.path.read_text("utf-8")) if self.path.exists() else tomlkit.document()
            table: Any = document
            key = name
            if name.startswith(_PREFIXES):
                kind, _, key = name.partition(".")
                table = document.setdefault(kind, tomlkit.table())
            if value is None:
                table.pop(key, None)
            else:
                table[key] = value
            replace_file(self.path, tomlkit.dumps(document))
        except OSError as error:
            raise ConfigError(
                f"the setting cannot be saved in {self.path}: {error.strerror or error}",
                remedy="set it without --save for this session, or point KIMI_MAGICS_HOME to another folder",
            ) from None


def _read_file(path: Path) -> dict[str, Any]:
    """Return the settings that a file holds, checked. Raises ConfigError."""
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"the settings in {path} cannot be read: {error}", remedy="mend the file, or move it away"
        ) from None
    flat = {name: value for name, value in content.items() if name in _BY_NAME}
    for prefix in _PREFIXES:
        own = content.get(prefix[:-1], {})
        if isinstance(own, dict):
            flat |= {prefix + name: text for name, text in own.items()}
    # A file is written by hand too: what stands in it passes the same checks as what is typed.
    return {name: _read_value(name, str(value), where=f" in {path}") for name, value in flat.items()}


def check_name(name: str) -> None:
    """Raise ConfigError when there is no such setting."""
    if name in _BY_NAME or (name.startswith(PRICE_PREFIX) and len(name) > len(PRICE_PREFIX)):
        return
    if name.startswith(TEMPLATE_PREFIX):
        if TEMPLATE_NAME.fullmatch(name.removeprefix(TEMPLATE_PREFIX)):
            return
        raise ConfigError(
            f"{name[:80]!r} does not name a template", remedy="up to 64 letters, digits, dots, dashes, underscores"
        )
    if "key" in name.lower():
        raise ConfigError(
            "an API key is never kept in the settings",
            remedy="set MOONSHOT_API_KEY in the environment, or with getpass",
        )
    close = difflib.get_close_matches(name, _BY_NAME, n=1)
    raise ConfigError(
        f"there is no setting {name!r}",
        remedy=f"did you mean {close[0]}?"
        if close
        else f"the settings are {', '.join(_BY_NAME)}, price.MODEL, template.NAME",
    )


def explain(name: str) -> str:
    """Return what a setting means, in a few words."""
    if name.startswith(_PREFIXES):
        is_price = name.startswith(PRICE_PREFIX)
        return "the price of this model, per million tokens" if is_price else "a prompt for -t; {{name}} is filled in"
    return _BY_NAME[name].help


def _read_value(name: str, text: str, *, where: str = "") -> Any:
    if holds_key(text):
        raise ConfigError(
            "the value looks like an API key, which is never kept in the settings", remedy="set MOONSHOT_API_KEY"
        )
    check_name(name)
    if name.startswith(PRICE_PREFIX):
        read_price(text)
        return text
    if name.startswith(TEMPLATE_PREFIX):
        if not text.strip():
            raise ConfigError(f"{name}={where}: the template is empty", remedy="write the prompt after the =")
        return text
    setting = _BY_NAME[name]
    try:
        return setting.read(text)
    except ValueError as error:
        # Python's own words for a bad number are not for users.
        is_python_s = str(error).startswith(("invalid literal", "could not convert"))
        reason = "is not a number" if is_python_s else str(error)
        shown = _CREDENTIALS.sub("//…@", text)
        # As other tools take them: two settings, one after the other.
        alone = "set one in each line; " if any(f" {other}=" in text for other in _BY_NAME) else ""
        raise ConfigError(
            f"{name}={shown}{where}: the value {reason}", remedy=f"{alone}{name}: {setting.help}"
        ) from None


def read_price(text: str) -> Price:
    """Read a price of the user's own: `input/output` or `cached/input/output` per million tokens, and a currency.

    As in `0.2/2/10 USD`; USD unless said. Raises ConfigError.
    """
    figures, _, currency = str(text).strip().partition(" ")
    try:
        amounts = [Decimal(figure) for figure in figures.split("/")]
    except InvalidOperation:
        amounts = []
    currency = currency.strip().upper() or "USD"
    if (
        len(amounts) not in (2, 3)
        or not all(amount.is_finite() and amount >= 0 for amount in amounts)
        or len(currency) != 3
    ):
        raise ConfigError(
            f"{text!r} is not a price", remedy="write cached/input/output per million tokens, as in 0.16/0.95/4.00 USD"
        )
    *cached, input_price, output_price = amounts
    return Price(
        input=input_price,
        output=output_price,
        cached=cached[0] if cached else None,
        currency=currency,
        source="settings",
    )
