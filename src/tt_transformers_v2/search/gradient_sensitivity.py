# SPDX-License-Identifier: Apache-2.0
"""Sensitivities from gradients: every change estimated at once, and a few of them run, which sets the scale."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from ..config.search_schema import SearchMethod
from .gradient_estimates import EstimateFile, Estimates, Estimator
from .measured_variants import BASE, Measured
from .replay import Replay
from .sensitivity import Change, Progress, Sensitivities, measure_changes
from .subject import Subject

# Whole-model passes in float32 besides the backward ones: the reference once, and once again layer by layer.
_PASSES = 2
# Of the model, what a change that is run computes on average.
_RUN_AGAIN = 0.5


def method_of(subject: Subject) -> SearchMethod:
    """The method, where search.method=auto asks for the one that computes less.

    Counted in passes through the whole model, all taken as equal: with gradients the reference twice, once backwards
    for each sample and once for each option of the site that has most (its base's and the exact product besides), and
    half of the model for each check; measured, half of the model for each change.
    """
    settings = subject.settings
    if settings.method is not SearchMethod.auto:
        return settings.method
    options = max(len(found) for found in subject.space.options.values())
    checks = min(settings.gradient_checks, len(subject.wanted))
    gradient = _PASSES + settings.gradient_samples + options + 1 + _RUN_AGAIN * checks
    measured = _RUN_AGAIN * len(subject.wanted)
    return SearchMethod.gradient if gradient < measured else SearchMethod.measured


def gradient_sensitivities(
    subject: Subject,
    replay: Callable[[], Replay],
    known: Measured,
    file: EstimateFile,
    *,
    deadline: float,
    progress: Progress,
) -> Sensitivities:
    """Estimates what `subject` wants, until `deadline` (time.monotonic), and measures checks among it.

    The scale is the median over checks of what was measured over what was estimated: a few changes are estimated
    several times too large, and a quotient of sums would be theirs.
    """
    base = known.get(BASE)
    if base is None:
        base = replay().base
        known.add(BASE, base)
    started = time.monotonic()
    estimates = subject_estimates(subject, file, deadline=deadline, progress=progress)
    result = Sensitivities(base, {}, estimates.left_out, method=SearchMethod.gradient)
    result.estimate_seconds = time.monotonic() - started
    result.estimated = {change: estimate.kl for change, estimate in estimates.found.items()}
    checks = chosen_checks(result.estimated, subject.settings.gradient_checks)
    # However late it is: without them the estimates have no scale.
    measure_changes(result, subject, checks, replay, known, deadline=float("inf"), progress=progress)
    quotients = [(divergence.kl - base.kl) / result.estimated[change] for change, divergence in result.found.items()]
    middle = statistics.median(quotients) if quotients else 0.0
    # Checks that are lost in noise say nothing of the scale.
    result.scale = middle if middle > 0 else None
    return result


def subject_estimates(subject: Subject, file: EstimateFile, *, deadline: float, progress: Progress) -> Estimates:
    """The estimates of a search's changes, on its text."""
    estimator = Estimator(
        subject.source,
        subject.seen,
        subject.base.hardware,
        subject.space,
        subject.wanted,
        subject.settings.gradient_samples,
        subject.plans,
        None if subject.calibrated is None else subject.weights,
    )
    return estimator.run(file, deadline=deadline, progress=progress)


def chosen_checks(estimated: dict[Change, float], count: int) -> list[Change]:
    """Changes to measure: those at which the sum of all estimates, smallest first, passes the middle of each of `count`
    equal parts, so that checks lie where the sum comes from."""
    order = sorted((kl, change[0], change[1].text, change) for change, kl in estimated.items() if kl > 0)
    total, sum_so_far = sum(kl for kl, *_ in order), 0.0
    chosen: list[Change] = []
    for kl, *_, change in order:
        sum_so_far += kl
        # Of a change that spans several parts, one check.
        part = (len(chosen) + 0.5) * total / count
        if len(chosen) < count and sum_so_far >= part:
            chosen.append(change)
    return chosen
