# SPDX-License-Identifier: Apache-2.0
"""Every device, a model of every shape class and every precision mode asked of the real ttnn: what is refused, and why.

    python tests/preflight/preflight_matrix.py --write                 # all devices, some minutes
    python tests/preflight/preflight_matrix.py --write n150 t3k        # these; the others stay as they are
    python tests/preflight/preflight_matrix.py --table                 # only the table of docs/preflight.md

`--write` asks one device after the other and keeps each as soon as it is answered, so that it can be interrupted and go
on with the devices that are left. test_preflight_matrix.py compares.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "src"))

from tt_transformers_v2.backends.ttnn.recording.recorder import overflows_l1  # noqa: E402
from tt_transformers_v2.common.errors import ConfigError  # noqa: E402
from tt_transformers_v2.common.files import write_atomically  # noqa: E402
from tt_transformers_v2.config.composition import compose  # noqa: E402
from tt_transformers_v2.config.groups import device_types  # noqa: E402
from tt_transformers_v2.config.overrides import check_overrides  # noqa: E402
from tt_transformers_v2.config.resolve import Experiment, resolve  # noqa: E402
from tt_transformers_v2.preflight.preflight_result import preflight_sections  # noqa: E402

KEPT = ROOT / "tests" / "data" / "preflight_refusals.yaml"
PAGE = ROOT / "docs" / "preflight.md"
BEGIN, END = "<!-- made by tests/preflight/preflight_matrix.py -->", "<!-- end -->"

DEVICES = sorted(device_types().values())
PRECISIONS = ("accuracy", "custom", "performance")
# Shape class -> what to type for a model of it.
MODELS = {
    "llama1b": ["model=llama1b"],  # head_dim 64, embeddings tied, large vocabulary
    "llama8b": ["model=llama8b"],  # head_dim 128, 8 KV heads
    "llama70b": ["model=llama70b"],
    "qwen2_5_0_5b": ["model=qwen2_5_0_5b"],  # 14 heads, 2 KV heads, hidden 896, the largest vocabulary
    "qwen2_5_7b": ["model=qwen2_5_7b"],  # bias on q, k and v; 28 heads
    "qwen2_5_72b": ["model=qwen2_5_72b"],  # bias; an MLP of 29568, which 8 and 32 chips do not divide into tiles
    "qwen3_8b": ["model=qwen3_8b"],  # norms of q and k
    "one_kv_head": ["model=llama8b", "model.num_kv_heads=1"],
    "phi3_mini": ["model=phi3_mini"],  # head_dim 96, as many KV heads as heads
    "phi4": ["model=phi4"],  # 40 heads, 10 KV heads
    "falcon3_7b": ["model=falcon3_7b"],  # head_dim 256, 12 heads, an MLP of 23040
    "mistral_small_24b": ["model=mistral_small_24b"],  # heads narrower together than the hidden size
    "sliding_window": ["model=mistral7b", "model.sliding_window=4096"],
    "smollm2_135m": ["model=smollm2_135m"],  # 9 heads, 3 KV heads, hidden 576
}

# Reason -> what it means. What begins with OURS must not stay: it is this package's mistake.
OURS = "this package's: "
WHY = {
    "decode ff1_ff3: L1 overflow": "FF1 and FF3 of mistral_small_24b (5120 x 32768, BFP8, fp32 Dst) over P100's 7 DRAM "
    "banks: their partial results leave no room for the shortest block; `compute.ff1_ff3.fp32_dest_acc_en=false` or "
    "`memory.use_width_sharding=false` passes",
    "dram-overflow": "the weights are more than the chips' DRAM holds; the message says which device is large enough",
}

Refusals = dict[str, dict[str, str]]  # model -> precision -> reason


def experiment(device: str, model: str, precision: str) -> Experiment:
    texts = [f"device={device}", *MODELS[model], f"precision={precision}", "task=preflight"]
    checked = check_overrides(texts)
    return resolve(compose(checked), checked.typed)


def refusals(device: str) -> Refusals:
    """What is refused on one device: by this package's checks before ttnn is asked, then by ttnn."""
    found: dict[tuple[str, str], str | None] = {}
    asked: dict[tuple[str, str], Experiment] = {}
    for model in MODELS:
        for precision in PRECISIONS:
            one = experiment(device, model, precision)
            found[model, precision] = " ".join(sorted({finding.id for finding in one.errors})) or None
            if not one.errors:
                asked[model, precision] = one
    for key, section in zip(asked, preflight_sections(list(asked.values()), advise=False), strict=True):
        found[key] = reason(section)
    refused: Refusals = {}
    for (model, precision), why in found.items():
        if why is not None:
            refused.setdefault(model, {})[precision] = why
    return refused


