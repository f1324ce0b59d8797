# SPDX-License-Identifier: Apache-2.0
"""Whole files of tt-inference-server. The excerpts are written for these tests, in the form that ships."""

import copy
import dataclasses
import importlib.util
import json
import os
from pathlib import Path

import pytest
import yaml

from tt_transformers_v2.commands.convert import main
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.exchange.conversion import Source, convert, model_for, model_shape
from tt_transformers_v2.config.exchange.server_entries import chosen_entry, read_server_spec, server_entries
from tt_transformers_v2.config.exchange.server_spec import SPEC_KEYS, write_server_spec
from tt_transformers_v2.config.exchange.server_table import OTHER_KINDS, table_rows
from tt_transformers_v2.config.exchange.untrusted import MAX_YAML_BYTES
from tt_transformers_v2.hardware import DevicePresets
from tt_transformers_v2.models.spec import ModelSpec

PACKAGE = importlib.util.find_spec("tenstorrent")
INSTALLED = Path(PACKAGE.origin).parent / "modelhub/release_model_spec.json" if PACKAGE and PACKAGE.origin else ""
# That of an installed package tenstorrent, whose command `tt` takes the place of ours, or of one that was unpacked.
SHIPPED = Path(os.environ.get("TT_RELEASE_MODEL_SPEC", INSTALLED))


class Served:
    max_context = 4096


def device_spec(device, **more):
    """A device entry with every key that ships, most of them null."""
    return {
        "device": device,
        "max_concurrency": 32,
        "max_context": 40960,
        "max_tokens_all_users_override": None,
        "perf_targets_map": {},
        "default_impl": True,
        "perf_reference": [{"isl": 128, "data_parallel": None, "targets": {"complete": {"ttft_ms": 1.5}}}],
        "vllm_args": {"max_model_len": "40960", "max-log-len": "32"},
        "override_tt_config": {},
        "env_vars": {},
        "tensor_cache_timeout": 3600.0,
        "system_requirements": None,
        "known_issues": [],
        "eval_max_retries": None,
        "image_benchmark_num_batches": 3,
        **more,
    }


def released(model, spec, impl="tt_transformers", kind="LLM", **more):
    around = {"hf_model_repo": model, "impl": {"impl_id": impl}, "model_type": kind, "device_model_spec": spec}
    return {**around, "env_vars": {}, "docker_image": "x", "subdevice_type": None, **more}


POOL = {"max_context": 16416, "max_tokens_all_users_override": 131072}
MESH = {"MESH_DEVICE": "(4, 8)", "MAX_PREFILL_CHUNK_SIZE": "32"}
RELEASE = {
    "schema_version": "0.1.0",
    "release_version": "9.9.9",
    "model_specs": {
        "Qwen/Qwen3-8B": {
            "T3K": {"vLLM": {"tt_transformers": released("Qwen/Qwen3-8B", device_spec("T3K"))}},
            "N150": {
                "vLLM": {
                    "tt_transformers": released("Qwen/Qwen3-8B", device_spec("N150")),
                    "other": released("Qwen/Qwen3-8B", device_spec("N150", default_impl=False), "other"),
                }
            },
            "GPU": {"vLLM": {"tt_transformers": released("Qwen/Qwen3-8B", device_spec("GPU"))}},
        },
        "Qwen/Qwen3-32B": {
            "GALAXY": {"vLLM": {"a": released("Qwen/Qwen3-32B", device_spec("GALAXY", env_vars=MESH), "a")}},
            "P300X2": {"vLLM": {"b": released("Qwen/Qwen3-32B", device_spec("P300X2", **POOL), "b")}},
        },
        "me/none": {"QUAD_GALAXY": {"vLLM": {"c": released("me/none", device_spec("QUAD_GALAXY"), "c")}}},
        "me/picture": {"N150": {"media": {"d": released("me/picture", device_spec("N150"), "d", "IMAGE")}}},
    },
}
CATALOGUE = """
templates:
- weights: [Qwen/Qwen3-8B, Qwen/Qwen3-4B]
  impl: tt_transformers
  env_vars: {MAX_PREFILL_CHUNK_SIZE: 16}
  device_model_specs:
    - {device: N150, max_concurrency: 32, max_context: 32768, env_vars: {MAX_PREFILL_CHUNK_SIZE: 4}}
    - {device: N300, max_concurrency: 32, max_context: 40960}
  status: FUNCTIONAL
"""


def text_of(tree):
    return json.dumps(tree)


