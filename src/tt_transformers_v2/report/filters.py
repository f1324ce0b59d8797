# SPDX-License-Identifier: Apache-2.0
"""Conditions on jobs as typed: kl_divergence<0.05, device=n150. The page (state.js) reads them alike."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence

from ..common.errors import ConfigError, did_you_mean
from ..run.result_files import look_up
from .loading import Job
from .metrics import BY_NAME, TEXTS, Metric

Test = Callable[[Job], bool]
_SIGNS: dict[str, Callable[[object, object], bool]] = {
    "<": operator.lt,  # type: ignore[dict-item]
    "<=": operator.le,  # type: ignore[dict-item]
    ">": operator.gt,  # type: ignore[dict-item]
    ">=": operator.ge,  # type: ignore[dict-item]
    "=": operator.eq,
    "!=": operator.ne,
}
_CONDITION = re.compile(r"([^<>=!]+)(<=|>=|!=|=|<|>)(.+)")


def parse_condition(text: str, jobs: Sequence[Job]) -> Test:
    """`text` as a test on a job: a figure against a number, or an override, a word of the result or the status.

    A job that lacks the figure fails. Raises ConfigError for anything else and for an unknown name.
    """
    parts = _CONDITION.fullmatch(text.strip())
    if parts is None:
        raise ConfigError(f"{text!r} is not a condition.", "Write, for example, kl_divergence<0.05 or device=n150.")
    name, sign, value = (part.strip() for part in parts.groups())
    if name in BY_NAME:
        return _figure_test(BY_NAME[name], sign, value)
    typed = dict.fromkeys(key for job in jobs for key in job.typed)
    if name not in (*typed, *TEXTS, "status"):
        raise ConfigError(f"no figure or override named {name!r}.", did_you_mean(name, known_names(jobs)))
    if sign not in ("=", "!="):
        raise ConfigError(f"{name} is a word, not a figure.", f"Write {name}={value} or {name}!={value}.")
    return lambda job: _SIGNS[sign](_word(job, name), value)


def known_metric(name: str, jobs: Sequence[Job]) -> Metric:
    """The metric called `name`. Raises ConfigError for another name and where no job has it."""
    having = [metric for metric in BY_NAME if any(BY_NAME[metric].of(job.result) is not None for job in jobs)]
    if name not in BY_NAME:
        raise ConfigError(f"no figure named {name!r}.", did_you_mean(name, having or BY_NAME))
    if name not in having:
        there = f"They have {', '.join(having)}." if having else "No job finished."
        raise ConfigError(f"none of these jobs has {name}.", there)
    return BY_NAME[name]


def known_names(jobs: Sequence[Job]) -> list[str]:
    """What a condition may name: figures that some job has, overrides, words and the status."""
    figures = [name for name, metric in BY_NAME.items() if any(metric.of(job.result) is not None for job in jobs)]
    return [*figures, *dict.fromkeys(key for job in jobs for key in job.typed), *TEXTS, "status"]


def _figure_test(metric: Metric, sign: str, value: str) -> Test:
    try:
        limit = float(value)
    except ValueError:
        raise ConfigError(f"{metric.name} is a figure, but {value!r} is not a number.") from None

    def passes(job: Job) -> bool:
        figure = metric.of(job.result)
        return figure is not None and _SIGNS[sign](figure, limit)

    return passes


def _word(job: Job, name: str) -> str:
    if name == "status":
        return job.status
    if name in job.typed:
        return job.typed[name]
    value = look_up(job.result, TEXTS[name]) if name in TEXTS else None
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)
