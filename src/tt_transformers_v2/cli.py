# SPDX-License-Identifier: Apache-2.0
"""The command line: a Hydra application whose mistakes are answered in one or two lines.

Exit codes: 0 done, 1 a job failed, 2 the user's mistake, 130 interrupted.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from .experiments.command import complain, flags_of, run_command
from .hardware.composition import conf_dir, hydra_base, in_one_line, outputs_dir, register_resolvers
from .hardware.errors import ConfigError, closest

PACKAGE_NAME = "tt-transformers-v2"


@dataclass(frozen=True)
class _Outcome:
    """What became of one of this process's jobs."""

    folder: Path
    code: int


_outcomes: list[_Outcome] = []


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line `arguments` (default: the process's own) and returns the exit code."""
    return run_command(_main, arguments, "interrupted; what was finished is kept")


def _main(given: list[str]) -> int:
    from hydra._internal.utils import get_args_parser

    from .experiments import completion
    from .experiments.hydra_settings import check_flags, use_own_folder
    from .experiments.overrides import check_overrides

    parser = get_args_parser()
    if completion.asked(given):
        completion.answer(given, flags_of(parser), overrides=True)
        return 0
    if "--version" in given:
        print(_versions())
        return 0
    options = _parse_flags(parser, given)
    check_flags(options)
    if options.config_dir:
        use_own_folder(Path(options.config_dir))
    multirun = bool(options.multirun)
    checked = check_overrides(options.overrides, multirun=multirun)
    if not multirun:
        _refuse_sweep_settings(options.overrides)
    spelled = dict(zip(options.overrides, checked.texts, strict=True))
    _outcomes.clear()
    code = _run_hydra([spelled.get(argument, argument) for argument in given])
    if multirun and _outcomes:  # Hydra's own sweeper, which makes no table
        _report_sweep(_outcomes[0].folder.parent)
    return max((code, *(outcome.code for outcome in _outcomes)))


def _versions() -> str:
    """This package's version and those of what its results depend on; "none" for what is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    def of(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "none"

    others = ", ".join(f"{name} {of(name)}" for name in ("hydra-core", "torch", "ttnn"))
    return f"{PACKAGE_NAME} {of(PACKAGE_NAME)} ({others})"


def _refuse_sweep_settings(overrides: Sequence[str]) -> None:
    for text in overrides:
        if text.partition("=")[0].split(".")[0] in ("sweep", "launcher"):
            raise ConfigError(f"{text!r} is for sweeps.", "Add --multirun.")


def _parse_flags(parser: argparse.ArgumentParser, given: list[str]) -> argparse.Namespace:
    """Hydra's own flags, with its complaint about an unknown one cut to a line."""

    def complain(message: str) -> NoReturn:
        flags = flags_of(parser)
        unknown = next((argument for argument in given if argument.startswith("-") and argument not in flags), "")
        near = closest(unknown, flags) if unknown else None
        raise ConfigError(f"{message}.", f"Did you mean {near}?" if near else "See --help.")

    parser.error = complain  # type: ignore[method-assign]
    return parser.parse_args(given)


def _run_hydra(arguments: list[str]) -> int:
    """Hydra's own main, with its exceptions turned into ConfigError. Full tracebacks with HYDRA_FULL_ERROR=1.

    Returns the exit code of a sweep by our own sweeper, else 0.
    """
    import hydra
    import yaml
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    register_resolvers()
    wanted_tracebacks = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # otherwise Hydra prints its own traceback and exits with 1
    program, sys.argv = sys.argv, [sys.argv[0], *arguments]
    handlers = list(logging.getLogger().handlers)
    try:
        hydra.main(config_path=str(conf_dir()), config_name="config", **hydra_base())(_job)()
        return 0
    except SystemExit as ended:  # how our sweeper passes its exit code through Hydra
        return ended.code if isinstance(ended.code, int) else 1
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, UnicodeDecodeError) as error:
        if wanted_tracebacks:
            raise
        raise ConfigError(in_one_line(error)) from None
    except OSError as error:
        folder = _typed_run_folder(arguments)
        if folder is not None:
            _remove_unused(folder)
        where = error.filename or folder or outputs_dir()
        raise ConfigError(f"cannot write {where}: {error.strerror}.", "Choose another hydra.run.dir.") from None
    finally:
        sys.argv = program
        # Hydra leaves a handler that opens the run's log on its first record, when the folder may be gone.
        for handler in [each for each in logging.getLogger().handlers if each not in handlers]:
            logging.getLogger().removeHandler(handler)
        if not wanted_tracebacks:
            del os.environ["HYDRA_FULL_ERROR"]


