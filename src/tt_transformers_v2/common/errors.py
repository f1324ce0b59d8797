# SPDX-License-Identifier: Apache-2.0
"""The one exception a user's mistake ends in, and the words that help to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ConfigError(ValueError):
    """A mistake in what the user asked for: one or two lines, never a traceback on the command line.

    Args:
        message: what was wrong and what was expected.
        hint: the likely fix, as a sentence; printed after the message.

    `exit_code` is what a command that ends in it returns.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message} {hint}".strip())
        self.message = message
        self.hint = hint


def closest(word: str, choices: Iterable[str]) -> str | None:
    """The choice most like `word`, or the only one that begins with it, ignoring case; None when nothing is near."""
    by_folded = {choice.casefold(): choice for choice in choices}
    begun = [choice for choice in by_folded if len(word) > 2 and choice.startswith(word.casefold())]
    if len(begun) == 1:
        return by_folded[begun[0]]
    found = difflib.get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.55)
    return by_folded[found[0]] if found else None


def did_you_mean(word: str, choices: Iterable[str], prefix: str = "") -> str:
    """`Did you mean x? choices: …` for an unknown `word`; the choices alone when nothing is near."""
    options = list(choices)
    listed = "choices: " + ", ".join(options)
    near = closest(word, options)
    return f"Did you mean {prefix}{near}? {listed}" if near else listed
