# SPDX-License-Identifier: Apache-2.0
"""Configuration files of the user's own that are broken: one clear line, no traceback, no code run."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from places import ROOT
from tt_transformers_v2.config.yaml_files import read_yaml_file
from tt_transformers_v2.hardware import ConfigError

GLOBAL = b"# @package _global_\n"
BROKEN = {
    "unfinished": (b"precision: {mlp_weights: [\n", "not plain YAML"),
    "a_list": (b"- 1\n- 2\n", "must be a mapping"),
    "typo": (GLOBAL + b"precision: {mlp_wieghts: BFP8}\n", "Did you mean mlp_weights"),
    "bad_value": (GLOBAL + b"precision: {mlp_weights: BFP9}\n", "Did you mean BFP"),
    "binary": (b"\x00\xff\xfe", "not plain YAML"),
    "bad_defaults": (GLOBAL + b"defaults: 5\n", "defaults must be a list"),
    "missing_default": (GLOBAL + b"defaults: [/chip@device.chip: nothing]\n", "nothing"),
    "code": (GLOBAL + b"a: !!python/object/apply:os.system ['touch ran']\n", "not plain YAML"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("conf")
    (folder / "tuning").mkdir()
    for name, (content, _) in BROKEN.items():
        (folder / "tuning" / f"{name}.yaml").write_bytes(content)
    return folder


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_answered_in_a_line(name, folder, tmp_path):
    command = [sys.executable, str(ROOT / "scripts/run.py"), "--config-dir", str(folder), f"tuning={name}"]
    command += ["task=performance", f"hydra.run.dir={tmp_path / 'out'}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == 2, done.stdout
    assert BROKEN[name][1] in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=80), st.text(max_size=80).map(str.encode)))
def test_any_bytes_are_yaml_or_a_clear_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    try:
        read_yaml_file(path)
    except ConfigError as error:
        if "any.yaml" not in str(error):
            raise
