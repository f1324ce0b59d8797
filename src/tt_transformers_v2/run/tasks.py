# SPDX-License-Identifier: Apache-2.0
"""Which function runs a task. Rooms register theirs in a module called `*_task.py`, which is found by that name.

So the runner imports none of the rooms above it, in whatever process a job runs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.checkout import PACKAGE
from ..config.experiment_schema import Task
from ..config.resolve import Experiment

if TYPE_CHECKING:
    from ..accuracy.state_reuse import SharedStates


@dataclass(frozen=True)
class Job:
    """What a task gets: the experiment, the folder for what it writes besides result.json, and whether a person
    watches. `shared` keeps weights and reference states between the jobs of a process, where there are several."""

    experiment: Experiment
    folder: Path
    show_progress: bool = False
    shared: SharedStates | None = None


@dataclass(frozen=True)
class Outcome:
    """Sections of result.json by name; `failure` says in a line why the job did not pass."""

    sections: dict[str, Any]
    failure: str | None = None


TaskFunction = Callable[[Job], Outcome]
_functions: dict[Task, TaskFunction] = {}


def runs(*tasks: Task) -> Callable[[TaskFunction], TaskFunction]:
    """Makes a function the one that runs `tasks`. Its module imports what is heavy inside the function."""

    def register(function: TaskFunction) -> TaskFunction:
        _functions.update(dict.fromkeys(tasks, function))
        return function

    return register


def function_of(task: Task) -> TaskFunction:
    """The function that runs `task`. Raises KeyError where no module registered one."""
    _load_all()
    return _functions[task]


@functools.cache
def _load_all() -> None:
    for path in sorted(PACKAGE.glob("*/*_task.py")):
        import_module(f"...{path.parent.name}.{path.stem}", __name__)
