# SPDX-License-Identifier: Apache-2.0
"""What this machine has for ttnn: the package, cards, a simulator, a kernel compiler. Nothing here imports ttnn."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ....common.errors import ConfigError
from ....config.conf_folders import read_yaml

CARDS = Path("/dev/tenstorrent")
MOCK = "TT_METAL_MOCK_CLUSTER_DESC_PATH"  # names the description of a system that ttnn takes for real
SIMULATOR = "TT_METAL_SIMULATOR"
CHIP_DESCRIPTION = "soc_descriptor.yaml"  # ttnn reads it from the folder of the simulator
SYSTEM_SFPI = Path("/opt/tenstorrent/sfpi")
COMPILER = Path("compiler/bin/riscv-tt-elf-g++")  # inside a folder of sfpi, Tenstorrent's kernel compiler
ROOT_VARIABLES = ("TT_METAL_RUNTIME_ROOT", "TT_METAL_HOME")  # where ttnn looks for runtime/sfpi besides its own folder


@dataclass(frozen=True)
class Availability:
    """What `look_around` found. `package` is ttnn's folder, `sfpi` that of a real kernel compiler."""

    version: str | None
    package: Path | None
    cards: tuple[Path, ...]
    simulator: str | None
    sfpi: Path | None

    @property
    def runs_programs(self) -> bool:
        """Whether there is something to run programs on."""
        return bool(self.cards or self.simulator)

    @property
    def findings(self) -> list[str]:
        """Warnings, one sentence or two each: a version of ttnn that nobody has tried with this package."""
        tried = _tried(works=True)
        if self.version is None or self.version in tried:
            return []
        return [
            f"ttnn {self.version} is installed: it has not been tested with this package. "
            f"Tested and working: {', '.join(tried)}."
        ]


def look_around(
    *,
    cards: Path = CARDS,
    sfpi: Sequence[Path] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Availability:
    """What this machine has. The parameters name the places to look in; their defaults are where ttnn looks."""
    environment = os.environ if environment is None else environment
    spec = importlib.util.find_spec("ttnn")
    package = Path(spec.origin).parent if spec and spec.origin else None
    places = _sfpi_places(package, environment) if sfpi is None else sfpi
    return Availability(
        version=_version() if package else None,
        package=package,
        cards=tuple(sorted(cards.glob("*"))) if cards.is_dir() else (),
        simulator=environment.get(SIMULATOR) or None,
        sfpi=next((place for place in places if (place / COMPILER).exists()), None),
    )


def _version() -> str:
    try:
        return importlib.metadata.version("ttnn")
    except importlib.metadata.PackageNotFoundError:  # built from source and found by PYTHONPATH
        return "unknown"


def _sfpi_places(package: Path | None, environment: Mapping[str, str]) -> list[Path]:
    roots = [Path(environment[name]) for name in ROOT_VARIABLES if environment.get(name)]
    roots += [package] if package else []
    return [*(root / "runtime" / "sfpi" for root in roots), SYSTEM_SFPI]


def require_ttnn(what: str, found: Availability | None = None, instead: str = "Use backend=emulated.") -> Availability:
    """What this machine has, a ttnn that works among it. Raises ConfigError naming `what`, and what to do `instead`."""
    found = found or look_around()
    if found.package is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        wheels = " and ".join(read_yaml("ttnn/versions.yaml")["pythons"])
        raise ConfigError(
            f"{what} needs the ttnn package, which is not installed (Python {version}).",
            f"ttnn has wheels for Python {wheels}. {instead}",
        )
    _refuse_too_old(found.version)
    return found


def require_card(what: str, device: str, found: Availability | None = None) -> Availability:
    """What this machine has, ttnn and something to run on among it. Raises ConfigError naming `what` and `device`."""
    found = require_ttnn(what, found)
    if found.simulator is not None:
        _refuse_incomplete(Path(found.simulator))
    if not found.runs_programs:
        raise ConfigError(
            f"{what} needs a Tenstorrent card or a simulator ({device} is configured), and this machine has none.",
            "Use backend=emulated, or task=preflight, which has ttnn check every op without a card.",
        )
    return found


def _refuse_incomplete(simulator: Path) -> None:
    """Raises ConfigError for a simulator that is not there, or has no description of its chip beside it."""
    if not simulator.exists():
        raise ConfigError(
            f"{SIMULATOR} names {simulator}, which does not exist.", "Set it to the simulator's file, or unset it."
        )
    if simulator.is_file() and not (simulator.parent / CHIP_DESCRIPTION).exists():
        raise ConfigError(
            f"{SIMULATOR} names {simulator}, but {CHIP_DESCRIPTION} is not beside it.",
            "Copy the chip's there from ttnn/tt_metal/soc_descriptors.",
        )


def _refuse_too_old(version: str | None) -> None:
    """Raises ConfigError for a version of ttnn that was tried and failed, and for one older than that."""
    failed = _tried(works=False)
    if version is None or not (number := _number(version)):
        return
    near = min((each for each in failed if _number(each) >= number), key=_number, default=None)
    if near is not None:
        older = "" if near == version else f" ({near} was tried)"
        raise ConfigError(
            f"ttnn {version} is too old for this package{older}: {failed[near]}.",
            f"Install one that works: pip install ttnn=={next(iter(_tried(works=True)))}.",
        )


def _tried(*, works: bool) -> dict[str, str]:
    """Version -> outcome of those that were tried, the newest first."""
    tried = read_yaml("ttnn/versions.yaml")["tried"]
    return {str(entry["version"]): entry["outcome"] for entry in tried if entry["works"] is works}


def _number(version: str) -> tuple[int, ...]:
    """A version's numbers, for comparison; empty for what has none."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
