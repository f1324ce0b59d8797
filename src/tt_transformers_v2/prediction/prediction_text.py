# SPDX-License-Identifier: Apache-2.0
"""A prediction as lines of text, at most WIDTH columns wide where the text is a table: what scripts/predict.py prints.

Lines carry rich's markup. Every figure here is predicted but those of the nearest measured row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from ..common.units import GIB
from ..config.rule_lines import rule_lines
from ..hardware.enums import Stack
from ..hardware.op_table import DECODE, PREFILL
from ..perf.confidence import Confidence
from ..perf.prediction import Prediction
from ..run.performance import notes
from .knobs import NOISE, Gain, WhatIf
from .limits import BatchLimit, ContextLimit
from .prediction_rows import OpRow, op_rows
from .questions import Answer, Measured
from .targets import Option, Search

WIDTH = 100
NO_EFFECT = 1.0  # percent; a change below it in both phases is counted, not listed
MOST_OPTIONS = 8  # options listed for the cheapest device; the others show the first of either mode
_NAME = 9  # columns of the names that lines begin with
_MARKUP = re.compile(r"(?<!\\)\[/?[a-z ]*\]")
_KINDS = {"kv": "attention and KV cache", "flops": "math", "overhead": "overhead"}


def header_lines(answer: Answer) -> list[str]:
    """What was asked, and that nothing was run."""
    experiment, prediction = answer.experiment, answer.prediction
    parallel, users = experiment.hardware.parallelism, experiment.config.workload.batch
    split = f"TP {parallel.tensor_parallel_size}"
    if parallel.data_parallel_size > 1:
        split += f" x DP {parallel.data_parallel_size}"
    tokens = f"prompt {prediction.prompt_length}, context {prediction.context} tokens"
    if prediction.prompt_length == prediction.context:
        tokens = f"prompt and context of {prediction.context} tokens"
    asked = (
        f"[bold]{experiment.spec.name}[/] on [bold]{experiment.hardware.device_type}[/], precision "
        f"{experiment.config.mode}, {split}, {users} user{'s' * (users > 1)}, {tokens}"
    )
    return [
        _wrapped(asked),
        f"[dim]{escaped(prediction.speed.basis)}; nothing was run; config {experiment.config_hash()}[/]",
    ]


def answer_lines(answer: Answer, *, prefill: bool) -> list[str]:
    """The whole answer: figures, bounds, memory, the nearest measured row, notes, rules, and the table of ops."""
    first, *more = escaped(answer.prediction.memory.summary).splitlines()
    lines = [*header_lines(answer), *figure_lines(answer), _named("memory", first)]
    lines += [_named("", line) for line in more]
    nearest = answer.nearest
    lines += _nearest_lines(nearest) if nearest else []
    lines += _note_lines(answer)
    lines += ["", *_op_lines("decode, one token of every user", op_rows(answer.prediction, DECODE))]
    if prefill:
        lines += ["", *_op_lines(f"prefill, {_prompts(answer.prediction)}", op_rows(answer.prediction, PREFILL))]
    return lines


def figure_lines(answer: Answer) -> list[str]:
    """Speeds with class and band, and what bounds them."""
    prediction = answer.prediction
    speed = prediction.speed
    decode, ttft = prediction.decode, prediction.prefill
    return [
        _named(
            "decode",
            f"[bold]{answer.tokens_per_s_per_user:.1f}[/] tokens/s/user ({decode}: "
            f"{_range(answer.tokens_per_s_per_user, decode, '.1f')})",
        ),
        _named("", f"{answer.tokens_per_s:.1f} tokens/s over all users, {speed.decode_ms:.1f} ms per token"),
        _named("", f"bound {_largest(speed.bound_shares)}: {_shares(speed.shares)}"),
        _named("TTFT", f"[bold]{answer.ttft_ms:.0f}[/] ms ({ttft}: {_range(answer.ttft_ms, ttft, '.0f')})"),
        _named("", f"bound {_largest(speed.prefill_bound_shares)}: {_shares(speed.prefill_shares)}"),
        _named("assumes", escaped(", ".join(f"{name} {value}" for name, value in prediction.assumes.items()))),
    ]


def _range(value: float, confidence: Confidence, form: str) -> str:
    low, high = (max(0.0, value * (1 + sign * confidence.band / 100)) for sign in (-1, 1))
    return f"{low:{form}} to {high:{form}}"


def _largest(bounds: Mapping[str, float]) -> str:
    """The bound with the largest share of the time, and that share where others have more than half."""
    name, share = max(bounds.items(), key=lambda item: item[1])
    return name if share > 0.5 else f"{name} for {share:.0%} of the time"


def _shares(shares: Mapping[str, float]) -> str:
    ranked = sorted(shares.items(), key=lambda item: -item[1])
    return ", ".join(f"{_KINDS.get(kind, kind)} {share:.0%}" for kind, share in ranked if share >= 0.005)


def _nearest_lines(nearest: Measured) -> list[str]:
    row = nearest.row
    figures = []
    if row.tokens_per_s_per_user:
        figures.append(f"{row.tokens_per_s_per_user:g} tokens/s/user")
    if row.ttft_ms:
        figures.append(f"TTFT {row.ttft_ms:g} ms")
    lines = [
        _named("measured", f"{', '.join(figures)}: {escaped(str(row))}, the nearest row"),
        _named("", f"[dim]{escaped(row.source)}{escaped(f'; flagged {row.flag}') if row.flag else ''}[/]"),
    ]
    if nearest.differs:
        return [*lines, _named("", f"a different configuration, so no ratio: differs in {', '.join(nearest.differs)}")]
    ratios = (("decode", nearest.decode_ratio), ("TTFT", nearest.ttft_ratio))
    shown = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios if ratio)
    return [*lines, _named("", f"the same configuration; predicted / measured: {shown}")]


def _note_lines(answer: Answer) -> list[str]:
    experiment, prediction = answer.experiment, answer.prediction
    said = [*notes(experiment, prediction), *prediction.decode.reasons, *prediction.prefill.reasons]
    return [
        *(_named("note", escaped(note)) for note in dict.fromkeys(said)),
        *(_wrapped(line, 2) for line in rule_lines(experiment.effects)),
        *(
            _wrapped(f"[yellow]{finding.severity} {finding.id}[/]: {escaped(str(finding))}", 2)
            for finding in experiment.warnings
        ),
    ]


def _prompts(prediction: Prediction) -> str:
    """Whose prompts the ops of prefill are."""
    if prediction.assumes["stack"] == Stack.vllm.value and prediction.batch > 1:
        return f"the prompts of {prediction.batch} users who wait for each other"
    return "one pass over several prompts" if prediction.batched else "one prompt"


def _op_lines(title: str, rows: Sequence[OpRow]) -> list[str]:
    head = f"{'op':21}{'count':>6}{'us each':>10}{'total ms':>10}{'share':>7}  {'bound':6}{'next bound':20}"
    lines = [f"[bold]{title}[/]", f"[dim]{head}{'format':8}fidelity[/]"]
    for row in rows:
        after = f"{row.time.next_bound} {row.time.next_us:.1f} us" if row.time.next_bound else ""
        line = (
            f"{row.op.name:21}{row.count:>6}{row.time.us:>10.1f}{row.total_ms:>10.3f}{row.share:>7.1%}  "
            f"{row.time.bound:6}{after:20}{row.data or '':8}{row.op.fidelity or ''}"
        )
        lines.append(line.rstrip())
    return lines


def what_if_lines(found: WhatIf) -> list[str]:
    """Gains in three parts: worth it, within noise, slower."""
    listed = [gain for gain in found.gains if _has_effect(gain)]
    lines = [
        "[bold]what each single change would gain[/], predicted: decode speed and TTFT (+ is faster), DRAM per chip",
        f"[dim]~ within noise: published figures repeat to about 5 %, so no gain below {NOISE:.0f} % is claimed[/]",
        f"[dim]{'decode':>8}{'TTFT':>9}{'GiB':>8}  to type[/]",
    ]
    parts = {
        "faster decode": [gain for gain in listed if gain.decode >= NOISE],
        "decode within noise": [gain for gain in listed if gain.within_noise],
        "slower decode": [gain for gain in listed if gain.decode <= -NOISE],
    }
    for title, gains in parts.items():
        lines += [f"[cyan]{title}[/]", *(line for gain in gains for line in _gain_lines(gain))] if gains else []
    if any(gain.warnings for gain in listed):
        warnings = dict.fromkeys(id for gain in listed for id in gain.warnings)
        lines.append(f"[yellow]![/] triggers the warning {', '.join(warnings)} (docs/findings.md)")
    if len(listed) < len(found.gains):
        lines.append(f"[dim]{len(found.gains) - len(listed)} more change neither by {NO_EFFECT:.0f} % (see --json)[/]")
    for knob, why in found.left_out:
        lines.append(_wrapped(f"left out: {knob}: {escaped(why)}", 2))
    return lines


def _has_effect(gain: Gain) -> bool:
    return abs(gain.decode) >= NO_EFFECT or abs(gain.ttft) >= NO_EFFECT or abs(gain.memory) >= 0.01 * GIB


def _gain_lines(gain: Gain) -> Iterator[str]:
    memory = f"{gain.memory / GIB:+.2f}" if abs(gain.memory) >= 0.005 * GIB else ""
    figures = f"{_percent(gain.decode):>8}{_percent(gain.ttft):>9}{memory:>8}  "
    mark = " [yellow]![/]" if gain.warnings else ""
    only = f" [dim]({gain.knob.only_for})[/]" if gain.knob.only_for else ""
    yield f"{figures}{gain.knob}{mark}{only}"
    if gain.trust:
        yield f"{'':{len(figures)}}[dim]then {'; '.join(gain.trust)}[/]"


def _percent(gain: float) -> str:
    return f"{'~' if abs(gain) < NOISE else ''}{gain:+.1f} %"


def search_lines(found: Search) -> list[str]:
    """What reaches the target, a few options per device, or the best there is and by how much it misses."""
    lines = [f"[bold]predicted to reach {found.target:g} tokens/s/user[/], cheapest first"]
    if found.reaching:
        lines.append(f"[dim]{'chips':>5}{'DRAM GiB':>9}{'tokens/s/user':>14}{'low end':>9}  to type[/]")
        shown = _shown(found.reaching)
        lines += [line for option in shown for line in _option_lines(option, found.target)]
        lines.append("[dim]low end of the band; * if even that reaches the target[/]")
        if len(shown) < len(found.reaching):
            lines.append(f"[dim]{len(found.reaching) - len(shown)} more on the same devices (see --json)[/]")
    elif found.best:
        best = found.best.answer
        missed = found.target - best.tokens_per_s_per_user
        lines += [
            f"nothing reaches it. The best is {best.tokens_per_s_per_user:.1f} tokens/s/user "
            f"({best.prediction.decode}), {missed:.1f} short ({missed / found.target:.0%})",
            f"  {' '.join(best.overrides)}",
        ]
    else:
        lines.append("nothing can be predicted: every configuration was left out")
    left_out = "".join(f"; {count} left out: {escaped(why)}" for why, count in found.left_out.most_common())
    return [*lines, _wrapped(f"[dim]{found.predicted} configurations predicted{left_out}[/]", 2)]


def _shown(options: Sequence[Option]) -> list[Option]:
    """The cheapest device's options, and the first in either mode on every other device."""
    cheapest = options[0].device
    first = {(option.device, option.mode): option for option in reversed(options)}
    shown = [option for option in options if option.device == cheapest][:MOST_OPTIONS]
    return shown + [o for o in options if o.device != cheapest and first[o.device, o.mode] is o]


