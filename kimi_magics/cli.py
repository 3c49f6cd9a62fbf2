"""The command `kimi-magics`: a thin edge over the rooms; each subcommand imports what it needs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from kimi_magics import __version__
from kimi_magics.errors import KimiError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit code; errors of ours are one or two lines on stderr."""
    # A pipe or a log may be in an encoding that lacks `·` and `→`: a mark is better than a crash.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    chosen = build_parser().parse_args(arguments)
    try:
        code: int = chosen.run(chosen)
    except KimiError as error:
        print(f"kimi-magics: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="kimi-magics", description="Kimi in Jupyter: try it, check it.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"kimi-magics {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    demo = commands.add_parser(
        "demo", allow_abbrev=False, help="open the first notebook against a local sandbox; needs no key"
    )
    demo.add_argument("--once", action="store_true", help="run the notebook without a browser and print what happened")
    demo.add_argument("--no-browser", action="store_true", help="print the address and open no browser")
    demo.set_defaults(run=_demo)

    sandbox = commands.add_parser(
        "sandbox", allow_abbrev=False, help="serve the Kimi API on this machine, without a model"
    )
    from kimi_magics.sandbox.command import add_arguments

    add_arguments(sandbox)
    sandbox.set_defaults(run=_sandbox)

    _add_alt(commands)
    _add_cost(commands)

    doctor = commands.add_parser("doctor", allow_abbrev=False, help="tell what is right and wrong with the set-up")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.set_defaults(run=_doctor)
    return parser


def _add_alt(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    alt = commands.add_parser(
        "alt",
        allow_abbrev=False,
        help="give the pictures of notebooks an alt text; tells the cost and asks before anything is sent",
        description="Give every picture of the notebooks that lacks one an alt text, among the outputs and in Markdown."
        " Cells and outputs count from 0, lines from 1. What is done is saved at once; run it again to go on.",
    )
    alt.add_argument("notebooks", nargs="+", metavar="NOTEBOOK", help="a notebook file")
    mode = alt.add_mutually_exclusive_group()
    mode.add_argument("--dry-run", action="store_true", help="tell the pictures and the cost, and stop")
    mode.add_argument(
        "--check", action="store_true", help="list the pictures without alt text; fail when there are any"
    )
    alt.add_argument("--yes", action="store_true", help="go on without being asked")
    alt.add_argument("--budget", metavar="AMOUNT", help="spend no more than this, as in 0.50")
    alt.add_argument("-m", "--model", metavar="MODEL", help="the model to ask; else the setting")
    alt.add_argument("--lang", metavar="LANGUAGE", help="the language of the alt texts; else the setting")
    alt.add_argument("--json", action="store_true", help="print JSON, with --dry-run or --check")
    alt.set_defaults(run=_alt, parser=alt)


def _alt(chosen: argparse.Namespace) -> int:
    from pathlib import Path

    if chosen.json and not (chosen.check or chosen.dry_run):
        chosen.parser.error("--json is for --dry-run and --check")
    from kimi_magics.notebook.alt_command import Order, run

    order = Order(
        paths=tuple(Path(name) for name in chosen.notebooks),
        mode="check" if chosen.check else "quote" if chosen.dry_run else "write",
        is_agreed=chosen.yes,
        budget=chosen.budget,
        model=chosen.model,
        language=chosen.lang,
        as_json=chosen.json,
    )
    return run(order, agree=input if sys.stdin is not None and sys.stdin.isatty() else None)


def _add_cost(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    cost = commands.add_parser(
        "cost",
        allow_abbrev=False,
        help="sum up what notebooks cost, by the receipts in their outputs; nothing is run",
        description="Sum up what notebooks cost, by the receipts that answers leave in their saved outputs. Nothing is"
        " run and nothing is sent. A call counts once, also where its cell was copied. Cells count from 0.",
        epilog="It returns 0; 1 when a notebook cannot be read; with --max 3 when the sum is more, and 4 when nobody"
        " can tell, since a cost is not known or in another currency.",
    )
    cost.add_argument(
        "notebooks", nargs="+", metavar="NOTEBOOK", help="a notebook, a folder, or a pattern as **/*.ipynb"
    )
    cost.add_argument("--by", choices=("notebook", "model", "cell"), help="sum up by this; else by notebook and model")
    cost.add_argument("--max", metavar="AMOUNT", help="fail when all together cost more, as in 0.50 or 2CNY")
    cost.add_argument(
        "--allow-unknown", action="store_true", help="with --max: leave costs out that nobody can compare"
    )
    form = cost.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--csv", action="store_true", help="print CSV")
    cost.set_defaults(run=_cost, parser=cost)


def _cost(chosen: argparse.Namespace) -> int:
    if chosen.allow_unknown and chosen.max is None:
        chosen.parser.error("--allow-unknown is for --max")
    from kimi_magics.notebook.cost_command import Order, run

    order = Order(
        names=tuple(chosen.notebooks),
        by=chosen.by,
        form="json" if chosen.json else "csv" if chosen.csv else "table",
        most=chosen.max,
        is_unknown_allowed=chosen.allow_unknown,
    )
    return run(order)


def _demo(chosen: argparse.Namespace) -> int:
    from kimi_magics.notebook import demo

    if chosen.once:
        return demo.run_once()
    return demo.serve(opens_browser=not chosen.no_browser)


def _sandbox(chosen: argparse.Namespace) -> int:
    from kimi_magics.sandbox.command import run

    return run(chosen)


def _doctor(chosen: argparse.Namespace) -> int:
    from kimi_magics.notebook.doctor import report

    return report(as_json=chosen.json)


if __name__ == "__main__":
    sys.exit(main())
