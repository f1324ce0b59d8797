# SPDX-License-Identifier: Apache-2.0
"""What a reader of a TTTv1 file should know: where TTTv1 would have done something else than the file says.

Every finding has a stable id; docs/exchange.md lists them. The defects are those of parse_decoder_json and
parse_optimizations in tt-metal models/tt_transformers/tt/model_config.py (@17a8a99d).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...hardware.enums import DataFormat, MathFidelity
from ...hardware.op_table import MATRICES, WEIGHT_OP_GROUPS, finest_op_groups
from ..findings import Finding, Severity
from ..kernel_words import Word, words
from ..layers import write_select

# TTTv1's word for "no format of its own": BF16 in attention and the residual, BFP8 inside the MLP.
MIXED = Word("MIXED", "mixed", None)
# Tensor groups of the weights in either half of a layer.
_MLP, _ATTENTION = (
    {op.tensor_group for op in MATRICES.values() if op.half == "mlp"},
    {op.tensor_group for op in MATRICES.values() if op.half == "attention"},
)
# What TTTv1 sets alike in every mode and for every model.
_SAME_IN_EVERY_MODE = ("ACTIVATION", "ACCURACY")
# More findings of one kind than this are counted, not listed.
_LISTED = 4


@dataclass(frozen=True)
class Stated:
    """What a file says of one layer, or a string of all: pairs of (group, format) and of (op group, setting)."""

    formats: tuple[tuple[Word, Word], ...] = ()
    kernels: tuple[tuple[Word, Word], ...] = ()

    def format_of(self, group: str) -> DataFormat | None:
        """The format of a tensor group, None where nothing is said of it."""
        return next((word.ours for name, word in self.formats if name.ours == group), None)

    def fidelity_of(self, op: str) -> MathFidelity | None:
        """The math fidelity of an op group, None where nothing is said of it."""
        return next((dict(word.ours)["math_fidelity"] for name, word in self.kernels if name.ours == op), None)


def spelling(written: bool) -> list[Finding]:
    """Defect 1: the file spells enum values where TTTv1 reads names only, or the string the other way round."""
    if not written:
        return []
    return [
        _hint(
            "tttv1-spelling",
            "Some names are not spelled as TTTv1 expects in this format.",
            "TTTv1 takes enum names (FF1_FF3, HIFI2_FP16) in JSON and values (ff1_3, hifi2fp16) in strings.",
            "Both are read here; files written here use TTTv1's spelling.",
        )
    ]


def model_rules(layers: Mapping[int, Stated], num_layers: int, mode: str | None) -> list[Finding]:
    """Defect 2: a file makes TTTv1 forget the rules it has for the model."""
    if len(layers) == num_layers and all(_complete(stated) for stated in layers.values()):
        return []
    return [
        _hint(
            "tttv1-model-rules",
            "What the file does not set follows the precision mode and the model's rules.",
            "TTTv1 reads a file as if for a model named 'model', so rules by model name do not apply there.",
            "Compare accuracy if you measured with TTTv1 and this file" + (f" in {mode} mode." if mode else "."),
        )
    ]


def missing_layers(given: Iterable[int], num_layers: int) -> list[Finding]:
    """Defect 3: TTTv1 takes the highest layer number in the file for the depth of the model.

    Layers that a file leaves out below its highest are no defect: TTTv1 gives them the mode, too.
    """
    first = max(given, default=-1) + 1
    if first == num_layers:
        return []
    return [
        _warning(
            "tttv1-missing-layers",
            f"The file ends before layer{'s' * (first < num_layers - 1)} {write_select(range(first, num_layers))}; "
            f"the model has {num_layers} layers.",
            "They follow the precision mode here. TTTv1 has no settings for them: input formats, or a KeyError.",
            "List these layers if that is not what you want.",
        )
    ]


def partial_sections(layers: Mapping[int, Stated], everywhere: bool = False) -> list[Finding]:
    """Defect 4: TTTv1 fills a section that names only some groups from its defaults, not from the mode."""
    partial = [
        layer
        for layer, stated in layers.items()
        if (stated.formats and _unsaid(stated.formats, "tensors"))
        or (stated.kernels and _unsaid(stated.kernels, "ops"))
    ]
    if not partial:
        return []
    where = "The string sets" if everywhere else f"In layers {write_select(partial)} the file sets"
    return [
        _hint(
            "tttv1-partial-section",
            f"{where} only some groups of a section.",
            "The others follow the precision mode here; in TTTv1 they are BFP8 and HiFi2 in any mode.",
            "Set every group where the difference matters.",
        )
    ]


def out_of_range(num_layers: int) -> list[Finding]:
    """Defect 5: the layer after the last is taken for the last."""
    return [
        _warning(
            "tttv1-layer-out-of-range",
            f"The file configures layer {num_layers}; the model has layers 0 to {num_layers - 1}.",
            "TTTv1 ignores it; most likely the last layer was meant, so it is applied to that layer here.",
            f"Write {num_layers - 1} instead.",
        )
    ]


def uniform(entries: int, layers: int) -> list[Finding]:
    """Defect 6: the format has no ranges."""
    if entries >= layers:
        return []
    return [
        _hint(
            "tttv1-uniform",
            f"{layers} layers of the file became {entries} entr{'y' if entries == 1 else 'ies'}.",
            "TTTv1 has no ranges, so equal layers are repeated.",
            "Nothing to do.",
        )
    ]


def one_section(missing: str) -> list[Finding]:
    """Defect 7: a string with one section."""
    return [
        _hint(
            "tttv1-one-section",
            f"The string has no {missing}.",
            "It is read as is; TTTv1 stops with an AttributeError.",
            "Nothing to do here; for TTTv1 write both sections.",
        )
    ]


def weak_fidelity(layers: Mapping[int, Stated]) -> list[Finding]:
    """Defect 8: an op multiplies with less fidelity than its weights carry."""
    where: dict[tuple[str, DataFormat, str, MathFidelity], list[int]] = {}
    for layer, stated in layers.items():
        for group, op_group in WEIGHT_OP_GROUPS.items():
            wide = stated.format_of(group)
            for op in finest_op_groups(op_group):
                fidelity = stated.fidelity_of(op)
                if wide is not None and fidelity is not None and fidelity.phases < wide.paired_fidelity.phases:
                    where.setdefault((group, wide, op, fidelity), []).append(layer)
    found = [
        _warning(
            "tttv1-fidelity-below-format",
            f"{group} weights are {wide}, but compute.{op} runs at {fidelity} in layers {write_select(at)}.",
            f"{fidelity} drops bits of {wide} weights, so these bits cost memory for nothing.",
            f"Use compute.{op}.math_fidelity={wide.paired_fidelity}, or a narrower format.",
        )
        for (group, wide, op, fidelity), at in list(where.items())[:_LISTED]
    ]
    more = len(where) - _LISTED
    if more > 0:
        found[-1] = _warning(
            "tttv1-fidelity-below-format",
            found[-1].what,
            f"{found[-1].why} The same applies in {more} more place{'s' * (more > 1)}.",
            found[-1].fix,
        )
    return found


def mode_mismatch(claimed: str | None, layers: Mapping[int, Stated]) -> list[Finding]:
    """Defect 9: a performance file that is an accuracy recipe, or an accuracy file with BFP4 MLPs."""
    stated = list(layers.values())
    if claimed == "performance" and stated and all(_accurate(each) for each in stated):
        what, other = "every op that it sets runs at HiFi4 and attention is BF16", "accuracy"
    elif claimed == "accuracy" and any(each.format_of(g) is DataFormat.BFP4 for each in stated for g in _MLP):
        what, other = "MLP weights are BFP4", "performance"
    else:
        return []
    return [
        _warning(
            "tttv1-mode-mismatch",
            f"The file is for {claimed} mode, but {what}.",
            f"That is what {other} mode is for, so the name is misleading.",
            "The content is used as is. Rename the file if the content is right.",
        )
    ]


def mixed_activations(layers: Mapping[int, Stated]) -> list[Finding]:
    """Says what `activation: mixed` became."""
    if not any(word is MIXED for stated in layers.values() for _, word in stated.formats):
        return []
    return [
        _hint(
            "tttv1-mixed-activations",
            "activation: mixed is read as BF16 activations with BFP8 inside the MLP.",
            "TTTv1 does the same when nothing is set; our precision modes may differ.",
            "Nothing to do.",
        )
    ]


def directory_name(path: Path | None, model_name: str | None) -> list[Finding]:
    """Defect 11: a directory that TTTv1 would not find, for its name differs from the model's in punctuation."""
    if path is None or not model_name:
        return []
    directory = path.absolute().parent.name
    if directory == model_name or _letters(directory) != _letters(model_name):
        return []
    return [
        _hint(
            "tttv1-directory-name",
            f"The directory is called {directory}, the model {model_name}.",
            "TTTv1 looks for the exact name and would not find this file.",
            f"Rename the directory to {model_name} if TTTv1 is to read it.",
        )
    ]


def _accurate(stated: Stated) -> bool:
    fidelities = [dict(word.ours)["math_fidelity"] for _, word in stated.kernels]
    attention = [stated.format_of(group) for group in _ATTENTION]
    return (
        bool(fidelities)
        and all(fidelity is MathFidelity.HiFi4 for fidelity in fidelities)
        and all(wide in (None, DataFormat.BF16) for wide in attention)
        and any(wide is DataFormat.BF16 for wide in attention)
    )


def _complete(stated: Stated) -> bool:
    return not _unsaid(stated.formats, "tensors") and not _unsaid(stated.kernels, "ops")


def _unsaid(section: tuple[tuple[Word, Word], ...], kind: Literal["tensors", "ops"]) -> bool:
    """Whether a section leaves out a group that TTTv1 sets by mode or model."""
    said = {name for name, _ in section}
    return any(word not in said and word.name not in _SAME_IN_EVERY_MODE for word in words(kind))


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name).casefold()


def _hint(id: str, what: str, why: str, fix: str) -> Finding:
    return Finding(id, Severity.hint, what, why, fix)


def _warning(id: str, what: str, why: str, fix: str) -> Finding:
    return Finding(id, Severity.warning, what, why, fix)
