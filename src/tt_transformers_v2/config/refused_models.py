# SPDX-License-Identifier: Apache-2.0
"""Models that users may well ask for and that cannot be computed here, each with its reason, from conf/rules."""

from __future__ import annotations

import re

from ..common.errors import ConfigError
from .conf_folders import read_yaml

_SUFFIX = re.compile(r"-(instruct|it)(-.*)?$")


def refuse(name: str) -> None:
    """Raises ConfigError with the reason when `name` means a refused model; returns otherwise.

    Names and Hugging Face ids match in any case, without -Instruct or -it too, and with -, . and _ interchangeable.
    """
    asked = _folded(name)
    for refused, entry in read_yaml("rules/refused_models.yaml").items():
        names = {_folded(each) for each in (refused, entry.get("hf_id")) if each}
        if asked in names | {_SUFFIX.sub("", each) for each in names}:
            raise ConfigError(f"{refused} is known but not supported: {entry['reason']}")


def _folded(name: str) -> str:
    return re.sub(r"[-._]", "-", name.casefold())