def written(entry):
    imported = entry.read()
    kind = imported.values.get("device.device_type", "N150")
    return yaml.safe_load(write_server_spec(imported.applied(DevicePresets.get_config(kind), 32), Served))


def test_a_release_has_an_entry_for_each_implementation_and_all_come_back_as_they_were():
    entries, unread = server_entries(text_of(RELEASE))
    assert unread == []
    assert [entry.name for entry in entries] == [
        *("Qwen/Qwen3-8B T3K tt_transformers", "Qwen/Qwen3-8B N150 tt_transformers", "Qwen/Qwen3-8B N150 other"),
        *("Qwen/Qwen3-8B GPU tt_transformers", "Qwen/Qwen3-32B GALAXY a", "Qwen/Qwen3-32B P300X2 b"),
        *("me/none QUAD_GALAXY c", "me/picture N150 d"),
    ]
    for entry in entries:
        assert set(entry.spec) <= set(SPEC_KEYS)
        assert written(entry) == entry.spec
        assert list(written(entry)) == list(entry.spec)
        assert {each.id for each in entry.read().findings} <= {
            *("exchange-around-entry", "exchange-device", "exchange-kv-pool")
        }


def test_a_catalogue_has_an_entry_for_each_of_the_weights_and_devices():
    entries, unread = server_entries(CATALOGUE)
    assert unread == []
    assert [entry.name for entry in entries] == [
        *("Qwen/Qwen3-8B N150 tt_transformers", "Qwen/Qwen3-8B N300 tt_transformers"),
        *("Qwen/Qwen3-4B N150 tt_transformers", "Qwen/Qwen3-4B N300 tt_transformers"),
    ]
    chunks = [entry.read().values["device.max_prefill_chunk_size"] for entry in entries]
    assert chunks == [4096, 16384] * 2, "the device's own variable goes before the template's; both count thousands"


def values_of(tree):
    imported = read_server_spec(text_of(tree))
    return {**imported.values, **imported.workload}, [finding.id for finding in imported.findings]


def test_chunk_mesh_and_cache_are_carried_over():
    values, ids = values_of(device_spec("GALAXY", env_vars=MESH))
    assert values["device.max_prefill_chunk_size"] == 32768
    assert values["device.mesh_shape"] == [4, 8]
    assert (values["device.device_type"], values["workload.context"]) == ("TG", 40960)
    assert ids == []
    values, ids = values_of(device_spec("P300X2", **POOL))
    assert (values["workload.batch"], values["workload.context"]) == (32, 4096)
    assert ids == ["exchange-kv-pool"]
    values, ids = values_of(device_spec("P300X2", max_tokens_all_users_override=32 * 40960))
    assert ("workload.batch" in values, values["workload.context"], ids) == (False, 40960, [])


@pytest.mark.parametrize(("thousands", "tokens"), [("1", 1024), (128, 131072), ("1024", 1048576)])
def test_chunks_are_thousands_of_tokens(thousands, tokens):
    values, ids = values_of(device_spec("T3K", env_vars={"MAX_PREFILL_CHUNK_SIZE": thousands}))
    assert (values["device.max_prefill_chunk_size"], ids) == (tokens, [])


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"MAX_PREFILL_CHUNK_SIZE": "0"}, "env_vars.MAX_PREFILL_CHUNK_SIZE is '0'"),
        ({"MAX_PREFILL_CHUNK_SIZE": 1025}, "env_vars.MAX_PREFILL_CHUNK_SIZE is 1025"),
        ({"MAX_PREFILL_CHUNK_SIZE": "32k"}, "env_vars.MAX_PREFILL_CHUNK_SIZE is '32k'"),
        ({"MAX_PREFILL_CHUNK_SIZE": True}, "env_vars.MAX_PREFILL_CHUNK_SIZE is True"),
        ({"MESH_DEVICE": "(1, 4)"}, "env_vars.MESH_DEVICE is (1, 4); T3K has 8 chips."),
    ],
)
def test_a_variable_that_cannot_be_read_is_named(variables, said):
    (finding,) = read_server_spec(text_of(device_spec("T3K", env_vars=variables))).findings
    assert finding.severity == "warning"
    assert said in finding.what


