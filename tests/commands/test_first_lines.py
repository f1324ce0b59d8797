# SPDX-License-Identifier: Apache-2.0
"""What a newcomer types first: every answer says what to type instead, and that works."""

from __future__ import annotations

import pytest

from tt_transformers_v2.commands import explain, predict, preflight, run

COMMANDS = {"run": run.main, "predict": predict.main, "explain": explain.main, "preflight": preflight.main}


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("predict --device n150", "unrecognized arguments: --device. Write device=VALUE, without dashes."),
        ("run --device=n150", "unrecognized arguments: --device=n150. Write device=VALUE, without dashes."),
        ("explain --model llama8b", "unrecognized arguments: --model. Write model=VALUE, without dashes."),
        ("run --batch-size 3", "unrecognized arguments: --batch-size. Write workload.batch=VALUE, without dashes."),
        ("predict --max-seq-len=9", "unrecognized arguments: --max-seq-len=9. Write workload.context=VALUE"),
        ("preflight --device n150", "unrecognized arguments: --device. Did you mean --devices?"),
        ("run --multirn", "unrecognized arguments: --multirn. Did you mean --multirun?"),
        ("predict --zzz", "unrecognized arguments: --zzz. See --help."),
        ("predict n150", "'n150' is not KEY=VALUE. Did you mean device=n150?"),
        ("run BH-Galaxy", "'BH-Galaxy' is not KEY=VALUE. Did you mean device=bh_galaxy?"),
        ("explain Qwen/Qwen3-8B", "'Qwen/Qwen3-8B' is not KEY=VALUE. Did you mean model=qwen3_8b?"),
        ("explain accuracy", "'accuracy' is not KEY=VALUE. Did you mean precision=accuracy?"),
        ("run device", "'device' is not KEY=VALUE. Write device=VALUE."),
        ("run workload.batch", "'workload.batch' is not KEY=VALUE. Write workload.batch=VALUE."),
        ("run help", "'help' is not KEY=VALUE. See --help."),
        (
            "predict device=n150,t3k",
            "'device=n150,t3k' gives several values for device. python scripts/run.py --multirun",
        ),
    ],
)
def test_the_answer_says_what_to_type(line, answer, capsys):
    name, *words = line.split()
    assert COMMANDS[name](words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {answer}")
    assert err.count("\n") == 1