def _option_lines(option: Option, target: float) -> list[str]:
    answer = option.answer
    system, low = answer.experiment.hardware.spec, answer.low_tokens_per_s_per_user
    figures = (
        f"{system.chips:>5}{system.chip.dram_size * system.chips / GIB:>9.0f}{answer.tokens_per_s_per_user:>14.1f}"
        f"{low:>8.1f}{'*' if low >= target else ' '}  "
    )
    device, mode, *_ = answer.overrides
    lines = [f"{figures}{device} {mode} [dim]({answer.prediction.decode})[/]"]
    changes = [change for change in (option.split, option.change) if change]
    return [*lines, *(f"{'':20}{change}" for change in changes)]


def limit_lines(contexts: Sequence[ContextLimit], batch: BatchLimit) -> list[str]:
    """The longest context by batch with decode speed there, and the largest batch at the asked context."""
    grouped = any(limit.users != limit.batch for limit in contexts)
    lines = [
        "[bold]the longest context that fits in DRAM[/] and the predicted decode speed there",
        f"[dim]{'users':>5}{'context':>10}{'tokens/s/user':>15}{'tokens/s':>10}[/]",
    ]
    for limit in contexts:
        if limit.answer is None:
            lines.append(f"{limit.users:>5}{'none fits':>10}")
            continue
        figures = f"{limit.answer.tokens_per_s_per_user:>15.1f}{limit.answer.tokens_per_s:>10.1f}"
        why = ", the model's own limit" if limit.limited_by_model else ""
        lines.append(f"{limit.users:>5}{limit.context:>10}{figures}  [dim]{limit.answer.prediction.decode}{why}[/]")
    if grouped:
        lines.append("[dim]users of all data-parallel groups together[/]")
    if batch.users == batch.of_device:
        why = f"limited by the device; DRAM would hold {batch.in_dram}"
    else:
        why = f"limited by DRAM; the device supports {batch.of_device}"
    lines.append(f"the largest batch at {batch.context} tokens: {batch.users} ({why})")
    return lines


def _named(name: str, text: str) -> str:
    return f"[dim]{name:{_NAME}}[/]{_wrapped(text, _NAME, WIDTH - _NAME)}"


def _wrapped(text: str, indent: int = 0, first: int = WIDTH) -> str:
    """`text` over as many lines as it needs, `first` columns in the first one, the others indented."""
    lines, room = [""], first
    for word in text.split(" "):
        width = len(_MARKUP.sub("", word)) + 1
        if width > room + 1 and lines[-1]:
            lines, room = [*lines, ""], WIDTH - indent
        lines[-1] += f" {word}" if lines[-1] else word
        room -= width
    return f"\n{' ' * indent}".join(lines)


def escaped(text: str) -> str:
    """Text that rich prints as it is."""
    return text.replace("[", r"\[")
