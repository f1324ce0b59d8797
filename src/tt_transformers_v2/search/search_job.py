# SPDX-License-Identifier: Apache-2.0
"""task=search and task=sensitivity from beginning to end; what they leave is the `search` section of a result."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..common.errors import ConfigError
from ..config.auto_config import AutoHardwareConfig
from ..config.experiment_schema import Task
from ..config.resolve import Experiment
from ..config.search_schema import SearchConfig, SearchMethod
from ..hardware.enums import PrecisionMode
from .costs import step_us
from .front import spread, walk
from .gradient_sensitivity import gradient_sensitivities, method_of
from .search_pictures import write_pictures
from .search_result import search_section, sensitivity_rows
from .sensitivity import Progress, measure_sensitivities
from .subject import Subject, open_subject
from .verify import Front, Point, Preset, Runs

# Of the time allowed, what measuring sensitivities may take; the rest verifies.
_SENSITIVITY_SHARE = 0.6
# How often a point that misses the bar on unseen text is replaced by a more careful one.
_MOST_RETRIES = 4
PRESETS = (PrecisionMode.PERFORMANCE, PrecisionMode.ACCURACY)


def run_search(experiment: Experiment, folder: Path, progress: Progress) -> dict[str, Any]:
    """Runs the task, writes what belongs to it into `folder`, and returns the `search` section.

    Raises ConfigError, before hours are spent, for what cannot be searched or reached: see `open_subject`.
    """
    started = time.monotonic()
    everything = experiment.config.task is Task.sensitivity
    subject = open_subject(experiment, everything=everything)
    settings = subject.settings
    end = started + 60 * settings.max_minutes
    known = subject.measured(subject.seen, settings.numerics.value)
    replay = subject.replay(subject.seen, settings.numerics.value)
    _refuse_unreachable(subject, known, replay)
    deadline = end if everything else started + 60 * settings.max_minutes * _SENSITIVITY_SHARE
    if subject.calibrated is not None:
        subject.calibrated.make(deadline, progress)
    if method_of(subject) is SearchMethod.gradient:
        file = subject.estimates()
        sensitivities = gradient_sensitivities(subject, replay, known, file, deadline=deadline, progress=progress)
    else:
        sensitivities = measure_sensitivities(subject, replay, known, deadline=deadline, progress=progress)
    section = sensitivity_rows(subject, sensitivities) | {"seconds_to_sensitivities": time.monotonic() - started}
    if everything:
        return _finished(folder, section, started)
    steps = walk(sensitivities.effects(subject))
    unseen = Runs(
        subject,
        subject.replay(subject.unseen, settings.verify_numerics.value),
        subject.measured(subject.unseen, settings.verify_numerics.value),
    )
    front = Front(subject, sensitivities.base.kl, steps, Runs(subject, replay, known), unseen)
    presets = [front.preset(name, preset) for name, preset in presets_of(experiment).items()]
    faster = [count for preset in presets if (count := _just_faster(front, preset, settings)) is not None]
    counts = _ends_first(spread(front.steps, settings.points))
    for number, count in enumerate(counts):
        progress("front on the search's text", number, len(counts))
        front.search(count)
    # What answers the question comes first; the rest of the front as long as there is time.
    points = [front.verify(count) for count in dict.fromkeys([*counts[:2], *faster])]
    chosen = _chosen(front, points, settings)
    left_out = _verify_others(front, points, counts, settings, end, progress)
    points.sort(key=lambda point: point.steps)
    if settings.max_kl is not None or settings.min_top1 is not None:
        chosen = max((point for point in points if _meets(point, settings)), key=lambda point: point.steps)
    found = search_section(folder, front, points, presets, chosen, left_out)
    return _finished(folder, section | found, started)


def _finished(folder: Path, section: dict[str, Any], started: float) -> dict[str, Any]:
    return section | {"pictures": write_pictures(folder, section), "seconds": time.monotonic() - started}


def presets_of(experiment: Experiment) -> dict[str, Experiment]:
    """The presets and the configuration as composed, where they differ, by name."""
    device = str(experiment.hardware.device_type)
    found = {"as composed": experiment}
    for mode in PRESETS:
        hardware = AutoHardwareConfig.from_device(device, mode, experiment.spec)
        config = dataclasses.replace(experiment.config, mode=mode)
        found[f"precision={mode}"] = dataclasses.replace(experiment, hardware=hardware, config=config)
    own = {name: each.to_dict() for name, each in found.items()}
    parts = ("precision", "compute", "layers")
    for name in list(found)[1:]:
        if all(own[name][part] == own["as composed"][part] for part in parts):
            found.pop("as composed")
            break
    return found


def _refuse_unreachable(subject: Subject, known: Any, replay: Callable[[], Any]) -> None:
    """Refuses a bar that even the most accurate options miss on the search's text."""
    settings = subject.settings
    if settings.max_kl is None and settings.min_top1 is None:
        return
    base = known.get("base") or replay().base
    hint = "Loosen the bar, or start the sites of search.space with more accurate options (BF16/HIFI4)."
    if settings.max_kl is not None and base.kl > settings.max_kl:
        raise ConfigError(
            f"search.max_kl={settings.max_kl:g} cannot be met: the most accurate options of search.space have KL "
            f"{base.kl:.4f}.",
            hint,
        )
    if settings.min_top1 is not None and base.top1 < settings.min_top1:
        raise ConfigError(
            f"search.min_top1={settings.min_top1:g} cannot be met: the most accurate options of search.space agree at "
            f"{base.top1:.3f} of the positions.",
            hint,
        )


