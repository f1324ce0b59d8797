# SPDX-License-Identifier: Apache-2.0
"""What scripts/run.py --help prints."""

from __future__ import annotations

from ..common.command_names import command
from ..config.option_texts import listing

_TEXT = """\
Describe an experiment in one line; know its accuracy and its speed before touching a card.

Groups and their options:

{groups}

Choose with GROUP=OPTION (* is the default), set any value with KEY=VALUE (--cfg job prints them all), sweep with
--multirun KEY=A,B:
  {run} device=t3k precision=accuracy model=llama70b
  {run} --multirun compute.mlp.math_fidelity=LoFi,HiFi2
Other flags: --cfg job [--resolve], --info, --multirun, --config-dir DIR (your own options), --version,
--hydra-help. Completion in bash and zsh: eval "$({run} -sc install=bash)"
"""


def help_text() -> str:
    """The groups with their options, and how to choose, set and sweep."""
    return _TEXT.format(groups=listing(), run=command("run"))
