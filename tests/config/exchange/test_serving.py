# SPDX-License-Identifier: Apache-2.0
import json
import shlex

import pytest
import yaml

from tt_transformers_v2.common.csv_rows import read_rows
from tt_transformers_v2.config.exchange import read_server_spec, read_vllm, write_server_spec, write_vllm
from tt_transformers_v2.config.exchange.server_spec import our_device, server_device
from tt_transformers_v2.config.groups import device_types
from tt_transformers_v2.config.measured_points import measurements_file
from tt_transformers_v2.config.model_shapes import described_spec
from tt_transformers_v2.config.trace_demands import COLUMNS, FILE
from tt_transformers_v2.hardware import AutoHardwareConfig, ConfigError, DevicePresets


class Served:
    max_context = 131072


# Settings as Tenstorrent's documents and catalogues use them.
GALAXY_TT = {
    "dispatch_core_axis": "col",
    "sample_on_device_mode": "all",
    "fabric_config": "FABRIC_1D_RING",
    "worker_l1_size": 1344544,
    "trace_region_size": 215000000,
}
ENTRIES = [
    {"device": "N150", "max_concurrency": 32, "max_context": 65536, "default_impl": True},
    {
        "device": "T3K",
        "max_concurrency": 32,
        "max_context": 131072,
        "tensor_cache_timeout": 5400.0,
        "override_tt_config": {"trace_region_size": 30000000},
        "env_vars": {"MAX_PREFILL_CHUNK_SIZE": "32", "VLLM_ALLOW_LONG_MAX_MODEL_LEN": 1},
        "system_requirements": {"firmware": {"specifier": ">=18.8.0", "mode": "SUGGESTED"}},
    },
    {
        "device": "GALAXY",
        "max_concurrency": 32,
        "max_context": 131072,
        "vllm_args": {"data_parallel_size": 4, "max_num_seqs": 32},
        "override_tt_config": GALAXY_TT,
    },
    {"device": "GALAXY", "max_concurrency": 128, "max_context": 40960, "env_vars": {"MESH_DEVICE": "(4, 8)"}},
    {"max_context": 4096, "device": "P150X4", "max_concurrency": 8, "vllm_args": {"block_size": "32"}},
    {"device": "GALAXY_T3K", "max_concurrency": 1, "max_context": 16384},
    {"device": "T3K", "max_concurrency": 32, "max_context": 4, "vllm_args": {"data_parallel_size": "8"}},
    {"device": "T3K", "max_concurrency": 32, "max_context": 4, "override_tt_config": {}},
]


def applied(imported, device="n150"):
    return imported.applied(DevicePresets.get_config(imported.values.get("device.device_type", device)), 32)


def test_vllm_is_told_what_the_configuration_knows():
    text = write_vllm(DevicePresets.get_config("t3k"), mode="accuracy")
    flag, value = shlex.split(text)
    assert flag == "--additional-config"
    assert json.loads(value) == {"tt": {"optimizations": "accuracy"}}
    imported = read_vllm(text)
    assert imported.mode == "accuracy"
    assert imported.values == {}


def told(model, device, typed=(), **changes):
    """The trace region that a server of a model is told of, by either tool; None where it is left out."""
    spec = described_spec(model)
    config = AutoHardwareConfig.from_device(device, "performance", spec)
    for name, value in changes.items():
        setattr(config, name, value)
    plugin = json.loads(shlex.split(write_vllm(config, model=spec, typed=typed))[1])["tt"]
    entry = yaml.safe_load(write_server_spec(config, spec, model=spec, typed=typed))
    assert plugin == entry.get("override_tt_config", {})
    return plugin.get("trace_region_size")