def reason(section: dict[str, Any] | ConfigError) -> str | None:
    """Why a preflight did not pass, without the numbers in it; None where it did."""
    if isinstance(section, ConfigError):
        return f"no op: {_without_numbers(section.message)}"
    if section["error"] is not None:
        return f"ttnn gave up: {_without_numbers(section['said'])}"
    first = next((row for row in section["ops"] if row["verdict"] == "failed"), None)
    if first is None:
        return None
    said = "L1 overflow" if overflows_l1(first["said"]) else _without_numbers(first["said"])
    return f"{first['phase']} {first['op']}: {said}"


def _without_numbers(said: str) -> str:
    return re.sub(r"\d+", "#", said)


def kept() -> dict[str, Refusals]:
    """Device -> its refusals, as they were last written."""
    return yaml.safe_load(KEPT.read_text())["refused"] if KEPT.exists() else {}


def keep(device: str, refused: Refusals) -> None:
    known = kept() | {device: refused}
    combinations = len(DEVICES) * len(MODELS) * len(PRECISIONS)
    head = (
        f"# Refused of {combinations} combinations: {len(DEVICES)} devices x {len(MODELS)} models x "
        f"{len(PRECISIONS)} precision modes.\n# Written by: python tests/preflight/preflight_matrix.py --write\n"
    )
    text = yaml.safe_dump({"refused": dict(sorted(known.items()))}, sort_keys=False, width=200)
    write_atomically(KEPT, head + text)


def counted() -> Counter[str]:
    return Counter(why for device in kept().values() for model in device.values() for why in model.values())


def table() -> str:
    """The lines of docs/preflight.md between its marks."""
    combinations = len(DEVICES) * len(MODELS) * len(PRECISIONS)
    counts = counted()
    lines = [
        f"Of {combinations} combinations ({len(DEVICES)} devices, {len(MODELS)} models, {len(PRECISIONS)} precision "
        f"modes), {counts.total()} are refused:",
        "",
        "| reason | refused | why |",
        "| --- | --- | --- |",
        *(f"| `{why}` | {count} | {WHY.get(why, '')} |" for why, count in counts.most_common()),
    ]
    return "\n".join(lines)


def page_with_table() -> str:
    text = PAGE.read_text()
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END, text.index(BEGIN))
    return f"{text[:begin]}\n{table()}\n{text[end:]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="ask ttnn and keep what it refuses")
    parser.add_argument("--table", action="store_true", help="write the table of docs/preflight.md")
    parser.add_argument("devices", nargs="*", choices=[[], *DEVICES], help="default all")
    options = parser.parse_args()
    if options.write:
        for device in options.devices or DEVICES:
            started = time.monotonic()
            refused = refusals(device)
            keep(device, refused)
            print(
                f"{device}: {sum(map(len, refused.values()))} refused, {time.monotonic() - started:.0f} s", flush=True
            )
    if options.write or options.table:
        PAGE.write_text(page_with_table())
        return 0
    parser.print_help()
    return 2


if __name__ == "__main__":
    sys.exit(main())
