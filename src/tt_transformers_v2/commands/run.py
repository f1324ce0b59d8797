# SPDX-License-Identifier: Apache-2.0
"""Runs an experiment, or a sweep with --multirun.

Exit codes: 0 done, 1 a job failed, 2 a user error, 130 interrupted.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import shutil
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from ..common.checkout import outputs_dir
from ..common.errors import ConfigError, closest
from ..common.garbage import uncollected
from ..config.building import build
from ..config.composition import compose, hydra_base, in_one_line, opened_hydra, refuse_reached
from ..config.conf_folders import conf_dir, refused_files
from ..config.experiment_schema import ExperimentConfig
from ..config.overrides import Overrides, check_overrides
from ..config.resolvers import register_resolvers
from ..config.schema_keys import key_of_flag
from .command_line import SNAPSHOT, complain, flags_of, run_command
from .run_help import help_text

PACKAGE_NAME = "tt-transformers-v2"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line `arguments` (default: the process's own) and returns the exit code."""
    try:
        return run_command(_main, arguments, "interrupted; finished results are kept")
    finally:
        if arguments is not None:
            gc.unfreeze()  # the process goes on


def _main(given: list[str]) -> int:
    with uncollected():  # what is composed lives on, and looking through it takes a tenth of the start-up
        return _answer(given)


def _answer(given: list[str]) -> int:
    from hydra._internal.utils import get_args_parser

    from ..config.hydra_settings import check_flags, use_own_folder
    from ..run.board_snapshot import this_device, use_snapshot
    from . import completion

    parser = get_args_parser()
    parser.add_argument("--snapshot", type=Path, metavar="FILE", help=SNAPSHOT)
    if given and given[0] in completion.FLAGS:  # a shell asks
        completion.answer(given, flags_of(parser), overrides=True)
        return 0
    if "--version" in given:
        print(_versions())
        return 0
    options = _parse_flags(parser, given)
    check_flags(options)
    if options.config_dir:
        use_own_folder(Path(options.config_dir))
    use_snapshot(options.snapshot, options.overrides if options.snapshot else [])
    multirun = bool(options.multirun)
    checked = check_overrides(options.overrides, multirun=multirun, this_machine=this_device)
    if refused_files():
        refuse_reached(checked)
    if not multirun:
        _refuse_sweep_settings(options.overrides)
    if options.help:
        print(help_text())
        return 0
    if not (multirun or options.cfg or options.info or options.hydra_help):
        return _run_alone(checked)
    others = {*options.overrides, *(("--config-dir", "-cd", options.config_dir) if options.config_dir else ())}
    others |= {"--snapshot", str(options.snapshot)} if options.snapshot else set()
    ours = ("--config-dir=", "--snapshot=")
    flags = [argument for argument in given if argument not in others and not argument.startswith(ours)]
    code = _run_hydra([*flags, *checked.hydra_texts], checked)
    return 2 if code == 1 and options.cfg else code  # Hydra's 1 for a --package that does not exist, which it has said


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
            raise ConfigError(f"{text!r} applies only to sweeps.", "Add --multirun.")


def _parse_flags(parser: argparse.ArgumentParser, given: list[str]) -> argparse.Namespace:
    """Hydra's own flags, with its complaint about an unknown one cut to a line."""

    def complain(message: str) -> NoReturn:
        flags = flags_of(parser)
        unknown = next((argument for argument in given if argument.startswith("-") and argument not in flags), "")
        near = closest(unknown, flags) if unknown else None
        instead = key_of_flag(unknown) if unknown and not near else ""
        raise ConfigError(f"{message}.", f"Did you mean {near}?" if near else instead or "See --help.")

    parser.error = complain  # type: ignore[method-assign]
    return parser.parse_intermixed_args(given)


def _run_alone(checked: Overrides) -> int:
    """One job; Hydra composes it, makes its folder and calls us. Returns its exit code.

    hydra.main would compose everything twice, the first time for hydra.mode alone.
    """
    with _translated(checked), opened_hydra() as hydra:
        done = hydra.run("config", lambda composed: _job(composed, checked), [*checked.hydra_texts, "hydra.mode=RUN"])
        return int(done.return_value)


