"""What a text consists of, as far as it tells how many tokens it has: pieces, and the features counted in them.

Text is cut as the K2 vocabulary cuts it (kimi_api.md section 6). Each character adds to features of its own piece by
what stands to its left alone, so that no count ever falls when text is appended. A word that is listed, or begins a
listed one, has no letters that count; it gets them all at once with the letter that makes it another.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable

from kimi_magics.core import letters, words

# Ranges for character classes, written so that Python's `re` and JavaScript's `u` flag read them alike.
_UPPER = r"A-Z\u00c0-\u00d6\u00d8-\u00de"
_LOWER = r"a-z\u00aa\u00b5\u00ba\u00df-\u00f6\u00f8-\u02af\u0300-\u036f\u1e00-\u1eff"
_CYRILLIC = r"\u0400-\u052f"
_HAN = r"\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_KANA = r"\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"
_DIGIT = "0-9"
_SPACE = r"\t\u000b\u000c \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
_NEWLINE = r"\r\n"
_ASCII_SYMBOL = r"!-\/:-@\[-`\{-~"
_CJK_SYMBOL = r"\u3001-\u3004\u3008-\u3020\u3030-\u3040\u30a0\u30fb\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
_WIDE = "\U00010000-\U0010ffff"
# Letters of other scripts, by their blocks: Greek, Armenian to Mongolian, Greek with accents, Bopomofo, Hangul, Arabic.
_LETTER = r"\u0370-\u03ff\u0530-\u167f\u1681-\u1dff\u1f00-\u1fff\u3105-\u318f\ua000-\ud7ff\ufb00-\ufdff\ufe70-\ufefc"
_PLAIN = _UPPER + _LOWER + _CYRILLIC + _HAN + _KANA + _DIGIT + _SPACE + _NEWLINE
_NO_SYMBOL = _PLAIN + _LETTER

#: Classes of characters by name, each the source of a regular expression. Every character is in exactly one.
CHARACTER_CLASSES: dict[str, str] = {
    "latin": f"[{_UPPER}{_LOWER}]",
    "cyrillic": f"[{_CYRILLIC}]",
    "han": f"[{_HAN}]",
    "kana": f"[{_KANA}]",
    "digit": f"[{_DIGIT}]",
    "space": f"[{_SPACE}]",
    "newline": f"[{_NEWLINE}]",
    "symbol": f"[{_ASCII_SYMBOL}{_CJK_SYMBOL}]",
    "wide": f"[{_WIDE}]",
    "other": f"[^{_PLAIN}{_ASCII_SYMBOL}{_CJK_SYMBOL}{_WIDE}]",
}

# One character stands for all that count alike, the first match wins; ASCII symbols stand for themselves.
_SIGN = "→"
_STANDS_FOR = {
    "a": r"a-z",
    "A": r"A-Z",
    "é": _LOWER,
    "É": _UPPER,
    "я": r"\u0430-\u045f\u0461-\u052f",
    "Я": _CYRILLIC,
    "一": _HAN,
    "ア": r"\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f",
    "あ": _KANA,
    "α": _LETTER,
    "0": _DIGIT,
    " ": " ",
    "\t": _SPACE,
    "。": _CJK_SYMBOL,
    "😀": _WIDE,
}
_SHAPE_PATTERNS = {shape: re.compile(f"[{ranges}]") for shape, ranges in _STANDS_FOR.items()}


class _Shapes(dict[int, str]):
    """The shape of each character by its code point, looked up once: what `str.translate` takes."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if re.match(f"[{_ASCII_SYMBOL}{_NEWLINE}]", character):
            shape = character
        else:
            found = (shape for shape, pattern in _SHAPE_PATTERNS.items() if pattern.match(character))
            shape = next(found, _SIGN)
        self[code] = shape
        return shape


_SHAPES = _Shapes()
_CLASS_OF_SHAPE = {
    **dict.fromkeys("aAéÉ", "latin"),
    **dict.fromkeys("яЯ", "cyrillic"),
    "一": "han",
    **dict.fromkeys("あア", "kana"),
    "0": "digit",
    **dict.fromkeys(" \t", "space"),
    **dict.fromkeys("\r\n", "newline"),
    "😀": "wide",
    **dict.fromkeys("α→", "other"),
}
_WORD = "[AÉ]++[aé]*+|[aé]++"
_SCRIPT = "[яЯ]++|[あア]++|α++"
_SYMBOL = r"[^aAéÉяЯ一あアα0 \t\r\n]"
# A blank and what follows it: words, which one symbol may lead; Han; digits; symbols and their newlines; newlines.
_PIECE = re.compile(
    rf" ?+(?:{_WORD}|一++|{_SYMBOL}(?:{_WORD}|{_SCRIPT}|{_SYMBOL}*+[\r\n]*+)|0++|[\r\n]++|{_SCRIPT}|\t++)"
)

