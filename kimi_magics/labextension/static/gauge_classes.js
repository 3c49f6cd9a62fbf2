// Written by tests/gauge_golden.py from core/tokens.py.

/** Classes of characters that have about the same number of tokens each. */
export const CLASSES = {
  latin: /[A-Z\u00c0-\u00d6\u00d8-\u00dea-z\u00aa\u00b5\u00ba\u00df-\u00f6\u00f8-\u02af\u0300-\u036f\u1e00-\u1eff]/gu,
  cyrillic: /[\u0400-\u052f]/gu,
  han: /[\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]/gu,
  kana: /[\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f]/gu,
  digit: /[0-9]/gu,
  space: /[\t\u000b\u000c \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]/gu,
  newline: /[\r\n]/gu,
  symbol: /[!-\/:-@\[-`\{-~\u3001-\u3004\u3008-\u3020\u3030-\u3040\u30a0\u30fb\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65]/gu,
  wide: /[𐀀-􏿿]/gu,
  other: /[^A-Z\u00c0-\u00d6\u00d8-\u00dea-z\u00aa\u00b5\u00ba\u00df-\u00f6\u00f8-\u02af\u0300-\u036f\u1e00-\u1eff\u0400-\u052f\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f0-9\t\u000b\u000c \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000\r\n!-\/:-@\[-`\{-~\u3001-\u3004\u3008-\u3020\u3030-\u3040\u30a0\u30fb\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65𐀀-􏿿]/gu,
};
/** Tokens per character, where no kernel has said better. */
export const RATES = {
  latin: 0.16004,
  cyrillic: 0.23794,
  han: 0.66875,
  kana: 0.65742,
  digit: 0.608,
  space: 0.36052,
  newline: 0.1275,
  symbol: 0.94862,
  wide: 1.92,
  other: 0.51879,
};
