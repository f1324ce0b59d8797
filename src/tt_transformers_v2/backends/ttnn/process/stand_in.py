# SPDX-License-Identifier: Apache-2.0
"""A stand-in for Tenstorrent's kernel compiler, so that ttnn checks programs on a machine that will never run them.

ttnn compiles the kernels of an op before it checks where their buffers go, also when nothing is dispatched. What comes
out is only measured, so an empty program will do. The stand-in lives in a folder of the user's cache together with all
that ttnn builds with it: nothing of it can reach a card. Where there is a card or a real compiler, it is not used.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ....common.errors import ConfigError
from .availability import SYSTEM_SFPI, Availability, look_around
from .empty_program import empty_program

TOOLS = ("as", "ld", "nm", "objcopy", "objdump", "readelf", "size")  # what ttnn may call besides the compiler
GCC_VERSION = "15.1.0"

_SCRIPT = """\
#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# NOT A COMPILER. tt_transformers_v2 wrote this stand-in for Tenstorrent's kernel compiler so that ttnn can check
# programs on a machine without cards. Whatever it is given, it writes the same empty program. See ../../README.
out= dependencies= compile=
while [ $# -gt 0 ]; do
    case "$1" in
        --version) echo '{version}'; exit 0 ;;
        c++-header) exit 1 ;; # ttnn then does without precompiled headers
        -o) out=$2; shift ;;
        -MF) dependencies=$2; shift ;;
        -c) compile=yes ;;
    esac
    shift
done
[ -z "$out" ] && exit 1
[ -n "$dependencies" ] && echo "$out:" > "$dependencies"
if [ -n "$compile" ]; then
    : > "$out"
else
    printf '{program}' > "$out"
fi
"""

_TOOL = """\
#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A stand-in that does nothing; see ../../README.
exit 0
"""

_README = """\
tt_transformers_v2 made this folder. It lets ttnn {version} check programs on a machine without a Tenstorrent card.

root/     what ttnn reads at run time: links to the installed wheel, and in root/runtime/sfpi a stand-in for
          Tenstorrent's kernel compiler. It compiles nothing: every kernel becomes the same empty program.
kernels/  what ttnn built with the stand-in. None of it does anything. Never point TT_METAL_CACHE of a machine that
          has a card here.

It is safe to delete this folder at any time; it is recreated when needed.
"""


def cache_home(override: Path | None = None) -> Path:
    """Where this package caches: `override`, or tt_transformers_v2 in $XDG_CACHE_HOME or ~/.cache.

    Makes the folder. Raises ConfigError when it cannot.
    """
    xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification has relative paths ignored.
    home = override or (xdg if xdg.is_absolute() else Path.home() / ".cache") / "tt_transformers_v2"
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        hint = "Set XDG_CACHE_HOME to a folder you own."
        raise ConfigError(f"cannot write to {home}: {error.strerror}.", hint) from None
    return home


def compiler_environment(cache: Path | None = None, found: Availability | None = None) -> dict[str, str]:
    """What to set so that ttnn finds a compiler when it sees a described system: the real one where there is one.

    Otherwise makes or repairs the stand-in; several processes may do so at once. `cache` overrides `cache_home`.
    Raises ConfigError when there is a card but no compiler (install sfpi), and when ttnn is not as expected.
    """
    found = found or look_around()
    if found.sfpi is not None:
        return {} if found.sfpi == SYSTEM_SFPI else {"TT_METAL_RUNTIME_ROOT": str(found.sfpi.parent.parent)}
    if found.cards:
        raise ConfigError(
            f"this machine has a Tenstorrent card ({found.cards[0]}) but not the compiler ttnn needs.",
            "Install sfpi, as Tenstorrent's installer does; the stand-in is only for machines without cards.",
        )
    folder = make_stand_in(cache_home(cache), found)
    return {"TT_METAL_RUNTIME_ROOT": str(folder / "root"), "TT_METAL_CACHE": str(folder / "kernels")}


def make_stand_in(home: Path, found: Availability) -> Path:
    """The folder with the stand-in, made or repaired where something is missing or changed."""
    assert found.package is not None
    files, links = _files(found), _links(found.package)
    # Installed elsewhere or changed in this package, it is another folder: no process sees its own one change.
    key = hashlib.sha256(repr((sorted(files.items()), sorted(links.items()))).encode()).hexdigest()[:12]
    folder = home / f"ttnn-{found.version}-{key}"
    if not _complete(folder, files, links):
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder / ".lock"):
            _write(folder, files, links)
    return folder


def _files(found: Availability) -> dict[str, str]:
    """Path in the folder -> text. What lies in a bin folder is made executable."""
    assert found.package is not None
    script = _SCRIPT.format(version=_version_line(found.package), program=_octal(empty_program()))
    prefix = "root/runtime/sfpi/compiler/bin/riscv-tt-elf-"
    tools = {prefix + tool: _TOOL for tool in TOOLS}
    readme = _README.format(version=found.version)
    return {"README": readme, "root/runtime/sfpi/README": readme, **tools, f"{prefix}g++": script}


def _links(package: Path) -> dict[str, str]:
    """Path in the folder -> what it links to: the installed package, but for the compiler's place in it."""
    whole = [path for path in package.iterdir() if path.name not in ("runtime", "__pycache__")]
    links = {f"root/{path.name}": str(path) for path in whole}
    return links | {f"root/runtime/{path.name}": str(path) for path in (package / "runtime").iterdir()}


def _version_line(package: Path) -> str:
    """The first line ttnn demands of `--version`; it names the release of sfpi it was built with."""
    wanted = package / "tt_metal" / "sfpi-version"
    text = wanted.read_text() if wanted.is_file() else ""
    stated = dict(re.findall(r"^sfpi_(version|build)='([^']*)'", text, re.M))
    if "version" not in stated:
        raise ConfigError(f"{wanted} does not name the compiler that ttnn needs.", "Is this version of ttnn supported?")
    build = f"[{stated['build']}]" if stated.get("build") else ""
    return f"riscv-tt-elf-g++ (tenstorrent/sfpi:{stated['version']}{build}) {GCC_VERSION}"


def _complete(folder: Path, files: dict[str, str], links: dict[str, str]) -> bool:
    return all(_holds(folder / name, text) for name, text in files.items()) and all(
        _leads_to(folder / name, target) for name, target in links.items()
    )


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_text() == text and (path.parent.name != "bin" or os.access(path, os.X_OK))
    except (OSError, UnicodeDecodeError):
        return False


def _leads_to(path: Path, target: str) -> bool:
    return path.is_symlink() and str(path.readlink()) == target


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
        yield


def _write(folder: Path, files: dict[str, str], links: dict[str, str]) -> None:
    """Puts right what is not: each piece appears complete or not at all, for ttnn may be reading the folder."""
    for name, text in files.items():
        path = folder / name
        if not _holds(path, text):
            new = _beside(path)
            new.write_text(text)
            new.chmod(0o755 if path.parent.name == "bin" else 0o644)
            new.replace(path)
    for name, target in links.items():
        path = folder / name
        if not _leads_to(path, target):
            new = _beside(path)
            new.symlink_to(target)
            new.replace(path)


def _beside(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")


def _octal(data: bytes) -> str:
    """As the shell's printf takes it, which spares a process for each kernel."""
    return "".join(f"\\{byte:03o}" for byte in data)
