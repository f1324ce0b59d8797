# SPDX-License-Identifier: Apache-2.0
"""Runs a job that needs ttnn in a process of its own: ttnn reads its environment once, and some refusals end a process.

The parent never imports ttnn and keeps its own environment.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ....common.errors import ConfigError
from ....config.conf_folders import conf_dirs
from ....hardware.schema import DeviceSpec
from .availability import MOCK, require_card, require_ttnn
from .cluster import cluster_description
from .cluster_file import read_cluster_file
from .failures import TtnnFailure, thrown
from .stand_in import cache_home, compiler_environment

Progress = Callable[[dict[str, Any]], None]

CHILD = f"{__package__}.child"
GRACE = 5.0  # seconds a process has to close its device before it is killed

# A described system is the same on every machine: of the user's variables only those pass that find programs,
# libraries and folders, or say how text is written. ttnn, tt-umd and MPI read too many to name what may not.
PASSED = frozenset(
    (
        *("PATH", "LD_LIBRARY_PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TMP", "TEMP", "XDG_CACHE_HOME"),
        *("LANG", "LANGUAGE", "TZ", "VIRTUAL_ENV", "PYTHONHOME", "PYTHONUTF8", "PYTHONDONTWRITEBYTECODE"),
    )
)
PASSED_PREFIXES = ("LC_", "COVERAGE_")
QUIET = {"LOGURU_LEVEL": "ERROR", "TT_LOGGER_LEVEL": "off", "TT_METAL_DISABLE_BACKTRACE": "1"}
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def run_isolated(
    module_function: str,
    payload: dict[str, Any],
    *,
    device: DeviceSpec,
    mock: bool,
    timeout_s: float,
    on_progress: Progress | None = None,
    cache: Path | None = None,
) -> dict[str, Any]:
    """What the job `module:function` returns for `payload`, run in a fresh process.

    The job is called as `function(payload, job)`, `job` a `child.Job`; payload, result and progress are JSON values.
    With `mock`, ttnn sees the described system instead of a card. What the process prints goes to a log that is kept
    when the job fails.

    Args:
        module_function: importable in this process, as `package.module:function`.
        device: the system to open.
        mock: describe the system rather than use a card.
        timeout_s: seconds after which the process and all it started are ended.
        on_progress: called with each `job.progress(...)` as it arrives.
        cache: instead of `stand_in.cache_home`.

    Raises:
        ConfigError: ttnn or a card is missing, or the job raised one.
        TtnnFailure: the job raised anything else, crashed or took too long. A ConfigError too, with ttnn's own words
            and the path of the log.
    """
    found = require_ttnn("this job") if mock else require_card("this job", str(device.device_type))
    description = None
    if mock:
        description = cluster_description(device) if device.cluster_file is None else read_cluster_file(device)
    compiler = compiler_environment(cache, found) if mock else {}
    with _folder() as folder:
        environment = _environment(compiler, folder, description)
        request = {
            "function": module_function,
            "payload": payload,
            "mock": mock,
            "device": dataclasses.asdict(device),
            "conf_dirs": [str(added) for added in conf_dirs()[:-1]],
        }
        (folder / "request.json").write_text(json.dumps(request))
        log = _new_log(cache, module_function)
        run = _Run(folder, environment, log, time.monotonic() + timeout_s)
        try:
            answer = run.answer(on_progress)
        except TimeoutError:
            raise _failure(f"did not finish within {timeout_s:g} s", device, log) from None
        if "result" in answer:
            log.unlink()
            return answer["result"]
        raise _as_raised(answer, device, log)


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tt_transformers_v2-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def _environment(compiler: dict[str, str], folder: Path, description: str | None) -> dict[str, str]:
    """The process's environment; this one's is not touched."""
    kept = {name: value for name, value in os.environ.items() if name != MOCK}
    if not kept.get("HOME"):  # as in services and containers; ttnn crashes without
        home = os.path.expanduser("~")
        kept["HOME"] = home if os.path.isabs(home) else str(folder)
    if description is not None:
        (folder / "cluster.yaml").write_text(description)
        kept = {name: value for name, value in kept.items() if name in PASSED or name.startswith(PASSED_PREFIXES)}
        kept |= compiler | ONE_THREAD | {MOCK: str(folder / "cluster.yaml")}
    # What this process can import, the other can; ttnn's own notes about a run are of no use afterwards.
    imports = os.pathsep.join(path for path in sys.path if path)
    return {"TT_METAL_LOGS_PATH": str(folder)} | QUIET | kept | {"PYTHONPATH": imports}


def _new_log(cache: Path | None, module_function: str) -> Path:
    folder = cache_home(cache) / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    stem = module_function.rpartition(".")[2].replace(":", "-")
    handle, name = tempfile.mkstemp(prefix=f"{time.strftime('%Y%m%d-%H%M%S')}-{stem}-", suffix=".log", dir=folder)
    os.close(handle)
    return Path(name)


class _Run:
    """One process from its start to its end."""

    def __init__(self, folder: Path, environment: dict[str, str], log: Path, deadline: float) -> None:
        self.deadline = deadline
        self.reports, theirs = os.pipe()
        command = [sys.executable, "-X", "faulthandler", "-m", CHILD, str(folder / "request.json"), str(theirs)]
        try:
            with log.open("wb") as output:
                self.process = subprocess.Popen(
                    command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=(theirs,),
                    start_new_session=True,
                )
        finally:
            os.close(theirs)

    def answer(self, on_progress: Progress | None) -> dict[str, Any]:
        """The process's last word, or how it ended without one; it has ended then. Raises TimeoutError."""
        patience = 0.0  # seconds until it is asked to end: none after a timeout or an interruption
        try:
            answer = self._last_word(on_progress)
            patience = GRACE
            return answer
        finally:
            self._end(patience)

    def _last_word(self, on_progress: Progress | None) -> dict[str, Any]:
        for line in self._lines():
            message = json.loads(line)
            if "progress" not in message:
                return message
            if on_progress is not None:
                on_progress(message["progress"])
        if not self._left_by(max(0.0, self.deadline - time.monotonic())):
            raise TimeoutError
        return {"ended": self.process.returncode}

    def _lines(self) -> Iterator[bytes]:
        """Whole lines as they arrive, until the process closes its end."""
        pending = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self.reports, selectors.EVENT_READ)
            while True:
                if not selector.select(max(0.0, self.deadline - time.monotonic())):
                    raise TimeoutError
                arrived = os.read(self.reports, 1 << 16)
                if not arrived:
                    return
                *lines, pending = (pending + arrived).split(b"\n")
                yield from lines

    def _end(self, patience: float) -> None:
        """Ends the process and all it started, politely first, so that it closes its device."""
        os.close(self.reports)
        if self._left_by(patience):
            return
        os.killpg(self.process.pid, signal.SIGTERM)
        self._left_by(GRACE)
        with contextlib.suppress(ProcessLookupError):  # nothing it started may stay, also when it left itself
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _left_by(self, seconds: float) -> bool:
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True


def _as_raised(answer: dict[str, Any], device: DeviceSpec, log: Path) -> ConfigError:
    failure = answer.get("failure")
    if failure is None:
        return _failure(_how_it_ended(answer["ended"]), device, log)
    if failure["kind"] == "ConfigError":
        log.unlink()
        return ConfigError(failure["message"], failure["hint"])
    said, kind = failure["message"], failure["kind"]
    # What ttnn throws arrives as RuntimeError; anything else is more likely a mistake in the job.
    how = "ttnn raised an error" if kind == "RuntimeError" else f"the job failed with {kind}"
    return TtnnFailure(f"{how} on {device.device_type}: {said}", said=said, log=log)


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"exited with status {code} and no result"
    with contextlib.suppress(ValueError):
        return f"crashed ({signal.Signals(-code).name})"
    return f"crashed (signal {-code})"


def _failure(how: str, device: DeviceSpec, log: Path) -> TtnnFailure:
    said = next(reversed(thrown(log.read_text(errors="replace"))), "")
    words = f", saying: {said}" if said else ""
    return TtnnFailure(f"the ttnn process for {device.device_type} {how}{words}", said=said, log=log)
