# SPDX-License-Identifier: Apache-2.0
"""Shows where every value of a configuration comes from, and what differs between two."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..common.terminal import console
from ..config.composition import compose_with_origins
from ..config.model_rules import knobs
from ..config.overrides import check_overrides
from ..config.precedence import governed_by, governing_paths
from ..config.quick_composition import Composed
from ..config.resolve import Experiment, resolve
from ..config.rule_lines import effect_lines
from ..config.ttnn_checks import attention_plans
from ..hardware.op_table import SDPA
from ..planning.fixed_kernels import FIXED_KERNELS
from ..planning.typed_programs import typed_keys
from ..run.board_snapshot import this_device
from .command_line import CommandParser, run_command

ABOUT = """Prints every value of a configuration with its origin (file, rule, or what you typed) and the findings
about it; with --against, only what differs between two configurations."""
# Prose and what only the machine's facts repeat; --cfg job prints those.
_HIDDEN = ("calibration", "layers")


@dataclass(frozen=True)
class Explained:
    """One resolved value: dotted path, JSON value, origin in words."""

    path: str
    value: Any
    origin: str


@dataclass(frozen=True)
class Explanation:
    """A resolved experiment and every value of it with its origin."""

    experiment: Experiment
    values: list[Explained]


def explain(overrides: Sequence[str]) -> Explanation:
    """Resolves checked or unchecked `overrides` and traces every value. Raises ConfigError."""
    checked = check_overrides(overrides, this_machine=this_device)
    composed = compose_with_origins(checked)
    given = dict(_leaves(composed.tree))
    experiment = resolve(composed.tree, checked.typed)
    trace = _Trace(experiment, composed, given, checked.typed)
    values = [Explained(path, value, trace.origin(path)) for path, value in _leaves(experiment.to_dict())]
    shown = [v for v in values if not v.path.startswith(_HIDDEN)]
    typed = {value.path for value in shown}
    return Explanation(experiment, [*shown, *(v for v in _attention(experiment) if v.path not in typed)])


def _attention(experiment: Experiment) -> list[Explained]:
    """Every field of attention's program in each phase, under the path that it is typed by; ttnn chooses none."""
    found = []
    for phase, plan in attention_plans(experiment).items():
        programs = experiment.config.runtime.programs
        for name, value in dataclasses.asdict(plan).items():
            keys = [key for key in typed_keys(programs, SDPA.op_group, phase) if name in programs[key]]
            origin = f"you typed runtime.programs.{keys[-1]}.{name}" if keys else "planned (docs/preflight.md)"
            found.append(Explained(f"runtime.programs.{SDPA.op_group}_{phase}.{name}", value, origin))
    return found


@dataclass
class _Trace:
    """What is needed to say where a value came from; `given` are the composed values before anything was resolved."""

    experiment: Experiment
    composed: Composed
    given: Mapping[str, Any]
    typed: set[str]

    def origin(self, path: str) -> str:
        for effect in self.experiment.effects:
            if effect.path == path and effect.overruled_by is None:
                return f"rule {effect.rule}"
        if path in self.typed:
            return "you typed it"
        governor = governed_by(path, self.typed)
        if governor is not None:
            return f"you typed {governor}"
        parent = _parent(path)
        if self.given.get(path) is None and parent is not None:
            return f"inherits {parent} ({self.origin(parent)})"
        if path in self.composed.origins:
            return f"conf/{self.composed.origins[path]}"
        return self._derived(path)

    def _derived(self, path: str) -> str:
        by_rule = [effect for effect in self.experiment.effects if path.startswith(effect.path)]
        if by_rule:
            return f"rule {by_rule[-1].rule}"
        if path.startswith("model.") and self.experiment.config.model.path:
            return self.experiment.config.model.path
        return "default" if path.split(".")[0] != "model" else "computed from the shape"


def _parent(path: str) -> str | None:
    """The coarser path a value inherits from when nothing sets it."""
    return next(iter(governing_paths(path)[1:]), None)


