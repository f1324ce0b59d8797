# SPDX-License-Identifier: Apache-2.0
"""What stands between the decoder and ttnn: every op goes through a recorder, which runs it or only asks about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ....planning.plans import Plan

Call = Callable[[Any], Any]


class Recorder(Protocol):
    """Runs `call` with the plan it decides on (None for ops without one) and returns what the call returned."""

    def run(self, name: str, call: Call, plan: Plan | None = None, *, fixed: bool = False) -> Any:
        """`fixed`: the user chose the plan, so no other may be tried."""
        ...


class OpRefused(RuntimeError):
    """ttnn refused an op while a model ran.

    op: its name. said: ttnn's sentence. plan: the program it had, None for ops without one. phase: "prefill" or
    "decode", "" for what belongs to neither.
    """

    def __init__(self, op: str, said: str, plan: Plan | None) -> None:
        super().__init__(f"{op}: {said}")
        self.op, self.said, self.plan, self.phase = op, said, plan, ""


_TOO_LARGE = ("beyond max L1 size", "clash with L1", "L1 buffer")


def overflows_l1(said: str) -> bool:
    """Whether ttnn's sentence is about memory that is too small, so that a smaller program may fit."""
    return any(words in said for words in _TOO_LARGE)
