# SPDX-License-Identifier: Apache-2.0
"""Commands of the checkout as they are typed, but in this process: starting one and loading torch takes seconds.

What only a whole process shows (that a script starts, what it loads, how it ends when it is killed or its output is
closed) has tests of its own: commands/test_run_command.py, sweep/test_sweep_command.py and, with installed commands,
test_wheel.py.
"""

import contextlib
import importlib
import io
import subprocess
import sys
from pathlib import Path

import pytest


def typed_here(words, cwd, **environment):
    """What `python WORDS` gives in the folder `cwd`, the first word a script of scripts/."""
    command = importlib.import_module(f"tt_transformers_v2.commands.{Path(words[0]).stem}")
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setattr(sys, "argv", list(words))
        patch.delenv("HYDRA_FULL_ERROR", raising=False)
        for name, value in environment.items():
            patch.setenv(name, value)
        code = command.main(list(words[1:]))
    said = [stream.buffer.getvalue().decode() for stream in (out, err)]
    return subprocess.CompletedProcess(words, code, *said)
