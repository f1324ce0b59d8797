# SPDX-License-Identifier: Apache-2.0
"""What the serving catalogue ships, against the memory map; and what is wrong in files like it."""

from __future__ import annotations

import dataclasses

import pytest

from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config import known_overflows, serving_catalogue, trace_demands
from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.conf_folders import add_conf_dir, in_own_context
from tt_transformers_v2.config.groups import option
from tt_transformers_v2.config.model_shapes import described_spec
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import resolve
from tt_transformers_v2.config.serving_catalogue import serving_entries, serving_trace_region
from tt_transformers_v2.config.trace_demands import trace_demand


def experiment(entry, *more):
    asked = [f"device={option('device', entry.device)}", f"model={option('model', entry.model)}", *more]
    checked = check_overrides([*asked, f"workload.context={entry.max_context}"])
    return resolve(compose(checked.texts), checked.typed)


@pytest.mark.parametrize("entry", serving_entries(), ids=lambda e: f"{e.model}-{e.device}-{e.implementation}")
def test_every_context_that_ships_fits_but_for_those_that_say_why_not(entry):
    ids = [finding.id for finding in experiment(entry).errors]
    if not entry.unlike:
        assert ids == []
    elif entry.unlike.startswith("context: "):
        assert ids == ["context-over-model"]
        assert experiment(entry, f"model.max_context={entry.max_context}").errors == [], "DRAM would hold it"
    else:
        assert (entry.device, ids) == ("N150", ["dram-overflow"])
        assert entry.unlike.startswith("ran out of DRAM: ")


@pytest.mark.parametrize("context", [40960, 131072])
@pytest.mark.parametrize("model", ["Llama-3.3-70B-Instruct", "Qwen3-8B"])
def test_a_sweep_over_all_devices_skips_nothing_that_ships(model, context):
    """As scripts/run.py --multirun 'device=glob(*)' would: what ships holds shorter contexts too."""
    shipped = [e for e in serving_entries() if e.model == model and e.max_context >= context]
    for entry in shipped:
        assert experiment(dataclasses.replace(entry, max_context=context)).errors == [], entry
    assert (len(shipped) > 3) is (context == 40960 or model.startswith("Llama"))


def test_chunks_that_ship_are_those_of_the_table():
    shipped = [entry for entry in serving_entries() if entry.max_prefill_chunk_size]
    assert len(shipped) > 5
    for entry in (each for each in shipped if each.device == "T3K"):
        found = experiment(entry, f"model.max_context={entry.max_context}")
        assert found.hardware.max_prefill_chunk_size == entry.max_prefill_chunk_size


def test_the_trace_region_that_ships_is_the_largest_of_the_implementations():
    assert serving_trace_region("Qwen3-32B", "TG") == 184_915_840
    assert serving_trace_region("Llama-3.1-8B-Instruct", "P150x8") is None
    assert serving_trace_region("SmolLM2-135M", "N150") is None


def test_the_largest_demand_counts_whatever_the_name():
    assert trace_demand(described_spec("Llama-3.1-8B"), "P150").bytes == 60_825_600
    assert trace_demand(described_spec("DeepSeek-R1-Distill-Llama-8B"), "P150").bytes == 60_825_600
    assert trace_demand(described_spec("Llama-3.2-3B"), "P150") is None
    assert trace_demand(described_spec("Llama-3.1-8B"), "P100") is None
    assert trace_demand(object(), "P150") is None


READERS = {
    "serving_catalogue.csv": serving_catalogue.serving_entries,
    "trace_demands.csv": lambda: trace_demands.trace_demand(described_spec("Llama-3.1-8B"), "P150"),
    "memory.csv": known_overflows.memory_rows,
}
DEMAND = "model,device,bytes,allocated,date,source\n"
MEMORY = "model,device,tp,dp,mode,batch,context,chunk,trace_region,outcome,date,source,flag\n"
RAN = "Llama-3.1-8B,N150,1,1,performance,1,1024,,,ran,2026,somebody,\n"


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("trace_demands.csv", "model,device\n", "lacks the columns bytes, allocated, date, source"),
        ("trace_demands.csv", DEMAND.replace("date", "date,dat"), "unknown column 'dat'. Did you mean date"),
        ("trace_demands.csv", DEMAND + "A,P150,60MB,1,2026,x\n", "csv, line 2: bytes must be a whole number"),
        ("trace_demands.csv", DEMAND + "A,P150,5,5,2026,x\n", "line 2: 5 bytes fit in the 5 allocated"),
        ("trace_demands.csv", DEMAND + "A,P150,5,1,2026\n", "line 2: it has more or fewer fields"),
        ("trace_demands.csv", DEMAND + ",P150,5,1,2026,x\n", "line 2: model is empty"),
        ("memory.csv", MEMORY + RAN + RAN.replace("ran", "OOM"), "line 3: outcome must be ran or out_of_memory"),
        ("memory.csv", MEMORY + RAN.replace("1024", "0"), "line 2: context must be a whole number of at least 1"),
        ("serving_catalogue.csv", "model\n", "lacks the columns"),
    ],
)
def test_a_wrong_row_is_named_with_file_and_line(tmp_path, file, text, message):
    (tmp_path / "measurements").mkdir()
    (tmp_path / "measurements" / file).write_text(text, encoding="utf-8")

    @in_own_context
    def read():
        add_conf_dir(tmp_path)
        READERS[file]()

    with pytest.raises(ConfigError) as problem:
        read()
    assert message in str(problem.value)
    assert file in str(problem.value)
