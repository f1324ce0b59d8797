# SPDX-License-Identifier: Apache-2.0
"""recorder.Recorder that asks ttnn about every op, notes the answer and lets nothing run.

Each op is asked about twice. A capture without dispatch has ttnn check it and account for its buffers. Then ttnn places
what the op allocates on the described chips, so that the next ops find L1 as they would on a card: in the capture
tensors have no addresses, and what does not fit beside the others goes unnoticed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ....common.units import TILE
from ....planning.plans import Multicast1DPlan, MulticastPlan, Plan, SdpaPlan, smaller_plans, to_fields
from ..process.failures import own_words
from ..process.session import Usage, captured
from .recorder import overflows_l1

_OURS = "ConfigError: "  # begins a refusal of this package's own: something that ttnn does not check

Call = Callable[[Any], Any]
Row = dict[str, Any]


class Refused(Exception):
    """ttnn refused an op and no other program was accepted; what follows it cannot be asked about."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What ttnn says of one op with one plan.

    `held`: bytes per core that earlier tensors take. `error` tells why it refused; `value` and `usage` are None then.
    """

    held: int
    value: Any = None
    usage: Usage | None = None
    error: str | None = None


class Asking:
    """Asks about the ops of one walk through a model; `rows` has an entry for each, `phase` and `part` say where it is.

    Args:
        mesh: the open mesh of a described system.
        autofit: whether smaller plans may be tried where L1 overflows.
    """

    def __init__(self, mesh: Any, *, autofit: bool) -> None:
        self.mesh, self.autofit = mesh, autofit
        self.rows: list[Row] = []
        self.accepted: dict[tuple[str, str, Plan | None], Plan | None] = {}  # by phase, op and the first plan tried
        self.phase = self.part = ""

    def run(self, name: str, call: Call, plan: Plan | None = None, *, fixed: bool = False) -> Any:
        """What the op returns, on the described chips. Raises Refused.

        Where ttnn refuses a plan of the user's and accepts one near it, the walk goes on with that one.
        """
        may_fit = plan is not None and self.autofit and not fixed
        answer, tried, refused = self._first_accepted(call, smaller_plans(plan) if may_fit and plan else [plan])
        if answer.error is None:
            self.accepted[self.phase, name, plan] = tried
            self._note(name, tried, answer, refused, first=plan if refused else None)
            return answer.value
        repaired = self._repaired(call, plan) if fixed and plan is not None else None
        self._note(name, plan, answer, refused, near=repaired[0] if repaired else None)
        if repaired is None:
            raise Refused(name)
        self.accepted[self.phase, name, plan] = repaired[0]
        return repaired[1]

    def note_failure(self, name: str, error: str) -> None:
        """Adds a row for what failed outside of an op: a tensor that could not be placed."""
        self._note(name, None, Answer(self.held(), error=error), [error])

    def held(self) -> int:
        """Bytes of L1 per core that tensors take now."""
        return int(_l1(self.mesh).total_bytes_allocated_per_bank)

    def _first_accepted(self, call: Call, plans: Iterable[Plan | None]) -> tuple[Answer, Plan | None, list[str]]:
        """The first plan that ttnn accepts, or its answer to the first of all; and what it said of those refused.

        A refusal that smaller plans cannot change ends the search.
        """
        refused: list[str] = []
        first: tuple[Answer, Plan | None] | None = None
        for plan in plans:
            answer = self._ask(call, plan)
            if answer.error is None:
                return answer, plan, refused
            first = first or (answer, plan)
            refused.append(answer.error)
            if not overflows_l1(answer.error):
                break
        assert first is not None
        return *first, refused

    def _repaired(self, call: Call, plan: Plan) -> tuple[Plan, Any] | None:
        """The plan nearest to the user's that ttnn accepts, and what the op then returns; None if there is none."""
        for near in near_plans(plan):
            answer = self._ask(call, near)
            if answer.error is None:
                return near, answer.value
        return None

    def _ask(self, call: Call, plan: Plan | None) -> Answer:
        held = self.held()
        found = captured(lambda: call(plan))
        if found.error is not None:
            return Answer(held, error=found.error)
        try:
            return Answer(held, call(plan), found.usage)
        except RuntimeError as refusal:
            return Answer(held, error=own_words(str(refusal)) or "RuntimeError")

    def _note(
        self,
        name: str,
        plan: Plan | None,
        answer: Answer,
        refused: list[str],
        *,
        first: Plan | None = None,
        near: Plan | None = None,
    ) -> None:
        """Adds a row. `first` is the plan that ttnn refused before it took `plan`, `near` one it took in its place."""
        failed = answer.error is not None
        said = refused[0] if refused else None
        usage = None if answer.usage is None else dataclasses.asdict(answer.usage)
        self.rows.append(
            {
                "phase": self.phase,
                "part": self.part,
                "op": name,
                "output": _shapes(answer.value),
                "program": _fields(plan),
                "held": answer.held,
                "usage": usage,
                "peak": None if usage is None else answer.held + usage["total"],
                "verdict": "failed" if failed else "fitted" if refused else "ok",
                "plans_refused": len(refused),
                "said": said and said.removeprefix(_OURS),
                "said_by": said and ("tt-transformers-v2" if said.startswith(_OURS) else "ttnn"),
                "first_program": _fields(first),
                "passes_with": _fields(near),
            }
        )


