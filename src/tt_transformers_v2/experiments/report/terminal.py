# SPDX-License-Identifier: Apache-2.0
"""What both commands do alike: mistakes answered in a line, exit codes, options that nearly were."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from ...hardware.errors import ConfigError, closest


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are ConfigErrors with a suggestion."""

    def error(self, message: str) -> NoReturn:
        flags = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
        unknown = next((word for word in message.split() if word.startswith("-")), "")
        near = closest(unknown, flags) if unknown and unknown not in flags else None
        raise ConfigError(f"{message}.", f"Did you mean {near}?" if near else "See --help.")


def run(command: Callable[[list[str]], None], arguments: Sequence[str] | None) -> int:
    """Runs `command` on `arguments`, default the process's own. Returns 0 when done, 2 for the user's mistake, 130 when
    interrupted."""
    try:
        command(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
        return 0
    except ConfigError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the output has seen enough; the interpreter's own flush at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def warn(lines: Sequence[str]) -> None:
    """`lines` on standard error, each as a warning."""
    for line in lines:
        print(f"warning: {line}", file=sys.stderr)
