# SPDX-License-Identifier: Apache-2.0
"""Machines that seem to have a card, or none."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from tt_transformers_v2.backends.ttnn.process.availability import Availability
from tt_transformers_v2.run.this_machine import machine_device

WITH_CARD = Availability("0.81.1", Path("ttnn"), (Path("/dev/tenstorrent/0"),), None, None)
WITHOUT = dataclasses.replace(WITH_CARD, cards=())


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine that seems to have a card."""
    monkeypatch.setattr("tt_transformers_v2.backends.ttnn.process.availability.look_around", lambda: WITH_CARD)
    machine_device.cache_clear()
    yield
    machine_device.cache_clear()


@pytest.fixture
def no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tt_transformers_v2.backends.ttnn.process.availability.look_around", lambda: WITHOUT)
    machine_device.cache_clear()
