"""A prompt in one line may end with a question mark, which IPython would read as a call for help."""

from __future__ import annotations

import re

_QUESTION = re.compile(r"^(\s*)%(kimi|kimi_estimate|kimi_draft)[ \t]+(.*\w.*\?)\s*$")


def keep_questions(lines: list[str]) -> list[str]:
    """Turn `%kimi … ?` into the call that it means; `%kimi?` stays help.

    The body of a cell magic and strings over several lines are left as they are.
    """
    if lines and lines[0].startswith("%%"):
        return lines
    result, quotes = [], 0
    for line in lines:
        match = None if quotes % 2 else _QUESTION.match(line)
        if match:
            indent, name, text = match.groups()
            line = f"{indent}get_ipython().run_line_magic({name!r}, {text!r})\n"
        else:
            quotes += line.count('"""') + line.count("'''")
        result.append(line)
    return result
