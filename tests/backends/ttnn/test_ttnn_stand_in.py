# SPDX-License-Identifier: Apache-2.0
"""The stand-in for the kernel compiler: what it writes, when it is used, and that it mends itself."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tt_transformers_v2.backends.ttnn.process.availability import Availability, look_around
from tt_transformers_v2.backends.ttnn.process.empty_program import empty_program
from tt_transformers_v2.backends.ttnn.process.stand_in import cache_home, compiler_environment, make_stand_in
from tt_transformers_v2.common.errors import ConfigError


@pytest.fixture
def found(tmp_path: Path) -> Availability:
    """A machine without card and compiler, with a wheel that has just what the stand-in looks at."""
    package = tmp_path / "site" / "ttnn"
    (package / "runtime" / "hw").mkdir(parents=True)
    (package / "tt_metal").mkdir()
    (package / "tt_metal" / "sfpi-version").write_text("sfpi_version='7.89.0'\nsfpi_base=''\nsfpi_build='1050'\n")
    return Availability(version="0.81.1", package=package, cards=(), simulator=None, sfpi=None)


def compiler(folder: Path) -> Path:
    return folder / "root" / "runtime" / "sfpi" / "compiler" / "bin" / "riscv-tt-elf-g++"


def state(folder: Path) -> dict[str, object]:
    """Path in the folder -> where a link leads, or content and mode of a file."""
    paths = [path for path in folder.rglob("*") if path.is_symlink() or path.is_file()]
    return {str(path.relative_to(folder)): _held(path) for path in paths}


def _held(path: Path) -> object:
    return path.readlink() if path.is_symlink() else (path.read_bytes(), path.stat().st_mode)


def test_it_answers_as_ttnn_wants_and_writes_an_empty_program(found: Availability, tmp_path: Path) -> None:
    script = compiler(make_stand_in(tmp_path / "cache", found))

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([script, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert call("--version").stdout == "riscv-tt-elf-g++ (tenstorrent/sfpi:7.89.0[1050]) 15.1.0\n"
    assert call("-x", "c++-header", "a.h", "-o", "a.gch").returncode == 1
    assert call("-O2", "-c", "-o", "a.o", "a.cc", "-MF", "a.d").returncode == 0
    assert (tmp_path / "a.o").read_bytes() == b""
    assert (tmp_path / "a.d").read_text() == "a.o:\n"
    assert call("a.o", "-o", "a.elf").returncode == 0
    assert (tmp_path / "a.elf").read_bytes() == empty_program()


def test_it_says_what_it_is_and_leaves_the_wheel_alone(found: Availability, tmp_path: Path) -> None:
    assert found.package is not None
    before = state(found.package)
    folder = make_stand_in(tmp_path / "cache", found)
    assert "NOT A COMPILER" in compiler(folder).read_text()
    assert "ttnn 0.81.1" in (folder / "README").read_text()
    assert (folder / "root" / "tt_metal").resolve() == found.package / "tt_metal"
    assert state(found.package) == before


def test_a_half_made_folder_is_mended(found: Availability, tmp_path: Path) -> None:
    folder = make_stand_in(tmp_path / "cache", found)
    whole = state(folder)
    compiler(folder).write_text("#!/bin/sh\n")
    compiler(folder).with_name("riscv-tt-elf-nm").chmod(0o644)
    (folder / "README").unlink()
    (folder / "root" / "tt_metal").unlink()
    (folder / "root" / "runtime" / "hw").unlink()
    (folder / "root" / "runtime" / "hw").symlink_to("/nowhere")
    assert make_stand_in(tmp_path / "cache", found) == folder
    assert state(folder) == whole


def test_many_may_make_it_at_once(found: Availability, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(lambda _: make_stand_in(tmp_path / "cache", found), range(32)))
    assert len(folders) == 1
    assert not [name for name in state(folders.pop()) if ".riscv" in name]


def test_another_wheel_has_another_folder(found: Availability, tmp_path: Path) -> None:
    assert found.package is not None
    first = make_stand_in(tmp_path / "cache", found)
    (found.package / "tt_metal" / "sfpi-version").write_text("sfpi_version='8.0.0'\n")
    assert make_stand_in(tmp_path / "cache", found) != first


def test_a_real_compiler_is_used_instead(found: Availability, tmp_path: Path) -> None:
    real = tmp_path / "runtime" / "sfpi"
    (real / "compiler" / "bin").mkdir(parents=True)
    (real / "compiler" / "bin" / "riscv-tt-elf-g++").touch()
    there = look_around(sfpi=[tmp_path / "elsewhere", real], cards=tmp_path / "none", environment={})
    assert there.sfpi == real
    assert compiler_environment(tmp_path / "cache", there) == {"TT_METAL_RUNTIME_ROOT": str(tmp_path)}
    assert not (tmp_path / "cache").exists()


def test_a_card_without_a_compiler_is_refused(found: Availability, tmp_path: Path) -> None:
    (tmp_path / "tenstorrent").mkdir()
    (tmp_path / "tenstorrent" / "0").touch()
    there = look_around(sfpi=[], cards=tmp_path / "tenstorrent", environment={})
    with pytest.raises(ConfigError, match=r"tenstorrent/0\) but not the compiler.*Install sfpi"):
        compiler_environment(tmp_path / "cache", there)
    assert not (tmp_path / "cache").exists()


def test_the_cache_is_where_xdg_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_home() == tmp_path / "xdg" / "tt_transformers_v2"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_home() == tmp_path / "home" / ".cache" / "tt_transformers_v2"
    assert cache_home(tmp_path / "own") == tmp_path / "own"


def test_a_cache_that_cannot_be_written_is_a_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot write to .*file/cache.*XDG_CACHE_HOME"):
        cache_home(tmp_path / "file" / "cache")