def test_unknown_keys_are_named_with_their_path_and_kept():
    tree = copy.deepcopy(RELEASE)
    around = tree["model_specs"]["Qwen/Qwen3-8B"]["T3K"]["vLLM"]["tt_transformers"]
    around["new_around"] = 1
    around["device_model_spec"] |= {"new_key": {"a": None}, "override_tt_config": {"new_setting": 3}}
    tree["new_section"] = {"x": [1, 2]}
    entry = chosen_entry(text_of(tree), "qwen3_8b", "t3k")
    path = "model_specs.Qwen/Qwen3-8B.T3K.vLLM.tt_transformers"
    warned = [each.what for each in entry.read().findings if each.severity == "warning"]
    assert warned == [
        "new_section.x is not known here.",
        f"{path}.new_around is not known here.",
        f"{path}.device_model_spec.new_key is not known here.",
        f"{path}.device_model_spec.override_tt_config.new_setting is not known here.",
    ]
    assert written(entry) == entry.spec


def test_the_entry_of_a_model_and_device_is_chosen():
    text = text_of(RELEASE)
    assert chosen_entry(text, "qwen3_8b", "n150").implementation == "tt_transformers"
    assert chosen_entry(text, "Qwen/Qwen3-32B", "GALAXY").spec["device"] == "GALAXY"
    model = model_shape("qwen3_8b", ModelSpec.uniform)
    out = yaml.safe_load(convert(Source("server-spec", text), "server-spec", model, device="n150"))
    assert out == device_spec("N150")
    for name, device, message in (
        ("qwen3_8b", None, "has 3 entries for qwen3_8b"),
        ("qwen3_8b", "p150", "no entry for qwen3_8b on p150. It has GPU, N150, T3K."),
        ("llama8b", None, "8 entries, none for llama8b"),
    ):
        with pytest.raises(ConfigError, match=message):
            chosen_entry(text, name, device)


def test_a_file_becomes_a_file_for_an_experiment(tmp_path, capsys):
    file = tmp_path / "release.json"
    file.write_text(text_of(RELEASE))
    given = ["--from", "server-spec", str(file), "--model", "qwen3_32b", "--device", "tg", "--to", "yaml"]
    assert main(given) == 0
    tree = yaml.safe_load(capsys.readouterr().out)
    assert tree == {
        "device": {"max_batch_size": 32, "max_prefill_chunk_size": 32768, "mesh_shape": [4, 8]},
        "workload": {"context": 40960},
    }


def test_all_entries_in_a_table(tmp_path, capsys):
    file = tmp_path / "release.json"
    file.write_text(text_of(RELEASE))
    assert main(["--from", "server-spec", str(file), "--all"]) == 0
    out, err = capsys.readouterr()
    assert "7 entries: 5 fit, 0 do not, 2 not told\nleft out, of other kinds: 1 IMAGE\n" in out
    assert err == ""
    rows = {row.entry: row for row in table_rows(file.read_text())[0]}
    assert rows["Qwen/Qwen3-32B GALAXY a"].cells[1:4] == ("yes", "40,960", "32,768")
    assert rows["Qwen/Qwen3-8B GPU tt_transformers"].findings == ("device not described here",)
    assert rows["me/none QUAD_GALAXY c"].findings == ("model not described here",)


@pytest.mark.parametrize("more", [["--to", "yaml"], ["--model", "llama8b"], ["--device", "n150"], ["--lossy"]])
def test_options_for_one_entry_are_refused_with_all(more, capsys):
    assert main(["--from", "server-spec", "{}", "--all", *more]) == 2
    assert f"Leave out {more[0]}." in capsys.readouterr().err
    assert main(["--from", "vllm", "{}", "--all"]) == 2


def test_a_wrong_entry_is_a_row_that_says_what_is_wrong():
    rows, _, _ = table_rows(text_of([device_spec("N150"), device_spec("N150", max_context=0)]))
    assert [row.fits for row in rows] == ["–", "–"]
    assert rows[1].findings == ("[1].max_context must be at least 1.",)


