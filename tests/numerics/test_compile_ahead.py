# SPDX-License-Identifier: Apache-2.0
"""The largest kernel is compiled beside the others where that is of use, and nowhere else."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tt_transformers_v2.numerics import compile_ahead
from tt_transformers_v2.numerics.first_product import ENDED

COMPILES = """
from pathlib import Path
from tt_transformers_v2.numerics import compile_ahead, exact_float
from tt_transformers_v2.numerics.matrix_unit import matmul
import torch
compile_ahead.start()
assert compile_ahead._process is not None
one = torch.ones(32, 32)
print(matmul(one, one, math_fidelity="HiFi4", fp32_dest_acc_en=True)[0, 0].item())
print(sum(exact_float.accumulate.stats.cache_hits.values()), compile_ahead._process)
compile_ahead.start()
print(compile_ahead._process)
"""


@pytest.fixture
def started(monkeypatch):
    """The commands that were started, none of which runs."""
    commands = []
    process = SimpleNamespace(wait=lambda: 0, kill=lambda: None, poll=lambda: None)
    monkeypatch.setattr(subprocess, "Popen", lambda command, **_: (commands.append(command), process)[1])
    monkeypatch.setattr(compile_ahead, "_process", None)
    monkeypatch.setattr(compile_ahead, "_missing", lambda _: True)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    yield commands
    compile_ahead.finish()


def test_it_is_begun_once_and_waited_for(started):
    compile_ahead.start()
    compile_ahead.start()
    assert [command[1:] for command in started] == [["-c", compile_ahead._PROGRAM]]
    compile_ahead.finish()
    assert compile_ahead._process is None


def test_who_would_have_to_wait_does_something_else_first_and_once(started):
    done = []
    compile_ahead.start(lambda: done.append(1))
    compile_ahead.finish()
    compile_ahead.finish()
    assert done == [1]


def test_nothing_else_is_done_where_there_is_no_wait(started, monkeypatch):
    done = []
    compile_ahead.start(lambda: done.append(1))
    assert compile_ahead._process is not None
    monkeypatch.setattr(compile_ahead._process, "poll", lambda: 0)
    compile_ahead.finish()
    assert not done


@pytest.mark.parametrize("why", ["one core", "compiled before"])
def test_it_is_not_begun_where_it_is_of_no_use(started, monkeypatch, why):
    if why == "one core":
        monkeypatch.setattr(os, "cpu_count", lambda: 1)
    else:
        monkeypatch.setattr(compile_ahead, "_missing", lambda _: False)
    compile_ahead.start()
    assert not started


@pytest.fixture
def kernel(tmp_path):
    source = tmp_path / "kernels.py"
    source.write_text("def add(x):\n    return x\n")
    code = compile(source.read_text(), str(source), "exec")
    names = {}
    exec(code, names)
    cache = tmp_path / "cache"
    cache.mkdir()
    return SimpleNamespace(signatures=[], stats=SimpleNamespace(cache_path=str(cache)), py_func=names["add"])


@pytest.mark.parametrize(("seconds", "missing"), [(None, True), (-1, True), (0, False), (1, False)])
def test_a_form_older_than_its_source_counts_for_nothing(kernel, seconds, missing):
    source = Path(kernel.py_func.__code__.co_filename)
    if seconds is not None:
        index = Path(kernel.stats.cache_path) / "kernels.add-1.py312.nbi"
        index.touch()
        os.utime(source, ns=(10**18, 10**18))
        os.utime(index, ns=(10**18, 10**18 + seconds * 10**9))
    assert compile_ahead._missing(kernel) is missing


def test_a_kernel_in_memory_and_one_without_a_cache_need_nothing(kernel):
    kernel.signatures.append("float32(float32)")
    assert not compile_ahead._missing(kernel)
    kernel.signatures.clear()
    kernel.stats.cache_path = None
    assert not compile_ahead._missing(kernel)


@pytest.mark.slow
def test_a_process_of_its_own_leaves_the_kernel_in_the_cache(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", COMPILES], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.split("\n")[:3] == ["32.0", "1 None", "None"], done.stderr


@pytest.fixture
def child(tmp_path, monkeypatch):
    """Starts the process in a folder with a torch.py, and a cache of its own."""
    (tmp_path / "torch.py").write_text("import pathlib; pathlib.Path('imported').touch()")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(compile_ahead, "_process", None)
    monkeypatch.setattr(compile_ahead, "_missing", lambda _: True)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    compile_ahead.start()
    process = compile_ahead._process
    yield process
    process.kill()
    process.wait()
    compile_ahead.finish()


def test_the_process_ends_when_its_parent_is_gone_and_imports_nothing_of_the_current_folder(child, tmp_path):
    child.stdin.close()  # as when the parent is killed
    assert child.wait(timeout=60) == ENDED
    assert not (tmp_path / "imported").exists()