@pytest.mark.parametrize(
    ("model", "device", "size"),
    [
        ("Llama-3.1-8B", "n150", 52_000_000),  # 0 in a demo
        ("Llama-3.1-8B", "n300", 70_000_000),
        ("Llama-3.1-8B", "p150", 900_000_000),  # raised to the known demand here
        ("Llama-3.3-70B", "t3k", 30_000_000),  # 224 MB in a demo
        ("Qwen3-32B", "tg", 184_915_840),  # the larger of two implementations
        ("Qwen3-8B", "t3k", None),  # ships with the plugin's default
        ("Llama-3.1-8B", "p100", None),  # does not ship
    ],
)
def test_a_server_is_told_the_trace_region_that_ships(model, device, size):
    assert told(model, device) == size


def test_a_typed_trace_region_is_written_and_so_is_zero():
    typed = {"device.trace_region_size"}
    assert told("Llama-3.1-8B", "n300", typed) == 60_000_000
    assert told("Llama-3.1-8B", "n150", typed) == 0
    assert told("Llama-3.1-8B", "n300", trace_region_size=60_000_001) == 60_000_001
    assert told("Qwen3-8B", "t3k", trace_region_size=0) == 0


def test_no_trace_region_is_told_that_is_known_to_be_too_small():
    demands = read_rows(measurements_file(FILE), COLUMNS, lambda row, line: row)
    assert len(demands) > 5
    for row in demands:
        size = told(row["model"], row["device"])
        assert size is None or size >= int(row["bytes"]), row


@pytest.mark.parametrize(
    "settings", [{}, GALAXY_TT, {"optimizations": "performance"}, {"mpi_args": "--host 'a b'", "trace_mode": "none"}]
)
def test_vllm_settings_come_back_as_they_were(settings):
    texts = [
        json.dumps({"tt": settings}),
        json.dumps(settings),
        f"vllm serve model --additional-config {shlex.quote(json.dumps({'tt': settings}))} --port 8000",
        f"--additional-config={shlex.quote(json.dumps({'tt': settings}))}",
    ]
    for text in texts:
        written = write_vllm(applied(read_vllm(text)))
        assert json.loads(shlex.split(written)[1]) == {"tt": settings}
        assert list(json.loads(shlex.split(written)[1])["tt"]) == list(settings)
        assert read_vllm(written) == read_vllm(text)


def test_a_changed_trace_region_is_written():
    config = applied(read_vllm(json.dumps({"tt": {"trace_mode": "all"}})))
    config.trace_region_size = 7
    assert json.loads(shlex.split(write_vllm(config))[1])["tt"] == {"trace_mode": "all", "trace_region_size": 7}


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_server_entry_comes_back_as_it_was(entry):
    for text in (yaml.safe_dump(entry, sort_keys=False), yaml.safe_dump([entry], sort_keys=False)):
        imported = read_server_spec(text)
        written = write_server_spec(applied(imported), Served)
        assert yaml.safe_load(written) == entry
        assert list(yaml.safe_load(written)) == list(entry)
        assert read_server_spec(written) == imported


def test_users_and_groups_of_a_server_entry():
    config = applied(read_server_spec(yaml.safe_dump(ENTRIES[2])))
    assert config.device_type == our_device("GALAXY")
    assert config.max_batch_size == 8
    assert (config.parallelism.data_parallel_size, config.parallelism.chips) == (4, config.spec.chips)
    assert config.trace_region_size == 215000000
    config.parallelism.data_parallel_size = 2
    assert yaml.safe_load(write_server_spec(config, Served))["vllm_args"]["data_parallel_size"] == 2
    assert yaml.safe_load(write_server_spec(config, Served))["max_concurrency"] == 16


def test_a_new_server_entry():
    config = DevicePresets.get_config("n300")
    entry = yaml.safe_load(write_server_spec(config, Served, mode="performance"))
    assert entry == {
        "device": "N300",
        "max_concurrency": config.max_batch_size,
        "max_context": 131072,
        "override_tt_config": {"optimizations": "performance"},
    }


