"""How near the local count comes to real byte-pair vocabularies, by kind of text and size, before and after learning.

    uv run python tests/benchmarks/accuracy.py

Three vocabularies play the endpoint: the ranks of o200k_base with the pre-token pattern of K2 (kimi_api.md section 6),
o200k_base itself and cl100k_base; the files come inside the package litellm, which is never imported. The sandbox's own
rule is the fourth. The judged texts are translations of JupyterLab, docstrings and sources of the standard library,
and JSON that Jupyter installs; none of them was calibrated on (see calibrate.py), and what is learnt from is another
half than what is judged.
"""

from __future__ import annotations

import ast
import base64
import gettext
import hashlib
import importlib.util
import os
import random
import re
import statistics
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import tiktoken

from kimi_magics.core.pieces import measure
from kimi_magics.core.tokens import DEFAULT_WEIGHTS, Weights, count_measured, learn
from kimi_magics.sandbox.tokens import split_tokens

KINDS = ("English", "Chinese", "Japanese", "Russian", "code", "JSON", "mixed")
SIZES = (50, 200, 1_000, 5_000, 20_000, 50_000)
PROMPTS_LEARNT = 20
RUNS = 8

_WORD = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}%s]*[\p{Ll}\p{Lm}\p{Lo}\p{M}%s]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_CAPITALS = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}%s]+[\p{Ll}\p{Lm}\p{Lo}\p{M}%s]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_LEAD, _NO_HAN = r"[^\r\n\p{L}\p{N}]?", r"&&[^\p{Han}]"
_SPACES = (r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+")
K2_PATTERN = "|".join(
    (
        r"[\p{Han}]+",
        _LEAD + _WORD % (_NO_HAN, _NO_HAN),
        _LEAD + _CAPITALS % (_NO_HAN, _NO_HAN),
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        *_SPACES,
    )
)
# https://github.com/openai/tiktoken/blob/main/tiktoken_ext/openai_public.py
O200K_PATTERN = "|".join(
    (
        _LEAD + _WORD % ("", ""),
        _LEAD + _CAPITALS % ("", ""),
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        *_SPACES,
    )
)
CL100K_PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"
    r"|\s+(?!\S)|\s"
)


@cache
def read_ranks(name: str) -> dict[bytes, int]:
    """Return a vocabulary of OpenAI by its name, from the copy inside litellm, named by the hash of its address."""
    spec = importlib.util.find_spec("litellm")
    assert spec is not None
    address = f"https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
    folder = Path(spec.submodule_search_locations[0], "litellm_core_utils", "tokenizers")
    lines = (folder / hashlib.sha1(address.encode()).hexdigest()).read_bytes().splitlines()
    return {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines)}


def _make(ranks: str, pattern: str) -> Callable[[str], int]:
    @cache
    def build() -> tiktoken.Encoding:
        return tiktoken.Encoding("judge", pat_str=pattern, mergeable_ranks=read_ranks(ranks), special_tokens={})

    return lambda text: len(build().encode_ordinary(text))


#: Who plays the endpoint: its name, and how it counts.
JUDGES: dict[str, Callable[[str], int]] = {
    "K2 pattern, o200k ranks": _make("o200k_base", K2_PATTERN),
    "o200k_base": _make("o200k_base", O200K_PATTERN),
    "cl100k_base": _make("cl100k_base", CL100K_PATTERN),
    "sandbox": lambda text: len(split_tokens(text)),
}

# ---------------------------------------------------------------- texts

_SCRIPTS = {
    "Chinese": ("zh_CN", r"[\u4e00-\u9fff]", "", 8),
    "Japanese": ("ja_JP", r"[\u3040-\u30ff\u4e00-\u9fff]", "", 8),
    "Russian": ("ru_RU", r"[\u0400-\u04ff]", " ", 20),
}


def join_sentences(sentences: Iterable[str], script: str, glue: str, least: int) -> list[str]:
    """Return paragraphs of five sentences that are long enough and mostly in their own script."""
    kept = [
        sentence.strip()
        for sentence in sentences
        if len(sentence.strip()) >= least and len(re.findall(script, sentence)) >= 0.4 * len(sentence.strip())
    ]
    if not glue:
        kept = [sentence if sentence[-1] in ".。！？!?:：;；" else f"{sentence}。" for sentence in kept]
    return [glue.join(kept[start : start + 5]) for start in range(0, len(kept), 5)]


def read_translations(path: Path) -> list[str]:
    """Return the translated sentences of a compiled catalogue, in the order of the originals."""
    with path.open("rb") as file:
        catalog = gettext.GNUTranslations(file)._catalog
    return [
        text for key, text in sorted(catalog.items(), key=lambda item: str(item[0])) if key and isinstance(text, str)
    ]


def read_docstrings(source: str) -> list[str]:
    """Return the longer docstrings of a module."""
    tree = ast.parse(source)
    nodes = (node for node in ast.walk(tree) if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)))
    return [text for node in nodes if len(text := ast.get_docstring(node) or "") > 200]


def _split_halves(texts: list[str]) -> tuple[list[str], list[str]]:
    return texts[::2], texts[1::2]


#: What else is installed, as for charts, shall not change what is judged.
_EXTENSIONS = ("@jupyter-notebook", "@jupyter-widgets", "jupyterlab_pygments", "kimi-magics")


def find_schemas() -> list[Path]:
    """Return the files of JSON that the front ends install, and this project."""
    root = Path(sys.prefix, "share", "jupyter")
    extensions = root / "labextensions"
    return sorted(
        path
        for path in root.rglob("*.json")
        if not path.is_relative_to(extensions) or path.relative_to(extensions).parts[0] in _EXTENSIONS
    )


