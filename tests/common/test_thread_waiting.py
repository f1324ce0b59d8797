# SPDX-License-Identifier: Apache-2.0
"""Threads of torch's operations do not hold the cores that the compiled kernels need."""

import os
import sys

import pytest

from tt_transformers_v2.common.thread_waiting import let_torch_threads_sleep


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)


def test_they_soon_sleep(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    let_torch_threads_sleep()
    assert int(os.environ["GOMP_SPINCOUNT"]) > 0


@pytest.mark.parametrize(("name", "value"), [("OMP_WAIT_POLICY", "active"), ("GOMP_SPINCOUNT", "infinity")])
def test_what_the_user_set_stays(monkeypatch, name, value):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setenv(name, value)
    let_torch_threads_sleep()
    assert {key for key in os.environ if key in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")} == {name}
    assert os.environ[name] == value


def test_after_torch_is_loaded_nothing_is_set(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", object())
    let_torch_threads_sleep()
    assert "GOMP_SPINCOUNT" not in os.environ
