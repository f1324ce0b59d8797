# SPDX-License-Identifier: Apache-2.0
"""The code that runs a model on a card, run on described systems: ttnn checks every op and places every tensor.

What is not shown here: that programs compute what they should, and how long they take. That wants a card.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tt_transformers_v2.backends.ttnn.process import isolated
from tt_transformers_v2.config.device_presets import DevicePresets
from tt_transformers_v2.run.card_job import unlike
from tt_transformers_v2.run.this_machine import LOOK, device_of, grid_overrides

Run = Callable[..., dict[str, Any]]

SYNTHETIC = [
    "model.package=null",
    "model.num_layers=2",
    "model.hidden_dim=1024",
    "model.num_heads=16",
    "model.num_kv_heads=8",
    "model.intermediate_dim=2880",
    "model.vocab_size=4100",
    "model.tie_embeddings=false",
    "model.qkv_bias=true",
    "model.qk_norm=true",
]


LIMITED = "device.max_prefill_chunk_size=512"
# Jobs on an N150 that one process does, one after the other: the job, its overrides, and the rest of its payload.
ON_N150: dict[str, tuple[str, list[str], dict[str, Any]]] = {
    "chunks": ("ttnn_model_jobs:walks", [*SYNTHETIC, LIMITED], {"prompt": 1100, "prompt_only": True}),
    "no pages": ("ttnn_model_jobs:walks", [*SYNTHETIC, LIMITED, "runtime.kv_page_size=null"], {"prompt": 1100}),
    "DRAM": ("ttnn_model_jobs:fills_dram", [*SYNTHETIC, "workload.batch=32", "workload.context=8000"], {}),
    "another": ("ttnn_model_jobs:fills_dram", ["device=n300", "parallelism.tensor_parallel_size=1"], {}),
    "not described": ("ttnn_model_jobs:attends", [], {"hidden": 256, "heads": 4, "described": "N300"}),
}


@pytest.fixture(scope="module")
def on_n150(run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """By name of ON_N150: what the job `found`, or how it was `refused`."""
    jobs = []
    for job, overrides, payload in ON_N150.values():
        prompt = [f"workload.prompt_length={payload['prompt']}"] if "prompt" in payload else []
        asked = ["task=performance", *prompt, *overrides]
        if not any(text.startswith("device=") for text in overrides):
            asked.insert(0, "device=n150")
        jobs.append([job, {"overrides": asked, "home": str(tmp_path_factory.mktemp("home")), **payload}])
    return dict(zip(ON_N150, run("ttnn_jobs:each", jobs=jobs), strict=True))


def walk(run: Run, home: Path, device: str, *overrides: str, prompt: int = 100, **options: Any) -> dict[str, Any]:
    asked = [f"device={device.lower()}", "task=performance", f"workload.prompt_length={prompt}", *overrides]
    return run("ttnn_model_jobs:walks", device, overrides=asked, home=str(home), prompt=prompt, **options)


def test_smollm2_goes_through_the_whole_job_and_is_found_again(run: Run, tmp_path: Path) -> None:
    asked = ["workload.tokens=40", "workload.context=200"]
    seen: list[dict[str, Any]] = []
    options = {"on_progress": seen.append}
    found = run("ttnn_model_jobs:measures", overrides=asked, home=str(tmp_path), options=options)
    section, measured = found["accuracy"], found["measured"]
    assert section["basis"].startswith("measured on N150 through ttnn")
    assert (section["tokens"], section["weights"]) == (40, "real")
    assert section["reference_perplexity"] is not None
    *matmuls, attention = section["programs"]
    blocks = {row["op"]: row["in0_block_w"] for row in matmuls}
    assert blocks == {"ff1": 3, "ff3": 3, "ff2": 4, "wqkv": 3, "wo": 3, "lm_head": 1}
    assert (attention["op"], attention["k_chunk_size"], attention["exp_approx_mode"]) == ("sdpa", 64, True)
    assert (measured["users"], len(measured["prompts_ms"]), len(measured["steps_ms"])) == (1, 1, 1)
    assert "not traced" in measured["basis"]
    stages = list(dict.fromkeys(facts["stage"] for facts in seen))
    assert [stage for stage in stages if stage != "tensors"] == ["reference layers", "tokens", "prefill", "decode"]

    matrices = 30 * 5 + 4  # of the layers, the embedding and three parts of the LM head
    assert len(list(tmp_path.rglob("*.json"))) == matrices
    again = walk(run, tmp_path, "N150", prompt_only=True)
    assert (again["prefill"], again["converted"], again["found"]) == ([49152], 0, matrices)


@pytest.mark.parametrize(
    ("device", "overrides", "own_ops"),
    [
        pytest.param("N300", [], {"paged_fill_cache", "mlp all_reduce"}, marks=pytest.mark.slow),
        (
            "T3K",
            ["runtime.kv_page_size=null", "workload.batch=32"],
            {"fill_cache", "mlp all_reduce", "mlp reduce_scatter"},
        ),
        ("P150", [], {"paged_fill_cache"}),
        pytest.param("WH_GALAXY", [], {"ff1_ff3 all_reduce", "rms_norm stats"}, marks=pytest.mark.slow),
        pytest.param("BH_GALAXY", [], {"ff1_ff3 all_reduce", "rms_norm stats"}, marks=pytest.mark.slow),
    ],
)
def test_every_kind_of_mesh_takes_the_model(
    device: str, overrides: list[str], own_ops: set[str], run: Run, tmp_path: Path
) -> None:
    found = walk(run, tmp_path, device, *SYNTHETIC, *overrides)
    assert (found["prefill"], found["all"]) == ([4100], [[32, 4100], [8, 4100]])
    assert (found["decode"][1], found["traced"]) == (4100, True)
    assert own_ops <= set(found["ops"])


def test_a_prompt_beyond_a_chunk_attends_to_the_cache(on_n150: dict[str, dict[str, Any]]) -> None:
    assert on_n150["chunks"]["found"]["prefill"] == [4100]


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ("no pages", r"more than 512 tokens need a paged KV cache.*kv_page_size=32"),
        ("DRAM", r"the DRAM of N150 is full: .*Use fewer users"),
        (
            "another",
            r"N300: the machine has 1 chips, but the device file says 2\. This machine is not device=n300; device=auto",
        ),
        ("not described", r"chips is 1, but the device file says 2.*hw_config of the open"),
    ],
)
def test_what_a_system_cannot_do_is_told_with_what_to_do(
    job: str, said: str, on_n150: dict[str, dict[str, Any]]
) -> None:
    """Prompts end with a chunk without pages; DRAM is full; device= names another system, and so does hw_config."""
    assert re.search(said, on_n150[job]["refused"])


def test_another_architecture_is_a_difference() -> None:
    spec = DevicePresets.get_config("P150").spec
    seen = {"cluster": "N150", "arch": "wormhole_b0", "chips": 1}
    assert unlike(seen, spec) == ["P150: the machine's chips are wormhole_b0, but the device file says blackhole."]
    assert unlike(seen | {"arch": "blackhole"}, spec) == []


def test_logits_come_back_in_the_vocabularys_order(run: Run, tmp_path: Path) -> None:
    asked = ["device=t3k", "task=performance", *SYNTHETIC]
    assert run("ttnn_model_jobs:reads_logits", "T3K", overrides=asked, home=str(tmp_path)) == {"equal": True}


IDENTIFIED = ["T3K", "P300x2"]
OTHERS = ["N150", "N150x4", "N300", "P100", "P150", "P150x2", "P150x4", "P150x8", "P300", "WH_GALAXY", "BH_GALAXY"]


@pytest.mark.parametrize("device", [*IDENTIFIED, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_ttnn_says_which_device_a_system_is(device: str, run: Run) -> None:
    """And with the dispatch of its device file it has the grid of that file."""
    seen = run(LOOK, device)
    assert device_of(seen) == device
    assert grid_overrides(DevicePresets.get_config(device).spec, seen["grid"]) == ()


@pytest.mark.parametrize(("device", "grid"), [("N150", [8, 9]), ("P150", [13, 10])])
def test_chips_with_all_their_cores_as_simulators_have_them_are_seen(
    device: str, grid: list[int], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = isolated.cluster_description

    def whole(spec: Any) -> str:
        return re.sub(r"harvest_mask: \d+", "harvest_mask: 0", described(spec), count=1)

    monkeypatch.setattr(isolated, "cluster_description", whole)
    seen = run(LOOK, device)
    assert seen["grid"] == grid
    assert grid_overrides(DevicePresets.get_config(device).spec, seen["grid"]) == (
        f"device.compute_grid=[{grid[0]},{grid[1]}]",
    )


def test_ttnns_own_dispatch_of_an_n300_refuses_a_row_of_its_grid(run: Run) -> None:
    """Which is why the device files of N300 and T3K choose WORKER. A T3K says the same; opening one takes longer."""
    assert run("ttnn_jobs:default_dispatch", "N150") == {"core": "WORKER", "grid": [8, 8], "said": None}
    own = run("ttnn_jobs:default_dispatch", "N300")
    assert (own["core"], own["grid"]) == ("ETH", [8, 8])
    assert "The compute worker grid on this device is 8x7" in own["said"]


@pytest.mark.parametrize(
    ("device", "hidden", "heads"), [pytest.param("N150", 256, 4, marks=pytest.mark.slow), ("N300", 512, 8)]
)
def test_multi_head_attention_computes_on_an_open_device(device: str, hidden: int, heads: int, run: Run) -> None:
    found = run("ttnn_model_jobs:attends", device, hidden=hidden, heads=heads)
    assert found["shape"] == [2, 50, hidden]
    assert found["device"] == device
    assert {"qkv", "sdpa", "o"} <= set(found["ops"])
