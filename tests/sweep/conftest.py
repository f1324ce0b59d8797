# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the sweep tests."""

import pytest

from tt_transformers_v2.sweep import worker


@pytest.fixture
def broken_job(monkeypatch):
    """Makes the jobs whose overrides contain a text raise an error of ours; call it with that text."""
    real = worker.run

    def breaking(text, error=RuntimeError):
        def run(experiment, folder, overrides=(), **settings):
            if text in overrides:
                raise error("a mistake of ours")
            return real(experiment, folder, overrides, **settings)

        monkeypatch.setattr(worker, "run", run)

    return breaking


@pytest.fixture
def interrupted_job(monkeypatch):
    """Interrupts the job that runs as the given one, counted from 1, in this process; returns a list of those begun."""
    real = worker.run

    def interrupting(number):
        calls = []

        def run(*arguments, **settings):
            calls.append(1)
            if len(calls) == number:
                raise KeyboardInterrupt
            return real(*arguments, **settings)

        monkeypatch.setattr(worker, "run", run)
        return calls

    return interrupting
