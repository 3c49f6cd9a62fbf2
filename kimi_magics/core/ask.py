"""What the user typed: the flags of a magic line and the text, as one frozen value.

One table of options serves the parser, the help, the completion and the documentation of every magic that takes them.
Flags stand on the first line only. `%kimi` takes the rest of its line as the prompt, exactly as typed: the text after
the flags never passes the shell-like lexer, so that an apostrophe in a prompt is an apostrophe.
"""

from __future__ import annotations

import argparse
import difflib
import io
import keyword
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NoReturn

from kimi_magics.core.sizes import read_size
from kimi_magics.errors import MagicLineError, holds_key

ThinkingMode = Literal["on", "off", "keep"]
Effort = Literal["low", "high", "max"]
#: What Tab offers for the value of an option.
Completes = Literal[
    "nothing", "model", "variable", "image", "image-size", "choices", "chat", "function", "path", "template"
]


_PAIR = re.compile(r"[A-Za-z_]\w*=")
#: Under this name argparse gets what follows a template; nobody can type it.
_PAIR_FLAG = "--pair"

#: A conversation's name is also the name of its file.
CHAT_NAME = re.compile(r"\w[\w.\-]{0,63}")


@dataclass(frozen=True, slots=True)
class Option:
    """One flag: its names, what it takes, and the sentence that explains it."""

    names: tuple[str, ...]
    help: str
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    is_repeatable: bool = False
    convert: Callable[[str], Any] = str
    completes: Completes = "nothing"
    default: Any = None
    #: Whether words such as key=value may follow its value.
    takes_pairs: bool = False

    @property
    def takes_value(self) -> bool:
        """Whether a value follows the flag."""
        return self.metavar is not None or bool(self.choices)

    @property
    def long_name(self) -> str:
        """The spelled-out name, as `--model`."""
        return next(name for name in self.names if name.startswith("--"))

    @property
    def destination(self) -> str:
        """The name under which the parsed value is found."""
        return self.long_name[2:].replace("-", "_")


@dataclass(frozen=True, slots=True)
class Ask:
    """A request as the user wrote it: nothing resolved, nothing defaulted. None means that a flag was not given."""

    text: str = ""
    model: str | None = None
    system: str | None = None
    image: tuple[str, ...] = ()
    image_size: str | None = None
    video: tuple[str, ...] = ()
    upload: bool = False
    out: str | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    thinking: ThinkingMode | None = None
    effort: Effort | None = None
    file: tuple[str, ...] = ()
    cell: tuple[str, ...] = ()
    #: The name of a prompt that was written before, and what is filled into it.
    template: str | None = None
    pairs: tuple[tuple[str, str], ...] = ()
    #: Whether the first fenced code of the answer goes into a new cell.
    code: bool = False
    #: The name of the conversation that the prompt goes on with.
    chat: str | None = None
    prefill: str | None = None
    #: Who speaks, in an answer begun by `prefill`.
    name: str | None = None
    json: bool = False
    schema: str | None = None
    #: How often an answer that does not satisfy the schema is asked for again.
    retries: int = 0
    tool: tuple[str, ...] = ()
    #: Whether the user confirms each call of a tool.
    ask: bool = False
    max_steps: int | None = None
    web: bool = False
    #: Whether an answer that is kept may stand for a new one, and a new one is kept.
    cache: bool = False
    #: Whether the host is asked also where an answer is kept.
    fresh: bool = False
    over_budget: bool = False
    no_stream: bool = False
    dry_run: bool = False
    raw: bool = False
    #: What a magic adds to the common flags, as `--compare`.
    extra: dict[str, Any] = field(default_factory=dict)


def _count(text: str) -> int:
    try:
        number = int(text.replace("_", ""))
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return number


def _count_from_zero(text: str) -> int:
    return 0 if text == "0" else _count(text)


def _chat_name(text: str) -> str:
    if not CHAT_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a name for a conversation: up to 64 letters, digits, dots, dashes and underscores,"
            " as in my_paper"
        )
    return text


