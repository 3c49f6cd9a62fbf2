"""The line of each magic: what it is for and the flags that it takes; its help, its completion and its parser."""

from __future__ import annotations

from kimi_magics.core.ask import OPTIONS, LineParser, Option

_JSON = Option(("--json",), "print JSON instead of a table")

PARSERS: dict[str, LineParser] = {
    "kimi": LineParser(
        "%%kimi",
        "Ask a Kimi model. The flags stand on the first line, the prompt below it; or in one line with %kimi.\n"
        "{{name}}, {{a.b}}, {{a[0]}} and {{a['k']}} are filled in; every other brace is text.",
        usage="%%kimi [flags]        the prompt on the lines below\n       %kimi [flags] prompt",
        examples="examples:\n  %%kimi -m kimi-k3 --effort low -o answer\n"
        '  %kimi -s "Answer in French." What is {{topic}}?\n'
        "The reply is bound to the variable after -o, and always to _kimi: .text .thinking .usage .cost .finish_reason",
    ),
    "kimi_estimate": LineParser(
        "%kimi_estimate",
        "Show tokens, cost and share of the context of a prompt, counted by the API; nothing is generated.\n"
        "Takes the flags of %%kimi, in a line or as a cell magic.",
        # Here --json is about the report.
        options=(
            *(option for option in OPTIONS if option.destination != "json"),
            Option(("--compare",), "for every live model, the cheapest first"),
            _JSON,
        ),
        usage="%kimi_estimate [flags] prompt",
        examples="example:\n  %kimi_estimate --compare {{report}}",
    ),
    "kimi_describe": LineParser(
        "%kimi_describe",
        "Describe pictures for a reader: what they show, axes, units, trends, and the figures that can be read off.\n"
        "Takes names as after -i (last, when none is given) and the flags of %%kimi.",
        options=(
            *OPTIONS,
            Option(("--lang",), "the language of the description", metavar="LANGUAGE"),
            Option(("--short",), "two or three sentences"),
            Option(("--long",), "at length, with every figure that can be read off"),
            Option(("--alt",), "show the picture again with an alt text, which is saved with it"),
        ),
        usage="%kimi_describe [flags] [what …]",
        examples="examples:\n  %kimi_describe\n  %kimi_describe --short --lang German figure plots/*.png\n"
        "  %kimi_describe --alt last:3\n"
        "The prompts are templates: %kimi_config describe_template=…, alt_template=… with {{lang}} and {{length}}",
    ),
    "kimi_fix": LineParser(
        "%kimi_fix",
        "Ask how the cell that failed last is corrected; the proposal goes into a new cell below, which is not run.\n"
        "Sent are the error, the code around it, and short forms of the variables that the code names; nothing else.\n"
        "--dry-run shows it. Takes the flags of %%kimi, and a hint.",
        usage="%kimi_fix [flags] [hint]",
        examples="examples:\n  %kimi_fix\n  %kimi_fix --dry-run\n  %kimi_fix -m kimi-k3 keep the loop as it is",
    ),
    "kimi_draft": LineParser(
        "%kimi_draft",
        "Open a composer: text, model, what it costs while you type, Send, and Insert, which makes a %%kimi cell.\n"
        "Takes the flags of %%kimi and the beginning of a prompt, in a line or as a cell magic. Sends nothing.",
        usage="%kimi_draft [flags] [prompt]",
        examples="example:\n  %kimi_draft -m kimi-k3 --effort low Summarise {{report}}",
    ),
    "kimi_models": LineParser(
        "%kimi_models",
        "List the models that the host serves: context, abilities, price.",
        options=(Option(("--all",), "the retired ones too"), _JSON),
    ),
    "kimi_chat": LineParser(
        "%kimi_chat",
        "List the conversations that -c began, or the turns of one; and fork, rename, save, load, trim, reset them.\n"
        "A turn belongs to its cell: run again, the cell replaces it, and later turns are forgotten until their cells\n"
        "are run again.",
        options=(
            Option(("--fork",), "begin another conversation with these turns", metavar="NEW"),
            Option(("--rename",), "give it another name", metavar="NEW"),
            Option(("--reset",), "forget all its turns for good"),
            Option(("--save",), "write it to a JSON file: to PATH, or to where --load finds it by its name"),
            Option(("--load",), "read it from a file, also under another name", metavar="PATH"),
            Option(
                ("--trim",),
                "send its oldest turns no more, until it has at most TOKENS, or three quarters of the model's context",
            ),
            _JSON,
        ),
        usage="%kimi_chat [NAME] [flags] [PATH | TOKENS]",
        examples="examples:\n  %kimi_chat\n  %kimi_chat trip\n  %kimi_chat trip --fork trip2\n"
        "  %kimi_chat trip --save trip.json\n  %kimi_chat --load trip.json\n  %kimi_chat trip --trim 8000",
    ),
    "kimi_files": LineParser(
        "%kimi_files",
        "List the files of the account at the host, or delete some: what --upload and large videos left there.",
        options=(
            Option(("--delete",), "delete this file; may be repeated", metavar="ID", is_repeatable=True),
            Option(("--delete-all",), "delete all that were uploaded from here, and no others"),
            _JSON,
        ),
        usage="%kimi_files [flags]",
        examples="examples:\n  %kimi_files\n  %kimi_files --delete d41n8k1a2b3c\n  %kimi_files --delete-all",
    ),
    "kimi_budget": LineParser(
        "%kimi_budget",
        "Show what may be spent and what is left, set a budget, or take it away. No call can pass one: its answer is\n"
        "limited to what the rest pays for, and where that is no useful answer, it is refused before it is sent.\n"
        "Calls of all kernels count; a budget holds in this session, or with --save in all.",
        options=(Option(("--save",), "for all sessions"), _JSON),
        usage="%kimi_budget [AMOUNT [USD|CNY|tokens] [per call|session|notebook|day|week|month] | off [per …]]",
        examples="examples:\n  %kimi_budget 0.50\n  %kimi_budget --save 2 USD per day\n"
        "  %kimi_budget 100k tokens per notebook\n  %kimi_budget off per day\n  %kimi_budget off",
    ),
    "kimi_usage": LineParser(
        "%kimi_usage",
        "Show what calls took: of all kernels, as the ledger has it. Neither prompts nor answers are in it.",
        options=(
            Option(
                ("--by",), "sum up by this, or list each call", choices=("model", "notebook", "day", "cell", "call")
            ),
            Option(("--csv",), "print CSV"),
            Option(("--df",), "return a pandas DataFrame"),
            Option(("--plot",), "show the spending over time, by model"),
            Option(("--reprice",), "at the prices of today; the ledger stays as it is"),
            Option(("--limits",), "show the rate limits of the account, and what is used of them now"),
            Option(("--drift",), "prompt tokens expected beside billed, by model and time, and what estimates learnt"),
            Option(("--balance",), "the balance of the account beside what the ledger counts"),
            _JSON,
        ),
        usage="%kimi_usage [today|week|month|all] [flags]",
        examples="examples:\n  %kimi_usage\n  %kimi_usage today\n  %kimi_usage month --by day\n"
        "  calls = %kimi_usage all --df\n  %kimi_usage month --plot\n  %kimi_usage month --drift",
    ),
    "kimi_config": LineParser(
        "%kimi_config",
        "Show the settings, get one, or set one for this session.",
        options=(
            Option(("--save",), "set it for all sessions"),
            Option(("--unset",), "go back to the default", metavar="NAME"),
            _JSON,
        ),
        usage="%kimi_config [flags] [NAME | NAME=VALUE]",
        examples="examples:\n  %kimi_config model=kimi-k3\n  %kimi_config --save footer=off\n  %kimi_config model\n"
        "  %kimi_config cache clear",
    ),
}
