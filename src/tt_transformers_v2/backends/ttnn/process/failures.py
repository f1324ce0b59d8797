# SPDX-License-Identifier: Apache-2.0
"""What ttnn says when it refuses, without its stack of addresses."""

from __future__ import annotations

import re
from pathlib import Path

from ....common.errors import ConfigError

LONGEST = 600  # characters of ttnn's words that a message quotes

# TT_FATAL and TT_THROW print `TT_FATAL @ file:line: condition`, then `info:` and the sentence, then a backtrace.
_THROWN = re.compile(
    r"TT_(?:FATAL|THROW|ASSERT) @ \S+:\d+: (?P<condition>[^\n]*)(?P<rest>.*?)(?=\bbacktrace:|\bTT_(?:FATAL|THROW)|\Z)",
    re.S,
)
_NOT_A_SENTENCE = re.compile(r"^\s*(?:\d+\. |--- |Location: |info:|backtrace:|$)")


class TtnnFailure(ConfigError):
    """ttnn, or the process it ran in, gave up on a job.

    Args:
        message: what was asked for and what went wrong.
        said: ttnn's own words, or "" when it left none.
        log: everything the process printed, kept for reading; None when nothing was written.
    """

    def __init__(self, message: str, *, said: str = "", log: Path | None = None) -> None:
        where = f"Full output: {log}" if log else ""
        super().__init__(message if message.endswith((".", "!", "?")) else f"{message}.", where)
        self.said = said
        self.log = log


def own_words(text: str) -> str:
    """ttnn's sentence in the text of an exception, in one line; the first telling line of any other text."""
    said = thrown(text)
    return said[0] if said else _cut(next((line.strip() for line in text.splitlines() if _tells(line)), ""))


def thrown(text: str) -> list[str]:
    """Every sentence that TT_FATAL or TT_THROW printed into a text, each in one line."""
    return [_cut(_in_one_line(found["rest"]) or found["condition"]) for found in _THROWN.finditer(text)]


def _tells(line: str) -> bool:
    return not _NOT_A_SENTENCE.match(line)


def _in_one_line(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines() if _tells(line))


def _cut(said: str) -> str:
    return said if len(said) <= LONGEST else said[: LONGEST - 1] + "…"