def _leaves(tree: Any, path: str = "") -> list[tuple[str, Any]]:
    if not isinstance(tree, Mapping) or not tree:
        return [(path, tree)]
    return [leaf for key, value in tree.items() for leaf in _leaves(value, f"{path}.{key}" if path else str(key))]


def differences(one: Explanation, other: Explanation) -> list[tuple[str, Explained | None, Explained | None]]:
    """(path, in one, in the other) of every value that is not equal.

    Per-layer entries count as one value; a value that inherits from one that is listed is left out.
    """
    first = {value.path: value for value in [*one.values, _layers(one)]}
    second = {value.path: value for value in [*other.values, _layers(other)]}
    differing = {
        path: (first.get(path), second.get(path))
        for path in dict.fromkeys([*first, *second])
        if path not in first or path not in second or first[path].value != second[path].value
    }
    return [(path, *pair) for path, pair in differing.items() if not _follows(path, pair, differing)]


def _follows(path: str, pair: tuple[Explained | None, Explained | None], listed: Mapping[str, Any]) -> bool:
    """Whether a difference is that of the coarser path both sides inherit from."""
    inherited = all(side is not None and side.origin.startswith(("inherits", "you typed ")) for side in pair)
    return inherited and _parent(path) in listed


def _layers(explanation: Explanation) -> Explained:
    experiment = explanation.experiment
    origins = dict.fromkeys(f"rule {entry.origin}" if entry.origin else "you typed it" for entry in experiment.layers)
    return Explained("layers", experiment.layer_differences(), ", ".join(origins) or "none")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    return run_command(_main, arguments)


def _main(given: list[str]) -> None:
    parser = CommandParser(
        "explain",
        usage="%(prog)s [GROUP=OPTION ...] [KEY=VALUE ...] [--against OVERRIDE ...]",
        description=ABOUT,
    )
    parser.takes_overrides()
    parser.add_argument(
        "--against", nargs="*", metavar="OVERRIDE", help="print only the differences from these overrides"
    )
    options = parser.read(given)
    if options.against is None:
        _print_explanation(explain(options.overrides))
    else:
        _print_differences(explain(options.overrides), explain(options.against))


def _print_explanation(explanation: Explanation) -> None:
    experiment, out = explanation.experiment, console()
    for value in [*explanation.values, _layers(explanation)]:
        out.print(f"{value.path:38} {_shown(value.value):18} [dim]{value.origin}[/]")
    if known := knobs(experiment.hardware, experiment.spec):
        out.print("[bold]tt_transformers' own settings here[/]", "; ".join(f"{k} {v}" for k, v in known.items()))
    for line in _fixed_kernel_lines():
        out.print(line)
    for line in effect_lines(experiment.effects):
        out.print(line)
    for finding in experiment.findings:
        out.print(f"[yellow]{finding.severity} {finding.id}[/]: {finding}")
    out.print(f"[dim]config {experiment.config_hash()}[/]")


def _fixed_kernel_lines() -> Iterator[str]:
    """The kernel settings of ops without an op group, equal ones in a line."""
    alike: dict[str, list[str]] = {}
    for op, kernel in FIXED_KERNELS.items():
        settings = ", ".join(f"{name} {_shown(value)}" for name, value in dataclasses.asdict(kernel).items())
        alike.setdefault(settings, []).append(op)
    for settings, ops in alike.items():
        yield f"[bold]kernels of {', '.join(ops)}[/] {settings}"


def _print_differences(one: Explanation, other: Explanation) -> None:
    out, found = console(), differences(one, other)
    for path, first, second in found:
        cells = [f"{_shown(v.value)} [dim]({v.origin})[/]" if v else "[dim]absent[/]" for v in (first, second)]
        out.print(f"[bold]{path}[/]: {cells[0]} -> {cells[1]}")
    if not found:
        out.print("no difference")


def _shown(value: Any) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text.replace("[", r"\[")
