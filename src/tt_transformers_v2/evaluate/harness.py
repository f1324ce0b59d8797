# SPDX-License-Identifier: Apache-2.0
"""Runs tasks of lm-evaluation-harness for one experiment, and makes the `evaluation` section of its result."""

from __future__ import annotations

import importlib.util
import logging
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.errors import ConfigError, closest
from ..config.evaluate_schema import EvaluateConfig
from ..config.resolve import Experiment

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

    from .likelihoods import Progress

EXTRA = "Install it with pip install 'tt-transformers-v2[lm-eval]'."
# What datasets and huggingface_hub read when they are imported; tqdm's bars would come on top of ours.
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TQDM_DISABLE": "1"}


def require_harness(config: EvaluateConfig) -> None:
    """Raises ConfigError where lm-eval is not installed, no task is named, or `include_path` is not usable."""
    if not config.tasks:
        raise ConfigError("evaluate.tasks is empty.", "Name tasks of lm-eval, for example evaluate.tasks=[arc_easy].")
    if importlib.util.find_spec("lm_eval") is None:
        raise ConfigError("task=evaluate needs lm-eval, which is not installed.", EXTRA)
    if config.include_path is None:
        return
    folder = Path(config.include_path)
    if not folder.is_dir():
        raise ConfigError(f"evaluate.include_path: {folder} is not a folder.", "Name the folder of your tasks' YAML.")
    for path in sorted(folder.rglob("*.yaml")):
        for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1):
            if "!function" in line.partition("#")[0]:
                raise ConfigError(
                    f"{path}, line {number}: !function names Python code, which no configuration runs here.",
                    "Use templates alone, or run lm_eval --model tt_transformers_v2 yourself.",
                )


def evaluation_section(experiment: Experiment, progress: Progress) -> dict[str, Any]:
    """What lm-eval found on the experiment's tasks: figures by task, and what they rest on. Nothing is downloaded.

    Raises ConfigError for a task that lm-eval does not have or whose data is not on this machine, and as HarnessModel.
    """
    config = experiment.config.evaluate
    os.environ.update(ENVIRONMENT)
    import lm_eval
    from lm_eval.tasks import TaskManager

    from .harness_model import HarnessModel

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    # lm-eval's own tasks are thousands of files: they are read only where others are named.
    manager = TaskManager(include_path=config.include_path, include_defaults=False)
    if not set(config.tasks) <= set(manager.all_tasks):
        manager = TaskManager(include_path=config.include_path)
    _check_names(config, manager)
    loaded = _loaded(config, manager)
    model = HarnessModel(experiment, batch_size=config.batch_size, show=progress)
    found = lm_eval.simple_evaluate(
        model=model,
        tasks=loaded,
        num_fewshot=config.num_fewshot,
        limit=config.limit,
        log_samples=False,
        task_manager=manager,
    )
    assert found is not None  # it is on the first of several machines only
    tasks = {name: _task_row(name, found) for name in found["results"]}
    return {
        **model.evaluated.facts(),
        "lm_eval": lm_eval.__version__,
        "tasks": tasks,
        "score": _mean([row["score"] for name, row in tasks.items() if row["in_score"]]),
        "summary": "; ".join(_in_words(name, row) for name, row in tasks.items()),
    }


def _check_names(config: EvaluateConfig, manager: TaskManager) -> None:
    for name in config.tasks:
        if name not in manager.all_tasks:
            near = closest(name, manager.all_tasks)
            hint = f"Did you mean {near}?" if near else "`lm_eval ls tasks` lists them."
            raise ConfigError(f"evaluate.tasks: lm-eval has no task named {name!r}.", hint)


def _loaded(config: EvaluateConfig, manager: TaskManager) -> list[Any]:
    """The tasks' names, once all of their data was found here. Raises ConfigError."""
    for name in config.tasks:
        try:
            manager.load(name)
        except Exception as error:  # whatever datasets, huggingface_hub or a task's own code raises
            said = " ".join(str(error).split())[:200]
            raise ConfigError(
                f"evaluate.tasks: the data of {name} cannot be read here, and nothing is downloaded: {said}",
                f"Fetch it once: lm_eval --model dummy --tasks {name} --limit 1",
            ) from None
    return list(config.tasks)


def _task_row(name: str, found: dict[str, Any]) -> dict[str, Any]:
    """A task's or group's figures with their standard errors; `score` is its first figure of which more is better."""
    figures: dict[str, Any] = {}
    better = found["higher_is_better"].get(name, {})
    score = None
    for key, value in found["results"][name].items():
        metric, comma, how = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, (int, float)):
            continue
        label = metric if how == "none" else key
        error = found["results"][name].get(f"{metric}_stderr,{how}")
        error = float(error) if isinstance(error, (int, float)) and math.isfinite(error) else None
        finite = float(value) if math.isfinite(value) else None
        figures[label] = {"value": finite, "stderr": error, "higher_is_better": better.get(metric)}
        if score is None and better.get(metric):
            score = finite
    samples = found.get("n-samples", {}).get(name, {})
    return {
        "figures": figures,
        "score": score,
        # A group has the figures of its tasks already.
        "in_score": score is not None and not found.get("group_subtasks", {}).get(name),
        "samples": samples.get("effective"),
        "num_fewshot": found["n-shot"].get(name),
        "version": found["versions"].get(name),
    }


def _in_words(name: str, row: dict[str, Any]) -> str:
    figures = ", ".join(f"{label} {_shown(figure)}" for label, figure in row["figures"].items())
    return f"{name}: {figures or 'no figures'}"


def _shown(figure: dict[str, Any]) -> str:
    value, error = figure["value"], figure["stderr"]
    if value is None:
        return "not finite"
    return f"{value:.4g}" if error is None else f"{value:.4g} ± {error:.2g}"


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
