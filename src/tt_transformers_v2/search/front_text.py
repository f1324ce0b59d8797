# SPDX-License-Identifier: Apache-2.0
"""A search as lines of text: the front as a table, what was chosen, what is not to be trusted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_MOST_SENSITIVE = 5
# How many times more or less than estimated may be measured before a search says that it is much.
_FAR_OFF = 2.0


def section_lines(section: Mapping[str, Any]) -> Iterator[Any]:
    """Lines and tables for rich's console, from the `search` section of a result."""
    base = section["base"]
    yield f"[dim]{section['basis']}; {section['tokens']} tokens of {section['text']}[/]"
    yield (
        f"most accurate options: KL [bold]{base['kl']:.4f}[/], top-1 {base['top1']:.1%}, "
        f"{base['decode_tokens_per_s_per_user']:.2f} tokens/s/user predicted"
    )
    yield from _rounding(section.get("rounding"))
    yield from _estimated(section["estimates"])
    yield from _sensitive(section)
    if section.get("points") is None:
        return
    yield _table(section)
    yield f"[dim]verified on {section['verified_on']}; KL with its 95 % interval; speed is predicted[/]"
    if section["points_not_verified_in_time"]:
        left_out = section["points_not_verified_in_time"]
        yield f"[yellow]{left_out} points were not verified: search.max_minutes ran out[/]"
    yield _verdict(section["beats_performance"])
    if section["chosen"]:
        chosen = next(row for row in section["points"] if row["name"] == section["chosen"])
        yield f"[bold]chosen {chosen['name']}[/]: {chosen['sentence']}"
        yield f"use it with --config-dir RUN_FOLDER tuning={chosen['name']}"
        if chosen.get("weights_command"):
            yield f"and quantize.weights=DIR, which {chosen['weights_command']} writes for the same device and model"


def _rounding(rounding: Mapping[str, Any] | None) -> Iterator[str]:
    if rounding is None:
        return
    yield f"[dim]weights calibrated on {rounding['tokens']} tokens of {rounding['text']}[/]"
    for line in rounding["warnings"]:
        yield f"[yellow]{line}[/]"


def _estimated(estimates: Mapping[str, Any] | None) -> Iterator[str]:
    if estimates is None:
        return
    checks, scale = estimates["checks"], estimates["scale"]
    made = f"sensitivities estimated by gradients ({estimates['samples']} samples) in {estimates['seconds']:.0f} s"
    if scale is None:
        yield f"[yellow]{made}; the {len(checks)} measured to compare are lost in noise, and estimates unscaled[/]"
        return
    style = "dim" if 1 / _FAR_OFF <= scale <= _FAR_OFF else "yellow"
    yield f"[{style}]{made}; {len(checks)} of them measured: {scale:.2f} times the estimates, which are scaled so[/]"
    if style == "yellow":
        yield "[yellow]so far apart, estimates are a weak guide: search.method=measured measures all[/]"


def _sensitive(section: Mapping[str, Any]) -> Iterator[str]:
    rows = sorted(section["sensitivities"], key=lambda row: -row["kl_change"])[:_MOST_SENSITIVE]
    if rows:
        named = [
            f"{'' if row['layer'] is None else 'layer ' + str(row['layer']) + ' '}{row['site']} {row['option']} "
            f"{row['kl_change']:+.4f}"
            for row in rows
        ]
        yield f"most sensitive: {', '.join(named)}"
    for what, layers in section["not_measured"].items():
        yield f"[yellow]not reached in time: {what} in layers {', '.join(layers)}; run the same command to continue[/]"


def _table(section: Mapping[str, Any]) -> Any:
    from rich.table import Table

    table = Table()
    for column in ("", "tokens/s/user", "TTFT ms", "KL", "95 %", "top-1", "PCC", "KL searched", "KL estimated"):
        table.add_column(column, justify="left" if not column else "right")
    for row in (*section["points"], *section["presets"]):
        mark = " *" if row["name"] == section["chosen"] else ""
        estimated = row.get("estimated_kl")
        table.add_row(
            f"{row['name']}{mark}",
            f"{row['decode_tokens_per_s_per_user']:.2f}",
            f"{row['ttft_ms']:.0f}",
            f"{row['kl_divergence']:.4f}",
            "" if row["kl_low"] is None else f"{row['kl_low']:.4f} to {row['kl_high']:.4f}",
            f"{row['top1']:.1%}",
            f"{row['pcc']:.5f}",
            f"{row['searched_kl']:.4f}",
            "" if estimated is None else f"{estimated:.4f}",
            style="dim" if row["dominated"] else "",
        )
    return table


def _verdict(verdict: Mapping[str, Any]) -> str:
    if verdict["point"] is None:
        return f"[yellow]no point beats {verdict['preset']} in both speed and KL[/]: {verdict['why']}"
    return (
        f"[bold]{verdict['point']}[/] beats {verdict['preset']} in both speed and KL: {verdict['speed_percent']:+.2f} "
        f"% predicted speed, {verdict['kl_ratio']:.2f} times its KL"
    )