@cache
def read_texts() -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return the texts that are learnt from and those that are judged, by kind."""
    pools: dict[str, tuple[list[str], list[str]]] = {}
    for kind, (tag, script, glue, least) in _SCRIPTS.items():
        spec = importlib.util.find_spec(f"jupyterlab_language_pack_{tag}")
        assert spec is not None
        paths = sorted(Path(spec.submodule_search_locations[0]).rglob("*.mo"))
        paragraphs = [text for path in paths for text in join_sentences(read_translations(path), script, glue, least)]
        halves = _split_halves(["\n\n".join(paragraphs[at : at + 4]) for at in range(0, len(paragraphs), 4)])
        pools[kind] = halves
    modules = [path.read_text("utf-8") for path in sorted(Path(os.__file__).parent.glob("*.py"))]
    pools["code"] = _split_halves([source[:60_000] for source in modules])
    docstrings = [["\n\n".join(read_docstrings(source))] for source in modules]
    pools["English"] = _split_halves([text for texts in docstrings for text in texts if len(text) > 400])
    pools["JSON"] = _split_halves([path.read_text("utf-8")[:40_000] for path in find_schemas()])
    learnt, judged = ({kind: pool[half] for kind, pool in pools.items()} for half in (0, 1))
    return learnt, judged


_BORDER = re.compile(r"[\n 。、]")


def draw(pool: dict[str, list[str]], kind: str, size: int, chance: random.Random) -> str:
    """Return a text of `size` characters: whole texts, or a part that begins at a border of words."""
    parts: list[str] = []
    left = size
    while left > 0:
        if kind == "mixed":
            length = min(left, chance.choice((20, 60, 150, 400, 1_000)))
            part = draw(pool, chance.choice(KINDS[:-1]), length, chance)
            part += chance.choice(("\n", "\n\n", " ", ""))
        else:
            weights = [len(text) ** 0.5 for text in pool[kind]]
            text = chance.choices(pool[kind], weights)[0]
            start = chance.randrange(max(1, len(text) - left))
            border = _BORDER.search(text, start) if start else None
            start = border.end() if border and border.end() < len(text) - 1 else start
            part = text[start : start + left] + "\n\n"
        parts.append(part)
        left -= len(part)
    return "".join(parts)[:size]


@dataclass(frozen=True)
class Text:
    """One judged text and where it stands in the table."""

    kind: str
    size: int
    text: str


def draw_judged(each: int, *, seed: int = 21) -> list[Text]:
    """Return `each` texts for every kind and size, four times as many up to 1,000 characters, where chance rules."""
    chance, pool = random.Random(seed), read_texts()[1]
    return [
        Text(kind, size, draw(pool, kind, size, chance))
        for kind in KINDS
        for size in SIZES
        for _ in range(each if size > 1_000 else 4 * each)
    ]


def draw_prompts(count: int, *, seed: int) -> list[str]:
    """Return prompts as they come in: of any kind, and of 64 to 20,000 characters, short ones as often as long ones."""
    chance, pool = random.Random(seed), read_texts()[0]
    return [draw(pool, chance.choice(KINDS), int(2 ** chance.uniform(6, 14.3)), chance) for _ in range(count)]


# ---------------------------------------------------------------- judging


def learn_all(prompts: Iterable[str], judge: Callable[[str], int]) -> Weights:
    """Return the weights after the judge counted each of the prompts."""
    weights = DEFAULT_WEIGHTS
    for prompt in prompts:
        weights = learn(weights, [prompt], judge(prompt))
    return weights


def find_errors(
    texts: list[Text], judge: Callable[[str], int], weights: Iterable[Weights]
) -> dict[tuple[str, int], float]:
    """Return the median relative error for each kind and size, over all the texts and weights."""
    errors: dict[tuple[str, int], list[float]] = {}
    counted = [judge(text.text) for text in texts]
    counts = [tuple(measure(text.text).values()) for text in texts]
    for learnt in weights:
        for text, tokens, measured in zip(texts, counted, counts, strict=True):
            error = abs(count_measured(measured, learnt) - tokens) / tokens
            errors.setdefault((text.kind, text.size), []).append(error)
    return {cell: statistics.median(values) for cell, values in errors.items()}


def summarize(errors: dict[tuple[str, int], float]) -> tuple[float, dict[str, float]]:
    """Return the median over the whole table and over the sizes of each kind; each cell counts once."""
    kinds = {kind: statistics.median(value for (of, _), value in errors.items() if of == kind) for kind in KINDS}
    return statistics.median(errors.values()), kinds


def format_table(title: str, errors: dict[tuple[str, int], float]) -> Iterator[str]:
    """Yield the lines of a table in percent."""
    whole, kinds = summarize(errors)
    sizes = sorted({size for _, size in errors})
    yield f"{title}: median {whole:.2%}"
    yield "".join([f"  {'':10}", *(f"{size:>9,}" for size in sizes), "   median"])
    for kind in KINDS:
        yield "".join([f"  {kind:10}", *(f"{errors[kind, size]:9.2%}" for size in sizes), f"{kinds[kind]:9.2%}"])


def main() -> None:
    """Print the table for each judge."""
    texts = draw_judged(10)
    runs = [draw_prompts(PROMPTS_LEARNT, seed=seed) for seed in range(21_000, 21_000 + RUNS)]
    print(textwrap.dedent(__doc__.split("\n\n", 2)[2]))
    for name, judge in JUDGES.items():
        print(*format_table(f"{name}, before learning", find_errors(texts, judge, [DEFAULT_WEIGHTS])), sep="\n")
        learnt = [learn_all(prompts, judge) for prompts in runs]
        title = f"{name}, after {PROMPTS_LEARNT} prompts"
        print(*format_table(title, find_errors(texts, judge, learnt)), sep="\n", end="\n\n")


if __name__ == "__main__":
    main()
