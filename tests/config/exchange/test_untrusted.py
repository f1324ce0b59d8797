# SPDX-License-Identifier: Apache-2.0
"""Whatever a file holds, reading it ends in a result or in a ConfigError of one or two short lines."""

import json
import os

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tt_transformers_v2.config.exchange import (
    read_decoder_json,
    read_optimizations,
    read_server_spec,
    read_vllm,
    untrusted,
)
from tt_transformers_v2.config.kernel_words import words
from tt_transformers_v2.hardware import ConfigError

WORDS = [word.name for kind in ("tensors", "ops", "formats", "fidelities") for word in words(kind)]
KEYS = st.sampled_from([*WORDS, "decoders", "precision_cfg", "fidelity_cfg", "0", "1", "2", "-1", "tt", "device", ""])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(WORDS)
TREES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4))
SECTIONS = st.fixed_dictionaries(
    {},
    optional={
        "precision_cfg": st.dictionaries(st.sampled_from(WORDS), st.sampled_from(WORDS), max_size=3),
        "fidelity_cfg": st.dictionaries(st.sampled_from(WORDS), st.sampled_from(WORDS), max_size=3) | TREES,
    },
)
FILES = st.fixed_dictionaries({"decoders": st.dictionaries(KEYS, SECTIONS, max_size=3)})


def only_config_errors(read, text):
    message = ""
    try:
        read(text)
    except ConfigError as error:
        message = str(error)
    assert message.count("\n") <= 1
    assert len(message) < 1000


def readers():
    return (lambda text: read_decoder_json(text, 2), lambda text: read_optimizations(text, 2), read_vllm)


@settings(max_examples=150, deadline=None)
@given(st.text() | st.text(alphabet="{}[]:,=\"' \\abc012\n\x00\ud800").map(lambda t: "precision_cfg = {" + t))
@example("\x00.json")
@example("a" * 5000 + ".json")
@example("[" * 100_000)
@example('{"decoders":' * 50_000)
@example('{"decoders": {"' + "9" * 100_000 + '": {}}}')
@example("--additional-config '")
@example("--additional-config")
@example("--additional-config='[1]'")
def test_any_text_is_read_or_refused(text):
    for read in readers():
        only_config_errors(read, text)


@settings(max_examples=150, deadline=None)
@given(TREES | FILES)
def test_any_json_is_read_or_refused(tree):
    text = json.dumps(tree)
    for read in (*readers(), read_server_spec):
        only_config_errors(read, text)


@settings(max_examples=80, deadline=None)
@given(st.text(alphabet="device: T3K-&*!<>|?%@#[]{}\n'\"0x1.e_~,", max_size=60) | st.text(max_size=60))
@example("? {a: b}\n: c")
@example('!!int ""')
@example("!!bool maybe")
@example("2001-99-99")
@example("!!python/object/apply:os.system ['true']")
@example("a: &x [1]\nb: *x")
@example("<<: 3")
@example("{" * 50_000)
@example("device: T3K\ndevice: N150")
@example("1: 2")
@example("device: .inf")
@example("max_concurrency: 1e999")
@example("%YAML 9.9\n---\na: b")
def test_any_yaml_is_read_or_refused(text):
    only_config_errors(read_server_spec, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"decoders": {"0": {}, "0": {}}}', "twice"),
        ('{"decoders": {"0": {}, "00": {}}}', "given twice"),
        ('{"decoders": {"0": {"precision_cfg": {"FF2": NaN}}}}', "NaN is not a valid JSON number"),
        ('{"decoders": {"0": {"precision_cfg": {"FF2": 1e999}}}}', "too large"),
        ('{"decoders": {"0": {"precision_cfg": {"FF2": %s}}}}' % ("9" * 5000), "too large"),
        ('{"decoders": {"0": {"precision_cfg": {"FF2": 4}}}}', "4 is not a format"),
        ('{"decoders": {"-1": {}}}', "not a layer number"),
        ('{"decoders": {"1_0": {}}}', "not a layer number"),
        ('{"decoders": {"٣": {}}}', "not a layer number"),
        ('{"decoders": []}', "must be a mapping"),
        ('{"decoders": {"0": []}}', "must be a mapping"),
        ("[]", "must be a mapping"),
        ("{}", "no 'decoders'"),
        ("{", "not JSON"),
        ("[" * 99_999, "nested"),
        ("missing.json", "No such file"),
    ],
)
def test_what_is_wrong_is_said(text, message):
    with pytest.raises(ConfigError, match=message):
        read_decoder_json(text, 2)


def test_large_inputs_are_refused_unread(tmp_path, monkeypatch):
    file = tmp_path / "decoders.json"
    with file.open("wb") as stream:
        stream.truncate(20_000_000)
    with pytest.raises(ConfigError, match="larger than 16000 kB"):
        read_decoder_json(file, 2)
    monkeypatch.setattr(untrusted, "MAX_JSON_BYTES", 1000)
    with pytest.raises(ConfigError, match="larger than 1 kB"):
        read_decoder_json('{"decoders": {}}' + " " * 1000, 2)
    with pytest.raises(ConfigError, match="larger than 64 kB"):
        read_optimizations("x" * 70_000, 2)


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    for place in (tmp_path / "pipe.json", tmp_path):
        with pytest.raises(ConfigError, match="not a regular file"):
            read_decoder_json(place, 2)
    (tmp_path / "latin.json").write_bytes(b"\xe9")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_decoder_json(tmp_path / "latin.json", 2)


@pytest.mark.parametrize("num_layers", [0, -1, True, 2.0, "2", 10**9])
def test_an_impossible_depth_is_refused(num_layers):
    for read in (read_decoder_json, read_optimizations):
        with pytest.raises(ConfigError, match="number of layers"):
            read("{}", num_layers)


@pytest.mark.parametrize("text", [None, 3, b"{}", [], object()])
def test_what_is_not_text_is_refused(text):
    for read in readers():
        with pytest.raises(ConfigError):
            read(text)
