"""Texts whose tokens are known: the only figures here that come from the K2 vocabulary itself."""

from __future__ import annotations

#: Source: kimi_api.md section 6, checked 2026-11-22.
MEASURED = {
    "hello world": 2,
    "Hello, world!": 4,
    "the quick brown fox jumps over the lazy dog": 9,
    "I've got it, don't worry.": 7,
    "你好，世界！": 4,
    "日本語のテキストです。": 8,
    "café résumé naïve": 8,
    "12345678901234567890": 7,
    "def add(a, b):\n    return a + b\n": 12,
    "price: $19.99, quantity: 42": 11,
    "getUserName": 3,
    "emoji test 😀🎉🚀": 9,
    "русский текст с числами 123": 10,
}
