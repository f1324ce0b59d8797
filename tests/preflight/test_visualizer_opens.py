# SPDX-License-Identifier: Apache-2.0
"""The folder of preflight.visualizer, opened in ttnn-visualizer in a browser.

Needs ttnn-visualizer's command on the PATH (seen: 0.108). It wants numpy 2, so it goes into an environment of its own:
python3.12 -m venv DIR && DIR/bin/pip install ttnn-visualizer, then PATH=$PATH:DIR/bin pytest -m browser.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tt_transformers_v2.commands import run as cli

COMMAND = shutil.which("ttnn-visualizer")
START_SECONDS = 60

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(COMMAND is None, reason="ttnn-visualizer is not on the PATH"),
    pytest.mark.skipif(importlib.util.find_spec("ttnn") is None, reason="ttnn is not installed"),
]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, own_cache: str) -> Path:
    """What a preflight of Llama 3.1 8B leaves."""
    place = tmp_path_factory.mktemp("visualizer")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", own_cache)
        patch.setattr("tt_transformers_v2.config.fitted_plans.outputs_dir", lambda: place / "outputs")
        arguments = ["model=llama8b", f"preflight.visualizer={place / 'llama8b'}", f"hydra.run.dir={place / 'run'}"]
        assert cli.main(["task=preflight", *arguments]) == 0
    return place / "llama8b"


@pytest.fixture(scope="module")
def address(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """ttnn-visualizer serving the folder: the address of one of its pages. What it keeps lands in a folder of ours."""
    home = tmp_path_factory.mktemp("home")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "APP_DATA_DIRECTORY": str(home / "app"),
        "BROWSER": "true",  # it prints the address only when it opens a browser: this program does nothing
        "USAGE_RECORDING_DISABLED": "true",
    }
    log = home / "log"
    command = [str(COMMAND), "--host", "127.0.0.1", "--port", str(port), "--profiler-path", str(written)]
    with log.open("w") as file:
        server = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
    try:
        instance = _instance(server, log)
        _wait_for(f"http://127.0.0.1:{port}/api/up", server, log)
        yield lambda page: f"http://127.0.0.1:{port}/{page}?instanceId={instance}"
    finally:
        server.terminate()
        server.wait(20)


def _instance(server: subprocess.Popen[bytes], log: Path) -> str:
    """The name under which the server has opened the folder; it prints it."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        if found := re.search(r"instanceId=(\w+)", log.read_text()):
            return found[1]
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """A page on which no script may fail."""
    context = chromium.new_context(viewport={"width": 1500, "height": 950})
    page, failed = context.new_page(), []
    page.set_default_timeout(20_000)
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.on("console", lambda message: failed.append(message.text) if "React Router caught" in message.text else None)
    yield page
    context.close()
    assert failed == []


def count(folder: Path, query: str) -> int:
    return sqlite3.connect(folder / "db.sqlite").execute(query).fetchone()[0]


def test_operations_and_tensors_are_listed(written: Path, address: Callable[[str], str], page: Any) -> None:
    page.goto(address("operations"))
    page.get_by_text(f"Showing {count(written, 'select count(*) from operations')} operations").wait_for()
    page.get_by_text("ttnn.rms_norm").first.wait_for()
    tensors = count(written, "select count(*) from tensors")
    page.goto(address("tensors"))
    page.get_by_text(f"Showing {tensors} of {tensors} tensors").wait_for()


def test_buffers_are_listed_with_their_layouts(written: Path, address: Callable[[str], str], page: Any) -> None:
    page.goto(address("buffer-summary"))
    in_l1 = count(written, "select count(*) from buffers where buffer_type = 1")
    page.get_by_text(f"Showing {in_l1} buffers").wait_for()
    page.get_by_text("WIDTH_SHARDED").first.wait_for()


def test_a_matmul_of_decode_shows_what_lies_in_l1(written: Path, address: Callable[[str], str], page: Any) -> None:
    last = count(written, "select max(operation_id) from operations where name = 'ttnn.linear'")
    page.goto(address(f"operations/{last}"))
    page.get_by_text("Current Summarized L1 Report").wait_for()
    page.get_by_text("WIDTH_SHARDED").first.wait_for()
