# SPDX-License-Identifier: Apache-2.0
"""What a result says besides its figures, as (label, sentence) pairs for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..run.result_files import look_up
from .metrics import BASED

Fact = tuple[str, str]
_COUNTS = {"asked_ops": "checked", "failed_ops": "rejected", "fitted_ops": "fitted"}


def job_facts(result: Mapping[str, Any]) -> list[Fact]:
    """Basis, trust, nearest measured row, memory, findings, rules and preflight of a result; [] for an empty one."""
    parts = (_basis, _trust, _nearest, _memory, _checks, _preflight)
    return [fact for part in parts for fact in part(result)]


def _basis(result: Mapping[str, Any]) -> list[Fact]:
    found = []
    for section in BASED:
        basis = look_up(result, f"{section}.basis")
        if basis:
            found.append((section.rpartition(".")[2], str(basis)))
    assumes = look_up(result, "performance.assumes")
    if isinstance(assumes, dict):
        found.append(("prediction assumes", ", ".join(f"{name} {value}" for name, value in assumes.items())))
    text, tokens = look_up(result, "accuracy.text"), look_up(result, "accuracy.tokens")
    if text:
        found.append(("text", f"{tokens} tokens of {text}"))
    return found


def _trust(result: Mapping[str, Any]) -> list[Fact]:
    found = []
    for name, key in (("decode", "decode_confidence"), ("prefill", "prefill_confidence")):
        confidence = look_up(result, f"performance.{key}")
        if not isinstance(confidence, dict):
            continue
        band, reasons = confidence.get("band_percent"), confidence.get("reasons")
        width = f", ±{band:.0f} %" if isinstance(band, int | float) else ""
        why = f": {'; '.join(map(str, reasons))}" if isinstance(reasons, list) and reasons else ""
        found.append((f"confidence in {name}", f"{confidence.get('class')}{width}{why}"))
    return found


def _nearest(result: Mapping[str, Any]) -> list[Fact]:
    row = look_up(result, "performance.nearest_measured")
    if not isinstance(row, dict):
        return []
    where = f"{row.get('model')} on {row.get('device')}, {row.get('mode')}, batch {row.get('batch')}"
    figures = f"{row.get('tokens_per_s_per_user')} tokens/s/user, TTFT {row.get('ttft_ms')} ms"
    return [("nearest measured", f"{where}: {figures} ({row.get('source')})")]


def _memory(result: Mapping[str, Any]) -> list[Fact]:
    summary = look_up(result, "performance.memory.summary")
    return [("memory", str(summary).splitlines()[0])] if summary else []


def _checks(result: Mapping[str, Any]) -> list[Fact]:
    found = [
        (str(finding.get("severity")), " ".join(str(finding.get(part, "")) for part in ("what", "why", "fix")))
        for finding in _objects(result.get("findings"))
    ]
    names = dict.fromkeys(
        str(rule.get("rule")) for rule in _objects(result.get("rules")) if not rule.get("overruled_by")
    )
    return [*found, *([("rules", ", ".join(names))] if names else [])]


def _objects(found: Any) -> list[dict[str, Any]]:
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _preflight(result: Mapping[str, Any]) -> list[Fact]:
    section = result.get("preflight")
    if not isinstance(section, dict):
        return []
    counts = [f"{section[key]} {name}" for key, name in _COUNTS.items() if section.get(key) is not None]
    return [("ops", ", ".join(counts))] if counts else []
