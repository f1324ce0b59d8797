# SPDX-License-Identifier: Apache-2.0
"""What is said of a machine that has no ttnn, no card, or a ttnn nobody has tried."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from tt_transformers_v2.backends.ttnn import open_ttnn
from tt_transformers_v2.backends.ttnn.process import availability
from tt_transformers_v2.backends.ttnn.process.availability import Availability, look_around, require_card, require_ttnn
from tt_transformers_v2.backends.ttnn.process.failures import own_words, thrown
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.device_presets import DevicePresets

BARE = Availability(version="0.81.1", package=Path("ttnn"), cards=(), simulator=None, sfpi=None)


def test_without_ttnn_the_pythons_that_have_it_are_named() -> None:
    with pytest.raises(ConfigError, match=r"backend=ttnn needs the ttnn package.*Python 3.10 and 3.12"):
        require_ttnn("backend=ttnn", dataclasses.replace(BARE, version=None, package=None))


def test_without_a_card_the_message_names_preflight() -> None:
    with pytest.raises(ConfigError, match=r"needs a Tenstorrent card or a simulator \(T3K is.*task=preflight"):
        require_card("backend=ttnn", "T3K", BARE)


def test_a_card_or_a_simulator_is_enough(tmp_path: Path) -> None:
    for has in ({"cards": (Path("/dev/tenstorrent/0"),)}, {"simulator": str(tmp_path)}):
        found = dataclasses.replace(BARE, **has)
        assert require_card("backend=ttnn", "N150", found) is found


def test_cards_and_simulator_are_found_where_ttnn_looks(tmp_path: Path) -> None:
    (tmp_path / "0").touch()
    found = look_around(cards=tmp_path, sfpi=[], environment={"TT_METAL_SIMULATOR": "/opt/sim"})
    assert (found.cards, found.simulator, found.sfpi) == ((tmp_path / "0",), "/opt/sim", None)


def test_a_compiler_beside_the_users_own_runtime_root_is_found(tmp_path: Path) -> None:
    tool = tmp_path / "runtime" / "sfpi" / "compiler" / "bin" / "riscv-tt-elf-g++"
    tool.parent.mkdir(parents=True)
    tool.touch()
    found = look_around(environment={"TT_METAL_RUNTIME_ROOT": str(tmp_path)})
    assert found.sfpi == tmp_path / "runtime" / "sfpi"


@pytest.mark.parametrize(
    ("version", "said"),
    [("0.81.1", None), ("0.80.0", None), ("0.99.0", "it has not been tested"), ("0.78.0", "it has not been tested")],
)
def test_a_version_that_was_not_tried_is_a_warning(version: str, said: str | None) -> None:
    findings = dataclasses.replace(BARE, version=version).findings
    assert [said in finding for finding in findings] == ([True] if said else [])


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("0.76.0", r"ttnn 0.76.0 is too old for this package: .*no dataflow buffers\. .*pip install ttnn==0\.81\.1"),
        ("0.70.1", r"ttnn 0.70.1 is too old for this package: its process does not survive"),
        ("0.75.3.dev7", r"ttnn 0.75.3.dev7 is too old for this package \(0.76.0 was tried\): .*no dataflow"),
        ("0.68.0", r"ttnn 0.68.0 is too old for this package \(0.70.1 was tried\): its process"),
    ],
)
def test_a_version_that_does_not_work_is_refused_and_so_are_older_ones(version: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        require_ttnn("task=preflight", dataclasses.replace(BARE, version=version))


@pytest.mark.parametrize("version", ["0.76.1", "0.80.0", "0.81.1", "0.100.0", "unknown"])
def test_what_is_newer_than_what_failed_is_let_through(version: str) -> None:
    found = dataclasses.replace(BARE, version=version)
    assert require_ttnn("task=preflight", found) is found


def test_a_simulator_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    missing = tmp_path / "libttsim.so"
    found = dataclasses.replace(BARE, simulator=str(missing))
    with pytest.raises(ConfigError, match=r"TT_METAL_SIMULATOR names .*libttsim\.so, which does not exist\. Set it"):
        require_card("backend=ttnn", "N150", found)
    missing.touch()
    with pytest.raises(ConfigError, match=r"libttsim\.so, but soc_descriptor\.yaml is not beside it\. Copy"):
        require_card("backend=ttnn", "N150", found)
    (tmp_path / "soc_descriptor.yaml").touch()
    assert require_card("backend=ttnn", "N150", found) is found


@pytest.mark.parametrize(
    ("cards", "said"),
    [((), "needs a Tenstorrent card or a simulator"), ((Path("/dev/tenstorrent/0"),), "Run the experiment")],
)
def test_opening_ttnn_says_what_the_machine_lacks(
    cards: tuple[Path, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(availability, "look_around", lambda: dataclasses.replace(BARE, cards=cards))
    with pytest.raises(ConfigError, match=said):
        open_ttnn(DevicePresets.get_config("N150"))


def test_the_room_does_not_load_ttnn() -> None:
    modules = "isolated, session, availability, stand_in, cluster"
    code = (
        f"from tt_transformers_v2.backends.ttnn.process import {modules}; import sys; sys.exit('ttnn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_ttnns_sentence_is_kept_and_its_addresses_are_not() -> None:
    text = """TT_THROW @ /project/tt_metal/impl/program/program.cpp:1146: tt::exception
info:
Statically allocated circular buffers on core range [0-0 - 7-3] grow to 2465120 B
which is beyond max L1 size of 1499136 B
backtrace:
 --- tt::tt_metal::detail::ProgramImpl::validate_circular_buffer_region(tt::tt_metal::IDevice const*)
"""
    sentence = (
        "Statically allocated circular buffers on core range [0-0 - 7-3] grow to 2465120 B "
        "which is beyond max L1 size of 1499136 B"
    )
    assert own_words(text) == sentence
    assert thrown(f"noise\n{text}more\n{text}") == [sentence, sentence]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("TT_FATAL @ /project/a.cpp:7: a.shape() == b.shape()\n", "a.shape() == b.shape()"),
        ("No core found\nLocation: /project/a.cpp:7\n 1. main\n", "No core found"),
        ("", ""),
    ],
)
def test_words_in_other_shapes_are_found_too(text: str, said: str) -> None:
    assert own_words(text) == said


def test_long_words_are_cut() -> None:
    assert len(own_words("x" * 5000)) == 600
