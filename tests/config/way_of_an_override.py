# SPDX-License-Identifier: Apache-2.0
"""The way of one override through the code: the files whose functions hold it, in the order in which they first do.

    python tests/config/way_of_an_override.py emulated
    python tests/config/way_of_an_override.py ttnn

Every call inside the package is watched while a command runs. A file is on the way when one of its functions is given
or gives back the setting itself: the text that was typed, the parsed override, the tree or the section `compute`, the
kernel settings of an op group, or the fidelity. Passing an experiment or a whole device configuration on is not
holding it. The watch ends when the matrix unit multiplies, or when ttnn's own kernel configuration is made, which is
in the process that ttnn runs in. The value is one that no rule of conf/ has, so that it is not taken for theirs.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

SRC = Path(__file__).resolve().parents[2] / "src"
PACKAGE = SRC / "tt_transformers_v2"
INSIDE = str(PACKAGE)
VALUE = "HiFi3"
TYPED = f"compute.mlp.math_fidelity={VALUE}"
ENDS = {
    "emulated": (PACKAGE / "numerics/matrix_unit.py", "prepare_in1"),
    "ttnn": (PACKAGE / "backends/ttnn/conversions.py", "compute_kernel_config"),
}


class Arrived(BaseException):
    """The setting is where it does its work."""


class Watch:
    """Notes the files, in `files`, until the setting reaches the function `name` of `file`.

    A trace function, not a profiling one, which would be told of every call of C and every return in torch and ttnn.
    """

    def __init__(self, file: Path, name: str) -> None:
        self.files: dict[str, str] = {}
        self._end = (str(file), name)
        self._handed_over = False

    def __call__(self, frame, event, value):
        code = frame.f_code
        if not code.co_filename.startswith(INSIDE):
            return None
        if code.co_name == "run_isolated":  # what this process does afterwards is not on the way
            self._handed_over = True
            sys.settrace(None)
        if self._handed_over or event not in ("call", "return"):
            return None
        frame.f_trace_lines = False
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        held = [frame.f_locals.get(name) for name in names] if event == "call" else [value]
        if any(holds(each) for each in held):
            file = str(Path(code.co_filename).relative_to(PACKAGE))
            self.files.setdefault(file, code.co_qualname if hasattr(code, "co_qualname") else code.co_name)
            if event == "call" and (code.co_filename, code.co_name) == self._end:
                raise Arrived
        return self  # which is told when the function returns


def holds(value: object, depth: int = 0) -> bool:
    """Whether `value` is the setting in one of its forms, or a container with it."""
    if isinstance(value, str):
        return TYPED in value or str(value) == VALUE
    if isinstance(value, (list, tuple)) and depth < 2:
        return any(holds(each, depth + 1) for each in value[:64])
    if isinstance(value, dict):
        if "compute" in value:
            value = value["compute"]
        mlp = value.get("mlp") if isinstance(value, dict) else None
        own = mlp if isinstance(mlp, dict) else value
        return isinstance(own, dict) and "math_fidelity" in own and str(own["math_fidelity"]) == VALUE
    if type(value).__name__ in ("Override", "Overrides"):  # Hydra's and ours; in a constructor nothing is set yet
        items = getattr(value, "items", [value])
        return any(TYPED in (getattr(item, "text", ""), getattr(item, "input_line", "")) for item in items)
    if type(value).__name__ == "ComputeGroups":
        value = getattr(value, "mlp", None)
    return type(value).__name__ == "ComputeConfig" and str(getattr(value, "math_fidelity", "")) == VALUE


def way(backend: str) -> dict[str, str]:
    """File -> the function that first holds the setting, for the way to `backend` ("emulated" or "ttnn")."""
    sys.path.insert(0, str(SRC))
    from tt_transformers_v2.commands.run import main

    task = ["task=accuracy"] if backend == "emulated" else ["task=preflight", "model=llama1b"]
    short = ["workload.tokens=8", "workload.window=8", "backend.numerics=exact", "model_rules=none"]
    with tempfile.TemporaryDirectory() as folder, arranged_for_children(Path(folder)) as notes:
        watch = Watch(*ENDS[backend])
        sys.settrace(watch)
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                main([TYPED, *task, *short, f"hydra.run.dir={folder}/run"])
        except Arrived:
            return watch.files
        finally:
            sys.settrace(None)
        seen = [line.split("\t") for line in notes.read_text().splitlines()] if notes.exists() else []
        if seen and seen[-1] == ["arrived"]:
            return watch.files | {file: function for file, function in seen[:-1] if file not in watch.files}
        raise SystemExit(f"the setting did not reach {ENDS[backend]}; it was held by {[*watch.files, *seen]}")


@contextlib.contextmanager
def arranged_for_children(folder: Path) -> Iterator[Path]:
    """Python processes that this one starts watch themselves; yields the file in which they note what they saw."""
    notes = folder / "seen"
    (folder / "sitecustomize.py").write_text(
        f"import way_of_an_override\nway_of_an_override.watch_child({str(notes)!r})\n"
    )
    before = sys.path[:]
    sys.path[:0] = [str(folder), str(Path(__file__).parent)]  # which ttnn's process gets as it is
    try:
        yield notes
    finally:
        sys.path[:] = before


def watch_child(notes: str) -> None:
    """Watches this process until the setting arrives at ttnn; then writes the files to `notes` and ends it."""
    watch = Watch(*ENDS["ttnn"])

    def until_it_arrives(frame, event, value):
        try:
            return until_it_arrives if watch(frame, event, value) else None
        except Arrived:
            lines = [f"{file}\t{function}" for file, function in watch.files.items()]
            Path(notes).write_text("\n".join([*lines, "arrived"]))
            os._exit(1)  # what comes after is not on the way

    sys.settrace(until_it_arrives)


if __name__ == "__main__":
    for number, (file, function) in enumerate(way(sys.argv[1]).items(), start=1):
        print(f"{number:3} {file:45} {function}")