@pytest.mark.parametrize("kind", sorted(device_types()))
def test_every_device_has_their_name(kind):
    theirs = server_device(kind)
    assert theirs == theirs.upper()
    assert server_device(our_device(theirs)) == theirs


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"trace_region": 3},
            "tt.trace_region is not known here. It is kept, and nothing reads it. Did you",
        ),
        ({"next_year": {"deep": 1}}, "tt.next_year is not known here"),
        ({"trace_mode": "decode"}, "Did you mean decode_only?"),
        ({"optimizations": "custom"}, "tt.optimizations is 'custom', expected performance, accuracy."),
        ({"enable_model_warmup": 1}, "tt.enable_model_warmup must be true or false, not 1."),
        ({"worker_l1_size": -1}, "tt.worker_l1_size must not be negative."),
    ],
)
def test_what_is_not_understood_is_named_by_its_path_and_kept(settings, said):
    imported = read_vllm(json.dumps({"tt": settings}))
    (finding,) = imported.findings
    assert finding.severity == "warning"
    assert said in str(finding)
    assert imported.mode is None
    assert json.loads(shlex.split(write_vllm(applied(imported)))[1]) == {"tt": settings}


def test_null_is_unset_and_comes_back():
    settings = {"sample_on_device_mode": None, "trace_region_size": None, "optimizations": None}
    imported = read_vllm(json.dumps({"tt": settings}))
    assert (imported.findings, imported.values, imported.mode) == ([], {}, None)
    assert json.loads(shlex.split(write_vllm(applied(imported)))[1]) == {"tt": settings}


@pytest.mark.parametrize("fabric", ["FABRIC_1D_NEIGHBOR_EXCHANGE", "FABRIC_2D_TORUS_XY", "FABRIC_2D_TORUS_Y"])
def test_every_name_of_ttnn_for_a_fabric_is_known(fabric):
    assert read_vllm(json.dumps({"fabric_config": fabric})).findings == []


@pytest.mark.parametrize("flag", ["--override_tt_config", "--override-tt-config"])
@pytest.mark.parametrize("joined", [True, False])
def test_the_flag_of_older_vllm_commands_is_read(flag, joined):
    value = shlex.quote('{"trace_region_size": 7, "optimizations": "accuracy"}')
    imported = read_vllm(f"vllm serve model {flag}{'=' if joined else ' '}{value} --port 8000")
    assert imported.mode == "accuracy"
    assert imported.values == {"device.trace_region_size": 7}
    assert imported.custom_configs["vllm"] == {"trace_region_size": 7, "optimizations": "accuracy"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"tt": {"trace_region_size": "3"}}', "must be a whole number"),
        ('{"tt": {"trace_region_size": true}}', "must be a whole number"),
        ('{"tt": {"trace_region_size": -1}}', "must not be negative"),
        ('{"tt": []}', "must be a mapping"),
        ("vllm serve model", "no --additional-config"),
        ("vllm serve model --override_tt_config", "--override_tt_config has no value"),
        ("--override_tt_config '{}' --additional-config '{}'", "both --override_tt_config and --additional-config"),
    ],
)
def test_what_contradicts_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        read_vllm(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": "P151"}, "Did you mean P150"),
        ({"device": "XPU"}, "not a known device"),
        ({"device": None}, "has no device"),
        ({"max_context": None}, "has no max_context"),
        ({"max_context": "many"}, "must be a whole number"),
        ({"max_context": 0}, "at least 1"),
        ({"max_tokens_all_users_override": 0}, "at least 1"),
        ({"vllm_args": ["x"]}, "vllm_args must be a mapping"),
        ({"vllm_args": {"data_parallel_size": 5}}, "multiple of data_parallel_size"),
        ({"vllm_args": {"data_parallel_size": [1]}}, "multiple of data_parallel_size"),
    ],
)
def test_a_server_entry_that_contradicts_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        read_server_spec(yaml.safe_dump(ENTRIES[0] | change))


def test_a_misspelled_key_that_is_missed_is_named():
    with pytest.raises(ConfigError, match=r"has no max_concurrency\. It has 'max_concurency': write"):
        read_server_spec(yaml.safe_dump({"device": "N150", "max_concurency": 1, "max_context": 4}))


def test_there_is_no_custom_mode_there():
    with pytest.raises(ConfigError, match="no custom mode"):
        write_vllm(DevicePresets.get_config("n150"), mode="custom")
