# SPDX-License-Identifier: Apache-2.0
"""Models that users may well ask for and that cannot be computed here, from conf/rules, each with its reason."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..common.errors import ConfigError
from ..models.uncomputed import UNCOMPUTED
from .conf_folders import read_yaml

_SUFFIX = re.compile(r"-(instruct|it)(-.*)?$")


def refuse(name: str) -> None:
    """Raises ConfigError with the reason when `name` means a refused model; returns otherwise.

    Names and Hugging Face ids match in any case, without -Instruct or -it too, whatever -, . and _ separate.
    """
    asked = _folded(name)
    for refused, entry in read_yaml("rules/refused_models.yaml").items():
        if asked in {_folded(each) for each in (refused, entry.get("hf_id")) if each}:
            raise ConfigError(f"{refused} is known but not supported: {reason(entry)}")


def refused_names() -> tuple[str, ...]:
    """The names of the refused models."""
    return tuple(read_yaml("rules/refused_models.yaml"))


def reason(entry: Mapping[str, str]) -> str:
    """Why a model of conf/rules/refused_models.yaml is refused: the reason of its model_type, or its own."""
    return UNCOMPUTED[entry["model_type"]] if "model_type" in entry else entry["reason"]


def _folded(name: str) -> str:
    """Without case, separators and ending, so that gemma3_1b is gemma-3-1b-it."""
    return re.sub(r"[-._]", "", _SUFFIX.sub("", re.sub(r"[._]", "-", name.casefold())))