def test_a_catalogue_in_yaml_may_be_two_megabytes():
    line = "- {device: N150, max_concurrency: 32, max_context: 4096}\n"
    text = line * (MAX_YAML_BYTES // len(line))
    assert len(server_entries(text)[0]) == MAX_YAML_BYTES // len(line)
    with pytest.raises(ConfigError, match="larger than 2000 kB"):
        server_entries(text + line)


def converted(text, model, to, device=None):
    """What the command does with a file's text."""
    source, shape = model_for(Source("server-spec", text, model), model, to, ModelSpec.uniform)
    return convert(source, to, shape, device=device)


@pytest.mark.parametrize(
    ("device", "chosen"),
    [
        *(("t3k", "T3K"), ("T3K", "T3K"), ("T3000", "T3K")),
        *(("GALAXY_T3K", "GALAXY_T3K"), ("galaxy_t3k", "GALAXY_T3K"), ("GALAXY", "GALAXY"), ("tg", "GALAXY")),
        *(("GPU", "GPU"), ("gpu", "GPU")),
    ],
)
def test_a_device_is_chosen_as_it_is_written_before_others_that_are_the_same(device, chosen):
    text = text_of([released("Qwen/Qwen3-8B", device_spec(name)) for name in ("GALAXY_T3K", "T3K", "GALAXY", "GPU")])
    assert chosen_entry(text, "qwen3_8b", device).spec["device"] == chosen
    assert yaml.safe_load(converted(text, "qwen3_8b", "server-spec", device)) == device_spec(chosen)


def test_what_is_another_name_is_chosen_where_it_is_the_only_one():
    text = text_of([released("Qwen/Qwen3-8B", device_spec(name)) for name in ("GALAXY_T3K", "N150")])
    assert chosen_entry(text, "qwen3_8b", "t3k").spec["device"] == "GALAXY_T3K"


def test_an_entry_of_a_model_that_is_not_described_is_converted(capsys):
    text = text_of(RELEASE)
    assert main(["--from", "server-spec", text, "--model", "me/none", "--to", "server-spec"]) == 0
    out, err = capsys.readouterr()
    assert yaml.safe_load(out) == device_spec("QUAD_GALAXY")
    assert "warning [exchange-model] me/none is not described here. Nothing was checked against it. " in err
    assert yaml.safe_load(converted(text, "me/none", "yaml"))["workload"] == {"context": 40960}
    for model, to in (("me/none", "tttv1-json"), ("me/nothing", "yaml")):
        with pytest.raises(ConfigError, match=f"no model named '{model}'"):
            converted(text, model, to)


def test_the_plugin_settings_pass_between_a_command_and_an_entry():
    told = {"fabric_config": "FABRIC_1D", "sample_on_device_mode": None, "trace_region_size": 7}
    spec = device_spec("T3K", override_tt_config=told)
    arguments = converted(text_of(spec), "qwen3_8b", "vllm")
    assert arguments == f"--additional-config '{json.dumps({'tt': told})}'"
    model = model_shape("qwen3_8b", ModelSpec.uniform)
    back = convert(Source("vllm", str(arguments)), "server-spec", model, device="t3k")
    assert yaml.safe_load(back)["override_tt_config"] == told


@pytest.mark.parametrize(("tokens", "said"), [(32768, "32"), (65536, "64"), (1024, "1")])
def test_a_chunk_that_was_changed_is_written_in_its_variable(tokens, said):
    imported = read_server_spec(text_of(device_spec("T3K", env_vars={"MAX_PREFILL_CHUNK_SIZE": "32", "A": "b"})))
    config = imported.applied(DevicePresets.get_config("T3K"), 32)
    config.max_prefill_chunk_size = tokens
    out = yaml.safe_load(write_server_spec(config, Served))
    assert out["env_vars"] == {"MAX_PREFILL_CHUNK_SIZE": said, "A": "b"}
    assert read_server_spec(text_of(out)).values["device.max_prefill_chunk_size"] == tokens
    config.max_prefill_chunk_size = tokens + 32
    with pytest.raises(ConfigError, match=r"counts thousands \(1024\) of tokens"):
        write_server_spec(config, Served)


@pytest.mark.skipif(not SHIPPED.is_file(), reason="needs release_model_spec.json of the package tenstorrent")
def test_all_entries_that_ship_are_read_and_come_back():
    text = SHIPPED.read_text(encoding="utf-8")
    entries, unread = server_entries(text)
    assert unread == []
    assert len(entries) >= 169
    for entry in entries:
        imported = entry.read()
        assert [each.what for each in imported.findings if each.id.startswith("exchange-unknown")] == []
        assert written(entry) == entry.spec
        again = dataclasses.replace(entry, spec=written(entry)).read()
        assert (again.values, again.workload, again.mode) == (imported.values, imported.workload, imported.mode)
    rows, _, _ = table_rows(text)
    assert len(rows) >= 110
    assert not any(row.fits == "–" and "not described here" not in row.findings[0] for row in rows)


@pytest.mark.skipif(not SHIPPED.is_file(), reason="needs release_model_spec.json of the package tenstorrent")
def test_all_language_models_that_ship_convert():
    entries = [e for e in server_entries(SHIPPED.read_text(encoding="utf-8"))[0] if e.kind not in OTHER_KINDS]
    assert len(entries) >= 110
    for entry in entries:
        text = text_of([released(entry.model, dict(entry.spec), entry.implementation, entry.kind)])
        for to in ("yaml", "vllm", "server-spec"):
            assert converted(text, entry.model, to, entry.spec["device"])