def _run_hydra(arguments: list[str], checked: Overrides) -> int:
    """Hydra's own main, for sweeps and its flags. Returns the exit code of the sweep, else 0."""
    import hydra

    gc.enable()
    register_resolvers()
    program, sys.argv = sys.argv, [sys.argv[0], *arguments]

    def experiments(composed: Any) -> None:
        raise AssertionError("sweeps run their jobs themselves")

    experiments.runs_experiments = True  # type: ignore[attr-defined]  # our sweeper runs no other functions
    try:
        with _translated(checked):
            hydra.main(config_path=str(conf_dir()), config_name="config", **hydra_base())(experiments)()
        return 0
    except SystemExit as ended:  # how our sweeper passes its exit code through Hydra
        return ended.code if isinstance(ended.code, int) else 1
    finally:
        sys.argv = program


@contextmanager
def _translated(checked: Overrides) -> Iterator[None]:
    """Turns Hydra's exceptions into ConfigErrors; full tracebacks with HYDRA_FULL_ERROR=1."""
    import yaml
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    wanted_tracebacks = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # otherwise Hydra prints its own traceback and exits with 1
    handlers = list(logging.getLogger().handlers)
    try:
        yield
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, UnicodeDecodeError) as error:
        if wanted_tracebacks:
            raise
        raise _in_our_words(error, checked) from None
    except OSError as error:
        folder = next((Path(str(item.value)) for item in checked.items if item.key == "hydra.run.dir"), None)
        if folder is not None:
            _remove_unused(folder)
        where = error.filename or folder or outputs_dir()
        raise ConfigError(f"cannot write {where}: {error.strerror}.", "Choose another hydra.run.dir.") from None
    finally:
        # Hydra leaves a handler that opens the run's log on its first record, when the folder may be gone.
        for handler in [each for each in logging.getLogger().handlers if each not in handlers]:
            logging.getLogger().removeHandler(handler)
        if not wanted_tracebacks:
            del os.environ["HYDRA_FULL_ERROR"]


def _job(composed: Any, checked: Overrides) -> int:
    """The job of a single run: Hydra has composed it and made its folder. Returns its exit code."""
    from hydra.core.hydra_config import HydraConfig

    gc.freeze()  # neither a run nor the end of the process looks through what was composed
    gc.enable()
    folder = Path(HydraConfig.get().runtime.output_dir)
    overrides = Overrides(tuple(item for item in checked.items if not item.is_setting))
    try:
        result = _run_one(_typed(composed, checked), overrides, folder)
    except ConfigError as error:
        _remove_unused(folder)
        return complain(error)
    except Exception as error:
        (folder / "run.log").write_text(traceback.format_exc(), encoding="utf-8")
        complain(ConfigError(f"{type(error).__name__}: {error}. The traceback is in {folder / 'run.log'}"))
        return 1
    return 0 if result["status"] == "ok" else 1


def _typed(composed: Any, checked: Overrides) -> ExperimentConfig:
    """What Hydra composed, as the objects of the schema. Raises ConfigError for what is out of bounds."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        config = OmegaConf.to_object(composed)
    except (ConfigError, OmegaConfBaseException) as error:
        raise _in_our_words(error, checked) from None
    assert isinstance(config, ExperimentConfig)
    return config


def _in_our_words(error: Exception, checked: Overrides) -> ConfigError:
    """Hydra and OmegaConf stop at the first mistake and know no likely fix: here all of them are found again."""
    try:
        build(ExperimentConfig, compose(checked.first_points))
    except ConfigError as ours:
        return ours
    return error if isinstance(error, ConfigError) else ConfigError(in_one_line(error))


def _run_one(config: ExperimentConfig, overrides: Overrides, folder: Path) -> dict[str, Any]:
    """Runs the job and prints its outcome; returns the result."""
    from ..config.resolve import resolve_or_refuse
    from ..run.result_files import RESULT_FILE
    from ..run.runner import run
    from .summary import print_summary

    experiment = resolve_or_refuse(config, overrides.typed)
    if experiment.config.sweep.axes or experiment.config.sweep.pairs:
        raise ConfigError("this experiment is a sweep.", "Add --multirun.")
    result = run(experiment, folder, overrides.texts)
    print_summary(experiment, result, str(folder / RESULT_FILE))
    if result["search"] is not None or result["quantize"] is not None:
        from ..report import write_report

        print(f"report {write_report(folder)}")
    return result


def _remove_unused(folder: Path) -> None:
    """A run folder in which Hydra wrote its own files and we nothing is removed again."""
    if folder.is_dir() and {path.name for path in folder.iterdir()} <= {".hydra"}:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
