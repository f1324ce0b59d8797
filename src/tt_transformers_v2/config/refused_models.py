# SPDX-License-Identifier: Apache-2.0
"""Models that users may well ask for and that cannot be computed here, each with its reason, from conf/rules."""

from __future__ import annotations

import re

from ..common.errors import ConfigError
from .conf_folders import read_yaml

_SUFFIX = re.compile(r"-(instruct|it)(-.*)?$")


def refuse(name: str) -> None:
    """Raises ConfigError with the reason when `name` means a refused model; returns otherwise.

    Names and Hugging Face ids match in any case, without -Instruct or -it too, whatever -, . and _ separate.
    """
    asked = _folded(name)
    for refused, entry in read_yaml("rules/refused_models.yaml").items():
        if asked in {_folded(each) for each in (refused, entry.get("hf_id")) if each}:
            raise ConfigError(f"{refused} is known but not supported: {entry['reason']}")


def refused_names() -> tuple[str, ...]:
    """The names of the refused models."""
    return tuple(read_yaml("rules/refused_models.yaml"))


def _folded(name: str) -> str:
    """Without case, separators and ending, so that gemma3_1b is gemma-3-1b-it."""
    return re.sub(r"[-._]", "", _SUFFIX.sub("", re.sub(r"[._]", "-", name.casefold())))