def _image_size(text: str) -> str:
    try:
        return read_size(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not low, high, none, or a size such as 800x600") from None


def _identifier(text: str) -> str:
    if not text.isidentifier() or keyword.iskeyword(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name for a variable")
    return text


OPTIONS: tuple[Option, ...] = (
    Option(("-m", "--model"), "the model to ask; see %%kimi_models", metavar="MODEL", completes="model"),
    Option(("-s", "--system"), "the system prompt; {{name}} works in it too", metavar="TEXT"),
    Option(
        ("-i", "--image"),
        "an image to send: a variable, Out[n], _, last, last:3, cell:ID, attachment:NAME, a path or glob, clipboard,"
        " or an address; may be repeated",
        metavar="IMAGE",
        is_repeatable=True,
        completes="image",
    ),
    Option(
        ("--image-size",),
        "shrink images to low (512x512), high (4096x2160, the default), WxH pixels, or none: leave them",
        metavar="low|high|none|WxH",
        convert=_image_size,
        completes="image-size",
    ),
    Option(
        ("--video",),
        "a video to send: a path, bytes or IPython.display.Video; may be repeated",
        metavar="VIDEO",
        is_repeatable=True,
        completes="variable",
    ),
    Option(
        ("--file",),
        "a document to send: a PDF, docx, text, code, a notebook; may be repeated",
        metavar="PATH",
        is_repeatable=True,
        completes="path",
    ),
    Option(
        ("--cell",),
        "another cell of the notebook to send, its source and its text output: its id, or -1 for the one above; may be"
        " repeated",
        metavar="ID",
        is_repeatable=True,
    ),
    Option(
        ("-t", "--template"),
        "a prompt that was written before, with key=value for what it fills in; see %%kimi_config template.NAME",
        metavar="NAME",
        completes="template",
        takes_pairs=True,
    ),
    Option(("--upload",), "upload images and videos once, and refer to them from then on"),
    Option(
        ("-c", "--chat"),
        "go on with the conversation of this name, or begin it; without it a cell stands alone",
        metavar="NAME",
        convert=_chat_name,
        completes="chat",
    ),
    Option(
        ("-o", "--out"), "bind the reply to this variable", metavar="NAME", convert=_identifier, completes="variable"
    ),
    Option(("--max-tokens",), "the longest answer in tokens, reasoning included", metavar="N", convert=_count),
    Option(
        ("--stop",), "end the answer before this text; may be repeated up to 5 times", metavar="S", is_repeatable=True
    ),
    Option(("--thinking",), "think before answering, where the model lets you choose", choices=("on", "off", "keep")),
    Option(("--effort",), "how hard a kimi-k3 model thinks", choices=("low", "high", "max")),
    Option(("--prefill",), "begin the answer with this text; the model goes on from there", metavar="TEXT"),
    Option(("--name",), "with --prefill: the name of who speaks in the answer, as of a character", metavar="NAME"),
    Option(("--json",), "ask for a JSON object; the reply's .data is the parsed one"),
    Option(
        ("--schema",),
        "ask for JSON that fits: a Pydantic model, dataclass, TypedDict or JSON schema, or 'name, age int, tags list';"
        " the reply's .data is an instance",
        metavar="NAME",
        completes="variable",
    ),
    Option(
        ("--retries",),
        "with --json or --schema: ask again up to N times when the answer does not fit (0)",
        metavar="N",
        convert=_count_from_zero,
        default=0,
    ),
    Option(
        ("--tool",),
        "a Python function that the model may call; may be repeated",
        metavar="NAME",
        is_repeatable=True,
        completes="function",
    ),
    Option(("--ask",), "confirm each call of a tool before it is made"),
    Option(("--max-steps",), "with tools: the most requests for one answer (8)", metavar="N", convert=_count),
    Option(("--code",), "put the first code block of the answer into a new cell below, which is not run"),
    Option(("--web",), "let the model search the web, for a fee per search"),
    Option(("--cache",), "replay the answer to the same request at $0, where one is kept; else keep the new one"),
    Option(("--fresh",), "ask anew, also where the answer is kept"),
    Option(("--over-budget",), "send it for this once, whatever the budgets say, and without a question"),
    Option(("--no-stream",), "ask for the whole answer at once"),
    Option(("--dry-run",), "show the exact request body and send nothing"),
    Option(("--raw",), "send {{…}} as typed instead of filling it in"),
)


class HelpRequested(Exception):  # noqa: N818 — not an error: the user asked for it
    """`--help` was among the flags; carries the text to show."""


class _Parser(argparse.ArgumentParser):
    """argparse that neither prints nor exits."""

    def error(self, message: str) -> NoReturn:
        raise MagicLineError(f"{self.prog}: {message}", remedy=f"{self.prog}? shows the flags")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise MagicLineError(message or f"{self.prog}: cannot read the line", remedy=f"{self.prog}? shows the flags")


class LineParser:
    """Reads the line of one magic: `name` as shown to the user, `options` beside the common ones."""

    def __init__(
        self, name: str, description: str, *, options: Sequence[Option] = OPTIONS, examples: str = "", usage: str = ""
    ) -> None:
        self.name = name
        self.options = tuple(options)
        self._by_name = {flag: option for option in options for flag in option.names}
        # The prompt is cut off before argparse sees the line, so that `usage` names it by hand.
        self._parser = _Parser(
            prog=name,
            description=description,
            epilog=examples,
            usage=(usage or f"{name} [flags]").replace("%", "%%"),  # argparse fills in %(prog)s there
            add_help=False,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for option in options:
            self._add(option)
        self._parser.add_argument(_PAIR_FLAG, action="append", default=[], help=argparse.SUPPRESS)
        self._parser.add_argument("-h", "--help", action="store_true", help="show this text")

    def _add(self, option: Option) -> None:
        keywords: dict[str, Any] = {
            "help": option.help.replace("%%", "%").replace("%", "%%"),
            "dest": option.destination,
        }
        if not option.takes_value:
            self._parser.add_argument(*option.names, action="store_true", **keywords)
            return
        keywords |= {"metavar": option.metavar, "type": option.convert, "default": option.default}
        if option.choices:
            keywords |= {"choices": option.choices, "metavar": "|".join(option.choices)}
        if option.is_repeatable:
            keywords |= {"action": "append", "default": []}
        self._parser.add_argument(*option.names, **keywords)

    def format_help(self) -> str:
        """Return the help as `%%kimi?` shows it."""
        return self._parser.format_help()

    def parse_cell(self, line: str, body: str) -> Ask:
        """Read a cell magic: flags on its line, the prompt below.

        Raises MagicLineError, and HelpRequested for `--help`.
        """
        flags, rest = self._split(line)
        if rest:
            raise MagicLineError(
                f"{self.name}: only flags may stand on the first line, not {_shorten(rest)!r}",
                remedy=self._advise_on_stray(rest),
            )
        # IPython ends every cell with a newline that nobody typed.
        return self._ask(flags, body.removesuffix("\n"))

    def parse_line(self, line: str) -> Ask:
        """Read a line magic: flags, then the prompt as typed. Raises as `parse_cell` does."""
        flags, rest = self._split(line)
        return self._ask(flags, rest)

    def parse_names(self, line: str) -> tuple[Ask, tuple[str, ...]]:
        """Read a line magic that takes names, with flags before, between and after them. Raises as `parse_cell` does.

        The names are quoted as in a POSIX shell.
        """
        flags: list[str] = []
        names: list[str] = []
        rest = line
        while True:
            found, rest = self._split(rest)
            flags += found
            if not rest:
                return self._ask(flags, ""), tuple(names)
            stream = io.StringIO(rest)
            names.append(self._next_word(_lexer(stream)) or "")
            rest = rest[stream.tell() :]

    def _ask(self, flags: list[str], text: str) -> Ask:
        values = vars(self._parser.parse_args(flags))
        if values.pop("help"):
            raise HelpRequested(self.format_help())
        known = {name: values.pop(name) for name in list(values) if name in Ask.__dataclass_fields__}
        pairs = (pair.partition("=") for pair in values.pop(_PAIR_FLAG[2:], ()))
        known["pairs"] = tuple((key, value) for key, _, value in pairs)
        for name in ("image", "video", "stop", "tool", "file", "cell"):
            known[name] = tuple(known.get(name, ()))
        return replace(Ask(text=text, extra=values), **known)

    def _split(self, line: str) -> tuple[list[str], str]:
        """Return the flags in the form `--name=value`, and the rest of the line as typed."""
        if holds_key(line):
            raise MagicLineError(
                f"{self.name}: the line holds what looks like an API key; it was not used",
                remedy="a notebook keeps what is typed: delete the cell, and set MOONSHOT_API_KEY in the environment"
                " or with getpass",
            )
        stream = io.StringIO(line)
        lexer = _lexer(stream)
        flags: list[str] = []
        while True:
            rest = line[stream.tell() :].lstrip()
            if not rest.startswith("-") or rest == "-":
                return flags, rest.rstrip()
            word = self._next_word(lexer)
            if word == "--":
                return flags, line[stream.tell() :].strip()
            flags.append(self._read_flag(word or "", lexer))
            option = self._by_name.get(flags[-1].partition("=")[0])
            if option is not None and option.takes_pairs:
                flags += self._read_pairs(line, stream, lexer)

    def _read_pairs(self, line: str, stream: io.StringIO, lexer: shlex.shlex) -> list[str]:
        """Return the words such as key=value that come next, each as a flag of its own."""
        pairs = []
        while _PAIR.match(line[stream.tell() :].lstrip()):
            pairs.append(f"{_PAIR_FLAG}={self._next_word(lexer)}")
        return pairs

    def _next_word(self, lexer: shlex.shlex) -> str | None:
        try:
            return lexer.get_token()
        except ValueError:
            raise MagicLineError(
                f"{self.name}: a quote on the line is not closed", remedy="close it, or write \\' for an apostrophe"
            ) from None

    def _read_flag(self, word: str, lexer: shlex.shlex) -> str:
        name, equals, value = word.partition("=")
        option = self._by_name.get(name)
        if option is None:
            if name in ("-h", "--help"):
                return "--help"
            raise MagicLineError(f"{self.name}: unknown flag {_shorten(name)}", remedy=self._advise_on_flag(name))
        if not option.takes_value:
            if equals:
                raise MagicLineError(f"{self.name}: {name} takes no value", remedy=f"write {name} alone")
            return option.long_name
        if not equals:
            following = self._next_word(lexer)
            # A flag in the place of a value is a forgotten value; `--stop=--raw` says that it is meant.
            if following is None or following in self._by_name:
                raise MagicLineError(
                    f"{self.name}: {name} needs a value",
                    remedy=f"as in {name} {option.metavar or '|'.join(option.choices)}",
                )
            value = following
        return f"{option.long_name}={value}"

    def _advise_on_flag(self, name: str) -> str:
        close = difflib.get_close_matches(name, list(self._by_name), n=1, cutoff=0.6)
        if close:
            return f"did you mean {close[0]}? {self.name}? shows the flags"
        return f"{self.name}? shows the flags; put -- before a prompt that starts with a dash"

    def _advise_on_stray(self, rest: str) -> str:
        word = rest.split()[0]
        if word.startswith(("kimi-", "moonshot-")):
            return f"to choose the model: {self.name} -m {word}"
        return "write the prompt on the lines below; a value with spaces needs quotes"


def _lexer(stream: io.StringIO) -> shlex.shlex:
    lexer = shlex.shlex(stream, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, ""
    return lexer


def _shorten(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"
