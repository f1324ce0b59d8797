# SPDX-License-Identifier: Apache-2.0
"""What all commands share: one-line answers to mistakes, exit codes, suggestions for mistyped options, closed pipes."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TextIO, cast

from ..common.command_names import command as command_name
from ..common.errors import ConfigError, closest
from ..config.conf_folders import in_own_context
from ..config.hydra_settings import use_own_folder
from ..config.schema_keys import key_of_flag
from ..run.board_snapshot import use_snapshot
from . import completion

SNAPSHOT = "what `tt-smi -s` wrote of a machine, which is then device=auto"


class CommandParser(argparse.ArgumentParser):
    """A parser whose complaints are ConfigErrors with a suggestion; abbreviated options are rejected.

    `name` is that of the script: the program is called as this user calls it.
    """

    def __init__(self, name: str = "", **settings: Any) -> None:
        settings.setdefault("prog", command_name(name))
        settings.setdefault("formatter_class", _wide)
        super().__init__(allow_abbrev=False, **settings)
        self._composes = False

    def error(self, message: str) -> NoReturn:
        """Raises ConfigError with argparse's `message` and the option that was probably meant."""
        unknown = next((word for word in message.split() if word.startswith("-")), "")
        unknown = unknown.partition("=")[0].rstrip(":")
        flags = flags_of(self)
        others = [flag for flag in flags if flag != "--help"]
        near = closest(unknown, others) if unknown and unknown not in flags else None
        instead = key_of_flag(unknown) if unknown and not near and self._composes else ""
        raise ConfigError(f"{message}.", f"Did you mean {near}?" if near else instead or "See --help.")

    def takes_overrides(self) -> None:
        """Adds OVERRIDE and --config-dir, for commands that compose a configuration."""
        self._composes = True
        about = f"GROUP=OPTION or KEY=VALUE, as for {command_name('run')}"
        self.add_argument("overrides", nargs="*", metavar="OVERRIDE", help=about)
        self.add_argument("--config-dir", metavar="DIR", help="a folder with your own configuration groups")
        self.add_argument("--snapshot", type=Path, metavar="FILE", help=SNAPSHOT)

    def read(self, given: Sequence[str]) -> argparse.Namespace:
        """The options, overrides anywhere among them; adds the folder of --config-dir. Answers a shell that completes.

        Raises ConfigError, and SystemExit where the answer was given.
        """
        if given and given[0] in completion.FLAGS:  # a shell asks
            completion.answer(given, flags_of(self), overrides=self._composes)
            raise SystemExit(0)
        options = self.parse_args(given) if self._subparsers else self.parse_intermixed_args(given)
        if self._composes and options.config_dir:
            use_own_folder(Path(options.config_dir))
        if self._composes:
            use_snapshot(options.snapshot, options.overrides if options.snapshot else [])
        return options


def _wide(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=30, width=100)


def flags_of(parser: argparse.ArgumentParser) -> list[str]:
    """The long options of a parser."""
    return [flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")]


def run_command(
    body: Callable[[list[str]], int | None], arguments: Sequence[str] | None, interrupted: str = "interrupted"
) -> int:
    """Runs `body` on `arguments`, default the process's own.

    Returns what it returns, None as 0; the exit code of a ConfigError, 2 for a user error; 130 after Ctrl-C, with
    `interrupted` on standard error.
    """
    with _output_may_close():
        try:
            return in_own_context(body)(list(sys.argv[1:] if arguments is None else arguments)) or 0
        except ConfigError as error:
            return complain(error)
        except KeyboardInterrupt:
            print(interrupted, file=sys.stderr)
            return 130
        except SystemExit as ended:  # after --help, and how our sweeper passes its exit code through Hydra
            return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        finally:
            if arguments is None:
                gc.freeze()  # the process ends: nothing is looked through for garbage, a third of a second with torch


def complain(error: ConfigError) -> int:
    """The error on standard error; returns its exit code."""
    for line in str(error).splitlines():
        print(f"error: {line}", file=sys.stderr)
    return error.exit_code


def warn(lines: Sequence[str]) -> None:
    """`lines` on standard error, each as a warning."""
    for line in lines:
        print(f"warning: {line}", file=sys.stderr)


class _MayClose:
    """A text stream whose reader may go away (`| head`): what it does not want any more is dropped."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._drop_the_rest()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._drop_the_rest()

    def _drop_the_rest(self) -> None:
        # The descriptor itself, so that neither children nor the interpreter's flush at exit complain.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _output_may_close() -> Iterator[None]:
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, _MayClose(stream)) for stream in before)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before