def near_plans(plan: Plan) -> Iterator[Plan]:
    """Plans like a user's that ttnn may rather accept, in the order of preference.

    Of a matmul with a multicast first shorter blocks of the inner dimension, of any length, then smaller subblocks,
    then both; of attention first a smaller chunk of the kind that has the larger ones, then of the other, then of both;
    of a decode matmul the smaller plans.
    """
    if isinstance(plan, SdpaPlan):
        for name in sorted(("q_chunk_size", "k_chunk_size"), key=lambda name: -getattr(plan, name)):
            yield from _with_smaller(plan, name)
    if not isinstance(plan, (MulticastPlan, Multicast1DPlan)):
        yield from list(smaller_plans(plan))[1:]
        return
    yield from (dataclasses.replace(plan, in0_block_w=block) for block in range(plan.in0_block_w - 1, 0, -1))
    subblocks = sorted(
        (
            (height, width)
            for height in range(1, plan.out_subblock_h + 1)
            for width in range(1, plan.out_subblock_w + 1)
            if (height, width) != (plan.out_subblock_h, plan.out_subblock_w)
            and plan.per_core_m % height == 0
            and plan.per_core_n % width == 0
        ),
        key=lambda pair: (-pair[0] * pair[1], -pair[1]),
    )
    for block in (plan.in0_block_w, 1):
        for height, width in subblocks:
            yield dataclasses.replace(plan, in0_block_w=block, out_subblock_h=height, out_subblock_w=width)


def _with_smaller(plan: SdpaPlan, name: str) -> Iterator[SdpaPlan]:
    """The plan with half of a chunk, a quarter and so on down to a tile."""
    size = getattr(plan, name)
    while size > TILE:
        size = max(TILE, size // 2 // TILE * TILE)
        yield dataclasses.replace(plan, **{name: size})


def l1_bytes(mesh: Any) -> int:
    """Bytes of L1 per core that ttnn's allocator may hand out on this mesh."""
    return int(_l1(mesh).total_bytes_per_bank)


def _l1(mesh: Any) -> Any:
    import ttnn

    return ttnn.get_memory_view(mesh, ttnn.BufferType.L1)


def _fields(plan: Plan | None) -> dict[str, Any] | None:
    return None if plan is None else to_fields(plan)


def _shapes(value: Any) -> list[list[int]]:
    tensors = value if isinstance(value, (list, tuple)) else [value]
    return [list(tensor.shape) for tensor in tensors if hasattr(tensor, "shape")]