#: What is counted, by the class of the characters that it belongs to. A start is "after" a blank, "bare" when the piece
#: has none, a "mark" when one symbol leads the word; figures say from which character of its piece on one counts. "new"
#: is a word that is not listed, "more" of how many pieces it is beyond that; letters and pairs count for such alone.
FEATURES: dict[str, tuple[str, ...]] = {
    "space": ("blank", "blank_2", "blank_3", "tab", "tab_2"),
    "newline": ("newline", "newline_after_symbol", "newline_2"),
    "latin": (
        *("latin_after", "latin_bare", "latin_mark", "latin_after_mark"),
        *("latin_capital", "latin_capital_2", "latin_accent"),
        *("latin_new", "latin_more", "latin_5", "latin_9", "latin_pair"),
    ),
    "cyrillic": (
        *("cyrillic_after", "cyrillic_bare", "cyrillic_mark", "cyrillic_after_mark"),
        *("cyrillic_capital", "cyrillic_capital_2", "cyrillic_2"),
        *("cyrillic_new", "cyrillic_more", "cyrillic_5", "cyrillic_9", "cyrillic_pair"),
    ),
    "han": ("han_after", "han_bare", "han_2", "han_3", "han_4", "han_5", "han_more"),
    "kana": (
        *("kana_after", "kana_bare", "kana_mark", "kana_after_mark"),
        *("hiragana", "hiragana_6", "katakana", "kana_more"),
    ),
    "digit": ("digit_after", "digit_bare", "digit_group", "digit_more"),
    "symbol": ("symbol_after", "symbol_bare", "symbol_same", "symbol_2", "cjk_symbol", "cjk_symbol_2"),
    "wide": ("wide",),
    "other": ("letter", "letter_2", "sign", "sign_2"),
}
NAMES: tuple[str, ...] = tuple(name for names in FEATURES.values() for name in names)
# How a piece begins, as the ending of its first feature.
_AFTER, _BARE, _MARK, _AFTER_MARK = "_after", "_bare", "_mark", "_after_mark"

_ALPHABETS = {
    "latin": (words.LATIN_WORD, words.LATIN, letters.LATIN),
    "cyrillic": (words.CYRILLIC_WORD, words.CYRILLIC, letters.CYRILLIC),
}
_BLANK_RUN = re.compile("  ++")

Counts = dict[str, int]


def measure(text: str) -> Counts:
    """Return how often each feature of NAMES occurs in `text`; appended text makes none of the figures smaller."""
    counts = dict.fromkeys(NAMES, 0)
    first, *chunks = text.split(" ")
    _add_blanks(counts, text, len(chunks))
    # What is repeated is looked at once: a text consists of few words, and its pieces of fewer shapes.
    # ASCII is by far the quickest to translate, so it stays among itself.
    groups: dict[tuple[int, bool], list[str]] = {}
    for chunk, times in Counter(chunks).items():
        groups.setdefault((times, chunk.isascii()), []).append(chunk)
    shapes = first.translate(_SHAPES)
    pieces = Counter(_PIECE.findall(shapes))
    _add_words(counts, first, shapes, 1)
    for (times, _), group in groups.items():
        joined = " ".join(group)
        shapes = joined.translate(_SHAPES)
        _add_words(counts, joined, shapes, times)
        for piece, repeated in Counter(_PIECE.findall(" " + shapes)).items():
            pieces[piece] += times * repeated
    for piece, times in pieces.items():
        _add_piece(counts, piece.lstrip(" "), times, _AFTER if piece[0] == " " else _BARE)
    return counts


def count_characters(text: str) -> dict[str, int]:
    """Return how many characters of each of CHARACTER_CLASSES are in `text`."""
    found = dict.fromkeys(CHARACTER_CLASSES, 0)
    times_of: Iterable[tuple[str, int]]
    if text.isascii():
        # Few characters, and each is found by far quicker alone.
        shapes = text.translate(_SHAPES)
        times_of = ((shape, shapes.count(shape)) for shape in set(shapes))
    else:
        times_of = ((_SHAPES[ord(character)], times) for character, times in Counter(text).items())
    for shape, times in times_of:
        found[_CLASS_OF_SHAPE.get(shape, "symbol")] += times
    return found


def _add_words(counts: Counts, text: str, shapes: str, times: int) -> None:
    if "a" in shapes or "A" in shapes:
        _add_letters_of_new(counts, "latin", text, times)
    if "я" in shapes or "Я" in shapes:
        _add_letters_of_new(counts, "cyrillic", text, times)
    if "一" in shapes or "あ" in shapes or "ア" in shapes:
        _add_runs(counts, text, times)


def _add_runs(counts: Counts, text: str, times: int) -> None:
    """Count what runs of Han or kana have more than one piece."""
    groups: dict[int, list[str]] = {}
    for run, repeated in Counter(words.find_runs(text)).items():
        if run[0] < "一":
            counts["kana_more"] += times * repeated * (words.KANA.count_pieces(run) - 1)
        else:
            groups.setdefault(repeated, []).append(run)
    for repeated, runs in groups.items():
        joined = " ".join(runs)
        more = len(joined) - (2 * len(runs) - 1) - words.HAN.count_pairs(joined)
        counts["han_more"] += times * repeated * more


