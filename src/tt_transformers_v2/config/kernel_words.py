# SPDX-License-Identifier: Apache-2.0
"""TTTv1's words for tensor groups, op groups, formats and kernel settings, from conf/rules/tttv1_names.yaml."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..common.errors import ConfigError, did_you_mean
from ..hardware.enums import DataFormat, MathFidelity
from ..hardware.schema import ComputeConfig
from .conf_folders import read_yaml

Kind = Literal["tensors", "formats", "ops", "fidelities"]

# What one entry of each kind is called in a message.
_CALLED: dict[Kind, str] = {
    "tensors": "tensor group",
    "formats": "format",
    "ops": "op group",
    "fidelities": "fidelity setting",
}
# No message repeats more of an untrusted word than this.
_SHOWN = 60


@dataclass(frozen=True)
class Word:
    """One entry of TTTv1's vocabulary: the enum member's `name`, its string `value`, and what it is here (`ours`).

    `ours` is a group of precision.* or compute.*, a DataFormat, or a tuple of (field, value) of a ComputeConfig.
    """

    name: str
    value: str
    ours: Any


@functools.cache
def words(kind: Kind) -> tuple[Word, ...]:
    """Every word of a kind, in TTTv1's order."""
    return tuple(Word(entry["name"], entry["value"], _ours(kind, entry["ours"])) for entry in _table()[kind])


def find(kind: Kind, text: Any, where: str = "") -> Word:
    """The word that `text` means: an enum name or a string value, in any case.

    Raises ConfigError naming `where` and the nearest word for anything else.
    """
    if isinstance(text, str):
        folded = text.strip().casefold()
        for word in words(kind):
            if folded in (word.name.casefold(), word.value):
                return word
    prefix = f"{where}: " if where else ""
    raise ConfigError(
        f"{prefix}{shown(text)} is not a {_CALLED[kind]} of TTTv1.",
        did_you_mean(str(text)[:_SHOWN], [word.value for word in words(kind)]),
    )


def word_of(kind: Literal["tensors", "formats", "ops"], ours: Any) -> Word | None:
    """The word for one of our groups or formats, or None where TTTv1 has none."""
    return next((word for word in words(kind) if word.ours == ours), None)


def kernel_settings(name: str) -> dict[str, Any]:
    """The fields of our ComputeConfig that a TTTv1 fidelity setting means; a fresh dict.

    `name` is an enum name or a string value, in any case: HIFI2_FP16, hifi2fp16. The fields are math_fidelity,
    math_approx_mode, fp32_dest_acc_en and packer_l1_acc; the other two keep ttnn's defaults. Raises ConfigError for an
    unknown name, with the nearest one.

    >>> kernel_settings("lofi")["fp32_dest_acc_en"]
    False
    """
    return dict(find("fidelities", name).ours)


def setting_name(config: ComputeConfig) -> str | None:
    """The string value of the TTTv1 setting that is exactly `config`, or None when TTTv1 cannot express it."""
    return next((word.value for word in words("fidelities") if ComputeConfig(**dict(word.ours)) == config), None)


def nearest_setting(config: ComputeConfig) -> str | None:
    """The TTTv1 setting of the same math fidelity that shares most fields with `config`; None for HiFi3.

    Of equals, the one with the same fp32_dest_acc_en is preferred, then the earlier one in TTTv1's table.
    """
    candidates = [word for word in words("fidelities") if dict(word.ours)["math_fidelity"] is config.math_fidelity]
    if not candidates:
        return None
    return max(candidates, key=lambda word: _likeness(config, word.ours)).value


def shown(value: Any) -> str:
    """An untrusted value as a message may repeat it: one line, printable, cut short."""
    text = repr(value) if isinstance(value, (str, int, float, bool)) or value is None else type(value).__name__
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _likeness(config: ComputeConfig, settings: Sequence[tuple[str, Any]]) -> tuple[bool, int]:
    same = [name for name, value in settings if getattr(config, name) == value]
    return "fp32_dest_acc_en" in same, len(same)


def _table() -> dict[str, Any]:
    return read_yaml("rules/tttv1_names.yaml")


def _ours(kind: Kind, ours: Any) -> Any:
    if kind == "formats":
        return DataFormat(ours)
    if kind == "fidelities":
        return tuple((name, MathFidelity(v) if name == "math_fidelity" else v) for name, v in ours.items())
    return ours
