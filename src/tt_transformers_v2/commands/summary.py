# SPDX-License-Identifier: Apache-2.0
"""The summary that a run prints when it is done."""

from __future__ import annotations

import sys
from typing import Any

from ..common.terminal import console
from ..config.resolve import Experiment
from ..config.rule_lines import rule_lines


def print_summary(experiment: Experiment, result: dict[str, Any], where: str) -> None:
    """The result of one job on standard output."""
    from rich.table import Table

    out, hardware = console(), experiment.hardware
    out.print(
        f"[bold]{experiment.spec.name}[/] on [bold]{hardware.device_type}[/], precision {experiment.config.mode} "
        f"[dim](config {result['config_hash']})[/]"
    )
    table = Table.grid(padding=(0, 2))
    for name, value in (*_accuracy_lines(result["accuracy"]), *_performance_lines(result["performance"])):
        table.add_row(f"[dim]{name}[/]" if name else "", value)
    if table.rows:
        out.print(table)
    if result["evaluation"] is not None:
        out.print(_evaluation_table(result["evaluation"]))
    if result["preflight"] is not None:
        from ..preflight.preflight_text import section_lines

        for line in section_lines(result["preflight"]):
            out.print(line)
    if result["search"] is not None:
        from ..search.front_text import section_lines as search_lines

        wide = console(width=None if sys.stdout.isatty() else 160)
        for line in search_lines(result["search"]):
            wide.print(line)
    if result["quantize"] is not None:
        from ..quantize.quantize_text_lines import section_lines as quantize_lines

        wide = console(width=None if sys.stdout.isatty() else 160)
        for line in quantize_lines(result["quantize"]):
            wide.print(line)
    for line in rule_lines(experiment.effects):
        out.print(line)
    for finding in experiment.warnings:
        out.print(f"[yellow]{finding.severity} {finding.id}[/]: {finding}")
    out.print(f"[dim]{result['seconds']:.1f} s; {where}[/]")


def _accuracy_lines(accuracy: dict[str, Any] | None) -> list[tuple[str, str]]:
    if accuracy is None:
        return []
    lines = [
        ("accuracy", accuracy["basis"]),
        ("", f"numerics {accuracy['numerics']}; {accuracy['tokens']} tokens of {accuracy['text']}"),
    ]
    if accuracy.get("calibrated_weights"):
        lines.append(("", f"with the weights in {accuracy['calibrated_weights']}"))
    if accuracy["tensor_parallel"] != "one chip":
        lines.append(("", accuracy["tensor_parallel"]))
    if accuracy["top1"] is not None:
        within = _interval(accuracy, "kl_divergence", ".4f")
        lines += [
            (
                "top-1 / top-5",
                f"[bold]{accuracy['top1']:.1%}[/] / [bold]{accuracy['top5']:.1%}[/] agreement with the reference"
                f"{_interval(accuracy, 'top1', '.1%')}{_interval(accuracy, 'top5', '.1%')}",
            ),
            (
                "KL / PCC",
                f"[bold]{accuracy['kl_divergence']:.4f}[/] nats{within} / {_figure(accuracy['pcc'], '.5f')} of logits",
            ),
        ]
        lines += _detail_lines(accuracy)
    if accuracy["next_token_top1"] is not None:
        lines += _text_lines(accuracy)
    if accuracy["top1"] is None:
        for module in ("attention", "mlp", "layer"):
            values = [row[module] for row in accuracy["modules"] if row[module] is not None]
            if values:
                lines.append((f"PCC {module}", f"[bold]{min(values):.5f}[/] lowest of {len(values)} layers"))
    return lines


