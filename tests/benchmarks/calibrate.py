"""Print the first weights of the local count and its tables of letter pairs, fitted to the stand-in for K2.

    uv run python tests/benchmarks/calibrate.py FOLDER

FOLDER has one folder of text files for each kind but "mixed", as `accuracy.KINDS` names them. What is in the package
was fitted to other text than accuracy.py judges by: translations of git, PostgreSQL, coreutils, dpkg, GnuPG, GLib,
wget, bash, glibc and Sphinx; docstrings and sources of Django and Sphinx, headers of C, the read-me files of a dozen
packages; JSON of litellm, matplotlib and of the system. The measured pairs of kimi_api.md section 6 are part of the
fit. `--pairs` prints the tables of letter pairs instead, and `--words` the lists of words, on which the weights build:
tokens of o200k_base that the texts have most often, and Latin ones that the vocabulary ranks first.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tiktoken
from accuracy import JUDGES, K2_PATTERN, KINDS, read_ranks
from measured import MEASURED

from kimi_magics.core import pieces

JUDGE = JUDGES["K2 pattern, o200k ranks"]
#: Tokens that each kind weighs in the fit, and lines that one measured pair weighs.
KIND_WEIGHTS = {"English": 2.0, "code": 2.0}
MEASURED_WEIGHT = 40.0
#: How many lines of its typical size the fit would need to move a weight from what the others say.
RIDGE = 1.0
#: What the lists of words are of, how many come from the texts, and how many from the ranks of the vocabulary.
WORD_LISTS = {
    "LATIN": ("[a-z]{2,}", 3_500, 2_000),
    "CYRILLIC": ("[а-яё]{2,}", 2_200, 300),
    "HAN": (r"[\u4e00-\u9fff]{2}", 876, 800),
    "KANA": (r"[\u3041-\u3096\u30a1-\u30fa\u30fc]{2,}", 1_000, 0),
}


def solve(rows: np.ndarray, wanted: np.ndarray, ridge: float, rounds: int = 400) -> np.ndarray:
    """Return the weights of the least squares that are not negative, by coordinates."""
    gram, right = rows.T @ rows + ridge * np.eye(rows.shape[1]), rows.T @ wanted
    weights = np.zeros(len(right))
    for _ in range(rounds):
        for at in range(len(right)):
            weights[at] = max(0.0, weights[at] + (right[at] - gram[at] @ weights) / gram[at, at])
    return weights


def fit_pairs(texts: list[str], letters: str, word: str) -> tuple[str, str]:
    """Return in tenths of a token what each pair of letters adds to a word, side by side and with one between."""
    counts = Counter(found for text in texts for found in re.findall(word, text))
    words = [found for found, _ in counts.most_common(40_000)]
    weights = np.array([counts[found] for found in words]) ** 0.25
    where, size = {letter: at for at, letter in enumerate(letters)}, len(letters)
    rows = np.zeros((len(words), 8 + 2 * size * size))
    for row, found in zip(rows, words, strict=True):
        length, lower = len(found.strip()), found.strip().lower()
        row[:3] = 1, found.strip()[0].isupper(), found[0] == " "
        row[3:6] = min(length, 4) - 1, max(0, min(length, 8) - 4), max(0, length - 8)
        for distance in (1, 2):
            begin = 8 + (distance - 1) * size * size
            for first, second in zip(lower, lower[distance:], strict=False):
                if first in where and second in where:
                    row[begin + where[first] * size + where[second]] += 1
    tokens = np.array([JUDGE(found) for found in words])
    solved = solve(rows * weights[:, None], tokens * weights, 4.0, rounds=60)[8:]
    digits = "".join(str(min(9, round(10 * value))) for value in solved)
    return digits[: size * size], digits[size * size :]


def list_words(texts: dict[str, list[str]]) -> Iterator[tuple[str, list[str]]]:
    """Yield the name of each script and its words that are one token, in small letters and sorted."""
    ranks = read_ranks("o200k_base")
    encoding = tiktoken.Encoding("judge", pat_str=K2_PATTERN, mergeable_ranks=ranks, special_tokens={})
    shares: Counter[str] = Counter()
    for of_kind in texts.values():
        counts = Counter(token for text in of_kind for token in encoding.encode_ordinary(text))
        for token, times in counts.items():
            shares[_find_word(encoding.decode_single_token_bytes(token))] += times / counts.total()
    ranked = list(dict.fromkeys(_find_word(token) for token in sorted(ranks, key=ranks.get)))
    for name, (pattern, by_use, by_rank) in WORD_LISTS.items():
        used = [word for word, _ in shares.most_common() if re.fullmatch(pattern, word)][:by_use]
        known = set(used)
        others = [word for word in ranked if re.fullmatch(pattern, word) and word not in known]
        yield name, sorted({*used, *others[:by_rank]})


def _find_word(token: bytes) -> str:
    """Return the word in a token without a sign that leads it, in small letters; capitals alone are no word."""
    found = re.fullmatch(r"[\W\d_]?([^\W\d_]+)", token.decode("utf-8", "replace"))
    return "" if found is None or found[1][:2].isupper() else found[1].lower()


def pack_words(words: list[str]) -> str:
    """Return sorted words as core/words.py reads them: a capital for the letters that stay of the last one."""
    last, packed = "", []
    for word in words:
        shared = next((at for at, pair in enumerate(zip(last, word, strict=False)) if len({*pair}) > 1), len(last))
        packed.append(chr(ord("A") + shared) + word[shared:])
        last = word
    return "".join(packed)


def fit_weights(texts: dict[str, list[str]]) -> dict[str, float]:
    """Return the tokens for each feature, fitted to the lines of the texts, each by its own size."""
    rows, wanted = [], []
    for kind, of_kind in texts.items():
        lines = Counter(line for text in of_kind for line in text.splitlines(keepends=True) if line.strip())
        total = sum(len(line) * times for line, times in lines.items())
        for line, times in lines.items():
            tokens = JUDGE(line)
            weight = (KIND_WEIGHTS.get(kind, 1.0) * 1e6 / total * times**0.8 / (tokens + 1)) ** 0.5
            rows.append(np.array(list(pieces.measure(line).values())) * weight)
            wanted.append(tokens * weight)
    for text, tokens in MEASURED.items():
        weight = (MEASURED_WEIGHT / (tokens + 1)) ** 0.5
        rows.append(np.array(list(pieces.measure(text).values())) * weight)
        wanted.append(tokens * weight)
    solved = solve(np.array(rows), np.array(wanted), RIDGE)
    return dict(zip(pieces.NAMES, map(float, solved), strict=True))


def main() -> None:
    """Print the weights, or with --pairs or --words the tables."""
    folder = Path(sys.argv[1])
    texts = {kind: [path.read_text("utf-8") for path in sorted((folder / kind).iterdir())] for kind in KINDS[:-1]}
    if "--words" in sys.argv:
        for name, words in list_words(texts):
            lines = (f'    "{line}"' for line in textwrap.wrap(pack_words(words), 110))
            print(f"_{name} = (", *lines, ")", sep="\n")
        return
    if "--pairs" in sys.argv:
        latin = [text for kind in ("English", "code", "JSON") for text in texts[kind]]
        for digits in (
            *fit_pairs(latin, "abcdefghijklmnopqrstuvwxyz", r" ?[A-Z]?[a-z]+"),
            *fit_pairs(texts["Russian"], "абвгдежзийклмнопрстуфхцчшщъыьэюя", r" ?[А-Я]?[а-я]+"),
        ):
            print(*(f'    "{line}"' for line in textwrap.wrap(digits, 100)), sep="\n", end="\n\n")
        return
    for name, weight in fit_weights(texts).items():
        print(f'    "{name}": {weight:.3g},')


if __name__ == "__main__":
    main()