def _add_letters_of_new(counts: Counts, script: str, text: str, times: int) -> None:
    """Count the letters of the words that are not listed; those in capitals never are."""
    pattern, listed, scores = _ALPHABETS[script]
    new: list[str] = []
    more = length_5 = length_9 = 0
    for word, repeated in Counter(pattern.findall(text)).items():
        if word in listed.known:
            continue
        pieces = 2 if word[1:2].isupper() else listed.count_pieces(word.lower())
        if pieces > 1:
            new.extend([word] * repeated)
            more += repeated * (pieces - 2)
            length = len(word)
            length_5 += repeated * max(0, min(length, 8) - 4)
            length_9 += repeated * max(0, length - 8)
    counts[f"{script}_new"] += times * len(new)
    counts[f"{script}_more"] += times * more
    counts[f"{script}_5"] += times * length_5
    counts[f"{script}_9"] += times * length_9
    counts[f"{script}_pair"] += times * scores.score(" ".join(new))


def _add_blanks(counts: Counts, text: str, blanks: int) -> None:
    runs = _BLANK_RUN.findall(text)
    more = len("".join(runs)) - len(runs)
    counts["blank"] = blanks - more
    counts["blank_2"] = len(runs)
    counts["blank_3"] = more - len(runs)


def _add_piece(counts: Counts, piece: str, times: int, start: str) -> None:
    add = _ADDERS.get(piece[0])
    if add is None:
        # A run of symbols and the newlines after it, or one symbol that leads a word: the last character tells.
        add = _ADDERS.get(piece[-1])
        if add is None or add is _add_newlines:
            _add_symbols(counts, piece, times, start)
            return
        _add_symbols(counts, piece[0], times, start)
        start, piece = (_AFTER_MARK if start == _AFTER else _MARK), piece[1:]
    add(counts, piece, times, start)


def _add_latin(counts: Counts, word: str, times: int, start: str) -> None:
    _add_word(counts, "latin", word, times, start)
    counts["latin_accent"] += times * (word.count("é") + word.count("É"))


def _add_cyrillic(counts: Counts, word: str, times: int, start: str) -> None:
    _add_word(counts, "cyrillic", word, times, start)
    counts["cyrillic_2"] += times * (min(len(word), 4) - 1)


def _add_word(counts: Counts, script: str, word: str, times: int, start: str) -> None:
    capitals = sum(map(str.isupper, word))
    counts[script + start] += times
    counts[f"{script}_capital"] += times * (capitals > 0)
    counts[f"{script}_capital_2"] += times * max(0, capitals - 1)


def _add_han(counts: Counts, word: str, times: int, start: str) -> None:
    counts["han" + start] += times
    counts["han_2"] += times * (len(word) > 1)
    counts["han_3"] += times * (len(word) > 2)
    counts["han_4"] += times * (len(word) > 3)
    counts["han_5"] += times * max(0, len(word) - 4)


def _add_kana(counts: Counts, word: str, times: int, start: str) -> None:
    katakana = word.count("ア")
    hiragana = len(word) - katakana
    counts["kana" + start] += times
    counts["hiragana"] += times * hiragana
    counts["hiragana_6"] += times * max(0, hiragana - 5)
    counts["katakana"] += times * katakana


def _add_digits(counts: Counts, word: str, times: int, start: str) -> None:
    groups = (len(word) - 1) // 3
    counts["digit" + start] += times
    counts["digit_group"] += times * groups
    counts["digit_more"] += times * (len(word) - 1 - groups)


def _add_letters(counts: Counts, word: str, times: int, _start: str) -> None:
    counts["letter"] += times
    counts["letter_2"] += times * (len(word) - 1)


def _add_tabs(counts: Counts, word: str, times: int, _start: str) -> None:
    counts["tab"] += times
    counts["tab_2"] += times * (len(word) - 1)


def _add_newlines(counts: Counts, word: str, times: int, start: str) -> None:
    counts["newline_after_symbol" if start == _MARK else "newline"] += times
    # "\r\n" ends one line.
    counts["newline_2"] += times * (len(word) - word.count("\r\n") - 1)


def _add_symbols(counts: Counts, word: str, times: int, start: str) -> None:
    symbols = word.rstrip("\r\n")
    before = ""
    for character in symbols:
        if character == "。":
            name = "cjk_symbol_2" if before else "cjk_symbol"
        elif character == "😀":
            name = "wide"
        elif character == _SIGN:
            name = "sign_2" if before == _SIGN else "sign"
        elif before:
            name = "symbol_same" if character == before else "symbol_2"
        else:
            name = "symbol" + start
        counts[name] += times
        before = character
    if len(symbols) < len(word):
        _add_newlines(counts, word[len(symbols) :], times, _MARK)


_ADDERS: dict[str, Callable[[Counts, str, int, str], None]] = {
    **dict.fromkeys("aAéÉ", _add_latin),
    **dict.fromkeys("яЯ", _add_cyrillic),
    **dict.fromkeys("あア", _add_kana),
    **dict.fromkeys("\r\n", _add_newlines),
    "一": _add_han,
    "α": _add_letters,
    "0": _add_digits,
    "\t": _add_tabs,
}