def _evaluation_table(evaluation: dict[str, Any]) -> Any:
    """A row per task and figure of lm-eval, below what they rest on."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    basis = f"{evaluation['basis']}; numerics {evaluation['numerics']}"
    table.add_row("[dim]evaluation[/]", basis)
    table.add_row("", f"lm-eval {evaluation['lm_eval']}; {evaluation['tokens']} tokens computed")
    for name, task in evaluation["tasks"].items():
        title = f"{name} [dim]({task['samples']} documents, {task['num_fewshot']}-shot)[/]"
        for label, figure in task["figures"].items():
            error = "" if figure["stderr"] is None else f" [dim]± {figure['stderr']:.2g}[/]"
            better = {True: "more is better", False: "less is better", None: ""}[figure["higher_is_better"]]
            table.add_row(title, f"{label} [bold]{_figure(figure['value'], '.4g')}[/]{error} [dim]{better}[/]")
            title = ""
    return table


def _interval(accuracy: dict[str, Any], figure: str, form: str, of: str = "") -> str:
    """The 95 % interval of a figure in brackets, where there is one; `of` says what it is of."""
    low, high = ((accuracy["confidence_interval"] or {}).get(figure)) or (None, None)
    return "" if low is None else f" [dim]({of}{low:{form}} to {high:{form}})[/]"


def _detail_lines(accuracy: dict[str, Any]) -> list[tuple[str, str]]:
    """By phase, by text and by position, where there is more than one; and the first output below its bar."""
    lines = []
    for title, rows in (("phase", accuracy["by_phase"]), ("text", accuracy["by_text"])):
        for name, row in (rows or {}).items():
            if row["kl_divergence"] is not None:
                lines.append((title, f"{name}: KL {row['kl_divergence']:.4f}, top-1 {row['top1']:.1%}"))
    octaves = accuracy["by_position"]
    if len(octaves) > _SHORT_WINDOW:
        by_place = (f"from {row['from']} {row['kl_divergence']:.4f}" for row in octaves)
        lines.append(("KL by position", ", ".join(by_place)))
    below = accuracy["below_bar"]
    if below is not None:
        where = below["module"] if below["layer"] is None else f"{below['module']} of layer {below['layer']}"
        found = _figure(below["pcc"], ".5f")
        lines.append(("below bar", f"first {where}: PCC {found}, {below['bar']:g} expected ({below['basis']})"))
    return lines


# Octaves of positions in a window of 512 tokens; longer ones are told by position.
_SHORT_WINDOW = 5


def _text_lines(accuracy: dict[str, Any]) -> list[tuple[str, str]]:
    perplexity, reference = (_figure(accuracy[name]) for name in ("perplexity", "reference_perplexity"))
    return [
        (
            "perplexity",
            f"{perplexity} (reference {reference}){_interval(accuracy, 'perplexity_ratio', '.3f', 'ratio ')}",
        ),
        (
            "next token",
            f"top-1 {accuracy['next_token_top1']:.3f}, top-5 {accuracy['next_token_top5']:.3f} "
            f"(reference {accuracy['reference_next_token_top1']:.3f}, {accuracy['reference_next_token_top5']:.3f})",
        ),
    ]


def _performance_lines(performance: dict[str, Any] | None) -> list[tuple[str, str]]:
    if performance is None:
        return []
    lines = [("performance", performance["basis"])]
    if "shares" in performance:
        shares = sorted(performance["shares"].items(), key=lambda item: -item[1])
        spent = ", ".join(f"{name} {share:.0%}" for name, share in shares if share >= 0.005)
        lines += [
            (
                "decode",
                f"[bold]{performance['decode_tokens_per_s_per_user']:.1f}[/] tokens/s/user "
                f"({_trust(performance['decode_confidence'])}), {performance['tokens_per_s']:.1f} tokens/s; "
                f"bound {performance['bound']} ({spent})",
            ),
            ("TTFT", f"[bold]{performance['ttft_ms']:.0f}[/] ms ({_trust(performance['prefill_confidence'])})"),
        ]
        if assumes := performance.get("assumes"):
            lines.append(("assumes", ", ".join(f"{name} {value}" for name, value in assumes.items())))
    lines += _measured_lines(performance.get("measured"))
    lines.append(("memory", performance["memory"]["summary"]))
    outside = [*performance["decode_confidence"]["reasons"], *performance["prefill_confidence"]["reasons"]]
    notes = dict.fromkeys([*performance["notes"], *outside])
    return [*lines, *(("note", note) for note in notes)]


def _measured_lines(measured: dict[str, Any] | None) -> list[tuple[str, str]]:
    """What a card took, beside what was predicted for it."""
    if measured is None:
        return []
    ratios = measured["measured_over_predicted"]

    def beside(name: str, unit: str, form: str) -> str:
        ratio = f", {_times(ratios[name])} the prediction" if name in ratios else ""
        return f"[bold]{measured[name]:{form}}[/] {unit}{ratio}"

    return [
        ("measured", measured["basis"]),
        ("decode", beside("decode_tokens_per_s_per_user", "tokens/s/user", ".1f")),
        ("TTFT", beside("ttft_ms", "ms", ".0f")),
    ]


def _times(ratio: float) -> str:
    """A ratio of measured over predicted; a small one, such as a simulator's, as a fraction."""
    return f"1/{1 / ratio:,.0f} of" if 0 < ratio < _SMALL_RATIO else f"{ratio:.2f} times"


_SMALL_RATIO = 0.1  # below which two decimals tell little


def _trust(confidence: dict[str, Any]) -> str:
    return f"{confidence['class']}, ±{confidence['band_percent']:.0f} %"


def _figure(value: float | None, form: str = ".2f") -> str:
    return "not finite" if value is None else format(value, form)