def _just_faster(front: Front, preset: Preset, settings: SearchConfig) -> int | None:
    """The fewest steps that are predicted to be faster than a preset; None where no number is."""
    time_us = step_us(preset.experiment, settings.objective)
    count = _fewest(front, settings, lambda own: own < time_us)
    return count if count <= len(front.steps) else None


def _verify_others(
    front: Front, points: list[Point], counts: list[int], settings: SearchConfig, end: float, progress: Progress
) -> int:
    """Adds to `points` those of `counts` that are not among them, up to search.points altogether; returns how many the
    time did not allow. What halves the widest gap comes first, so that an early end leaves an even front."""
    known = {point.steps for point in points}
    wanted = [count for count in counts if count not in known][: max(settings.points - len(points), 0)]
    longest = 0.0
    for number, count in enumerate(wanted):
        progress("verification", number, len(wanted))
        started = time.monotonic()
        if started + longest > end:
            return len(wanted) - number
        _point(front, points, count)
        longest = max(longest, time.monotonic() - started)
    progress("verification", len(wanted), len(wanted))
    return 0


def _ends_first(counts: list[int]) -> list[int]:
    """Both ends, then what halves the widest gap."""
    order, gaps = [0, len(counts) - 1], [(0, len(counts) - 1)]
    while gaps:
        low, high = gaps.pop(0)
        if high - low > 1:
            middle = (low + high) // 2
            order.append(middle)
            gaps += [(low, middle), (middle, high)]
    return [counts[i] for i in dict.fromkeys(order)]


def _chosen(front: Front, points: list[Point], settings: SearchConfig) -> Point | None:
    """The point that answers the question asked, verified; None when no bar and no target was given.

    With a bar, the fastest within it on unseen text; with a target alone, the most accurate that reaches it.
    """
    if settings.max_kl is not None or settings.min_top1 is not None:
        return _within_bar(front, points, settings)
    least = _least_steps(front, settings)
    return None if least is None else _point(front, points, least)


def _within_bar(front: Front, points: list[Point], settings: SearchConfig) -> Point:
    least = _least_steps(front, settings) or 0
    bar = settings.max_kl
    if bar is None:  # top-1 has no sum over layers; the KL of the fastest verified point that meets it stands in
        meeting = [point for point in points if _meets(point, settings)]
        bar = max((point.searched.kl for point in meeting), default=front.estimated_kl(0))
    best: Point | None = max((p for p in points if _meets(p, settings)), key=lambda p: p.steps, default=None)
    for _ in range(_MOST_RETRIES):
        count = front.last_within(bar)
        if best is not None and count <= best.steps:
            break
        point = _point(front, points, count)
        if _meets(point, settings):
            best = point
            break
        # Unseen text is harder by this much: aim lower by as much, and a little more.
        excess = point.verified.kl / settings.max_kl if settings.max_kl else 1.05
        bar = min(bar / max(excess, 1.0), point.searched.kl) * 0.98
    if best is None:
        raise ConfigError(
            "no configuration of the front meets the bar on text that the search has not seen.",
            "Loosen search.max_kl or search.min_top1, or search on more text (search.tokens).",
        )
    if best.steps < least:
        raise ConfigError(
            f"the bar and the target contradict each other: the fastest configuration within the bar is predicted to "
            f"take {step_us(best.experiment, settings.objective) / 1e3:.3f} ms.",
            "Loosen one of them; the verified points are kept for the next run.",
        )
    return best


def _least_steps(front: Front, settings: SearchConfig) -> int | None:
    """The fewest steps that reach the target, or None when there is none."""
    if settings.min_tokens_per_s_per_user is not None:
        wanted_us = 1e6 / settings.min_tokens_per_s_per_user
    elif settings.max_ttft_ms is not None:
        wanted_us = 1e3 * settings.max_ttft_ms
    else:
        return None
    least = _fewest(front, settings, lambda own: own <= wanted_us)
    if least > len(front.steps):
        raise ConfigError(
            "no configuration of the front is predicted to reach the target with the sensitivities measured so far.",
            "Raise search.max_minutes and run the same command again: it resumes where this one stopped.",
        )
    return least


def _fewest(front: Front, settings: SearchConfig, enough: Callable[[float], bool]) -> int:
    """The fewest steps whose predicted time is `enough`; one more than there are where none is."""
    low, high = 0, len(front.steps) + 1
    while low < high:
        middle = (low + high) // 2
        if middle > len(front.steps) or enough(step_us(front.experiment(middle), settings.objective)):
            high = middle
        else:
            low = middle + 1
    return low


def _point(front: Front, points: list[Point], count: int) -> Point:
    """The verified point of `count` steps, which joins the others."""
    known = next((point for point in points if point.steps == count), None)
    if known is None:
        known = front.verify(count)
        points.append(known)
    return known


def _meets(point: Point, settings: SearchConfig) -> bool:
    kl, top1 = settings.max_kl, settings.min_top1
    return (kl is None or point.verified.kl <= kl) and (top1 is None or point.verified.top1 >= top1)
