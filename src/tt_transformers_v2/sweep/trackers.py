# SPDX-License-Identifier: Apache-2.0
"""Finished jobs told to MLflow or TensorBoard, from the sweep's own process, whatever launcher runs them.

Both are local unless `sweep.mlflow_uri` names a server: MLflow's store and TensorBoard's events lie in the sweep's
folder. Each job is told once; result.json stays the truth.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from ..common.errors import ConfigError
from ..config.sweep_schema import SweepConfig, TrackerName
from ..run.result_files import COLUMNS

# Tracker -> the module it needs and how to get it.
_NEEDS = {TrackerName.mlflow: ("mlflow", "mlflow"), TrackerName.tensorboard: ("tensorboard", "tensorboard")}


class Tracker(Protocol):
    """Is told of every job that ends, one call after the other."""

    def tell(self, row: Mapping[str, Any], folder: Path) -> None:
        """A job has ended: its row of the table, and the folder with its result.json."""
        ...

    def close(self) -> None:
        """Is called once, after the last job or when the sweep stops early."""
        ...


def check_trackers(settings: SweepConfig) -> None:
    """Raises ConfigError, before jobs run, for a tracker that is not installed."""
    for name in settings.trackers:
        module, extra = _NEEDS[name]
        if find_spec(module) is None:
            raise ConfigError(
                f"sweep.trackers: {name} is not installed.",
                f"Install it with pip install 'tt-transformers-v2[{extra}]'.",
            )
    if settings.mlflow_uri is not None and TrackerName.mlflow not in settings.trackers:
        raise ConfigError("sweep.mlflow_uri requires sweep.trackers=[mlflow].")


@contextlib.contextmanager
def open_trackers(settings: SweepConfig, folder: Path) -> Iterator[Sequence[Tracker]]:
    """The trackers of a sweep in `folder`, closed at the end."""
    opened: list[Tracker] = []
    try:
        for name in dict.fromkeys(settings.trackers):
            opened.append(Mlflow(folder, settings.mlflow_uri) if name is TrackerName.mlflow else TensorBoard(folder))
        yield opened
    finally:
        for tracker in opened:
            tracker.close()


def figures(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row."""
    return {
        name: float(row[name])
        for name in COLUMNS
        if isinstance(row.get(name), (int, float)) and not isinstance(row[name], bool)
    }


def settings_of(row: Mapping[str, Any]) -> dict[str, str]:
    """What was overridden in a row, and its configuration's hash."""
    names = list(row)
    keys = names[1 : names.index("status")]
    return {key: str(row[key]) for key in keys} | {"config_hash": str(row["config_hash"])}


class Mlflow:
    """One run of the sweep's experiment for each job."""

    def __init__(self, folder: Path, uri: str | None) -> None:
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=uri or f"sqlite:///{folder / 'mlflow.db'}")
        found = self._client.get_experiment_by_name(folder.name)
        self._experiment = found.experiment_id if found else self._client.create_experiment(folder.name)

    def tell(self, row: Mapping[str, Any], folder: Path) -> None:
        tags = {
            "mlflow.runName": str(row["job"]),
            "result": str(folder / "result.json"),
            "error": str(row["error"] or ""),
        }
        run = self._client.create_run(self._experiment, tags=tags).info.run_id
        for key, value in settings_of(row).items():
            # MLflow takes letters, digits and a few signs, and 500 characters.
            self._client.log_param(run, key.replace("+", ""), value[:500])
        for name, figure in figures(row).items():
            self._client.log_metric(run, name, figure)
        self._client.set_terminated(run, "FINISHED" if row["status"] == "ok" else "FAILED")

    def close(self) -> None:
        pass


class TensorBoard:
    """One run with hyperparameters and figures for each job, under `tensorboard` in the sweep's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "tensorboard"

    def tell(self, row: Mapping[str, Any], folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        with SummaryWriter(str(self._folder / str(row["job"]))) as writer:
            numbers = figures(row)
            for summary in hparams(settings_of(row), numbers):
                writer.file_writer.add_summary(summary)
            for key, value in numbers.items():
                writer.add_scalar(key, value)
            if row["error"]:
                writer.add_text("error", str(row["error"]))

    def close(self) -> None:
        pass
