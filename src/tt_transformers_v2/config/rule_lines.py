# SPDX-License-Identifier: Apache-2.0
"""What rules and adjustments did to a configuration, as lines of text with markup."""

from __future__ import annotations

from collections.abc import Sequence

from ..common.command_names import command
from .model_rules import RuleEffect


def rule_lines(effects: Sequence[RuleEffect]) -> list[str]:
    """The rules by name, and in full what was adjusted to this model or overruled by what was typed."""
    published = [e for e in effects if e.source or e.rule.endswith("-table")]
    names = list(dict.fromkeys(e.rule for e in published if not e.overruled_by))
    lines = [f"[cyan]rules[/] {', '.join(names)} [dim]({command('explain')} shows what they set)[/]"] if names else []
    return lines + effect_lines([e for e in effects if e not in published or e.overruled_by])


def effect_lines(effects: Sequence[RuleEffect]) -> list[str]:
    """One line per rule for what it set, and one for what it would have set had the user not typed something else."""
    lines = []
    effects = [effect for effect in effects if effect.changed]
    for rule in dict.fromkeys(effect.rule for effect in effects):
        own = [effect for effect in effects if effect.rule == rule]
        done = [f"{e.path}={e.value} (was {e.previous})" for e in own if not e.overruled_by]
        overruled = [f"{e.path}={e.value}, but you typed {e.overruled_by}" for e in own if e.overruled_by]
        if done:
            why = f". [dim]{own[0].why}[/]" if own[0].why else ""
            lines.append(f"[cyan]rule {rule}[/] set {', '.join(done)}{why}")
        if overruled:
            lines.append(f"[yellow]rule {rule}[/] would set {'; '.join(overruled)}")
    return lines