def _job(composed: Any) -> float | tuple[float, ...] | None:
    """One job: Hydra has composed it and made its folder. Errors are recorded, so that a sweep goes on.

    Returns the figures of sweep.objectives, which sweepers that optimise look at; NaN for those it has not.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    from .experiments.overrides import as_typed, typed_paths
    from .experiments.results import write_result
    from .experiments.runner import blank_result

    job = HydraConfig.get()
    folder, overrides = Path(job.runtime.output_dir), as_typed(job.overrides.task)
    in_sweep = job.mode == RunMode.MULTIRUN
    try:
        plain = OmegaConf.to_container(composed, resolve=True)
        result = _run_one(plain, typed_paths(overrides), overrides, folder, in_sweep)
        _outcomes.append(_Outcome(folder, 0 if result["status"] == "ok" else 1))
        return _objectives(plain, result)
    except ConfigError as error:
        if in_sweep:
            write_result(folder, blank_result(overrides) | {"error": str(error)})
        else:
            _remove_unused(folder)
        complain(ConfigError(f"job {folder.name}: {error}") if in_sweep else error)
        _outcomes.append(_Outcome(folder, 2))
    except Exception as error:
        (folder / "run.log").write_text(traceback.format_exc(), encoding="utf-8")
        complain(ConfigError(f"{type(error).__name__}: {error}. The traceback is in {folder / 'run.log'}"))
        _outcomes.append(_Outcome(folder, 1))
    return None


def _objectives(composed: Any, result: dict[str, Any]) -> float | tuple[float, ...] | None:
    from .experiments.results import table_rows
    from .experiments.sweep.samplers import read_objectives

    wanted = read_objectives(composed["sweep"]["objectives"])
    if not wanted:
        return None
    (row,) = table_rows([("", result)])
    values = tuple(objective.of(row) for objective in wanted)
    return values[0] if len(values) == 1 else values


_job.runs_experiments = True  # type: ignore[attr-defined]  # our sweeper runs no other functions


def _run_one(plain: Any, typed: set[str], overrides: list[str], folder: Path, in_sweep: bool) -> dict[str, Any]:
    """Runs the job and prints its outcome; returns the result."""
    from .experiments.configuration import resolve_or_refuse
    from .experiments.results import RESULT_FILE
    from .experiments.runner import run
    from .experiments.summary import print_summary

    experiment = resolve_or_refuse(plain, typed)
    if experiment.config.sweep.axes or experiment.config.sweep.pairs:
        raise ConfigError("this experiment is a sweep.", "Add --multirun.")
    result = run(experiment, folder, overrides)
    if in_sweep:
        print(
            f"job {folder.name}: {' '.join(overrides)}: {result['status']}, {result['seconds']:.1f} s",
            flush=True,
        )
    else:
        print_summary(experiment, result, str(folder / RESULT_FILE))
        if result["search"] is not None:
            from .experiments.report import write_report

            print(f"report {write_report(folder)}")
    return result


def _report_sweep(sweep: Path) -> None:
    from .experiments.results import write_table
    from .experiments.summary import print_sweep

    print_sweep(write_table(sweep), str(sweep / "results.csv"))


def _typed_run_folder(arguments: list[str]) -> Path | None:
    """The folder that `hydra.run.dir=` names literally."""
    values = [text.partition("=")[2] for text in arguments if text.startswith("hydra.run.dir=")]
    return Path(values[-1]) if values and "${" not in values[-1] else None


def _remove_unused(folder: Path) -> None:
    """A run folder in which Hydra wrote its own files and we nothing is removed again."""
    if folder.is_dir() and {path.name for path in folder.iterdir()} <= {".hydra"}:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
