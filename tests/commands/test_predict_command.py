# SPDX-License-Identifier: Apache-2.0
"""scripts/predict.py as a user runs it: what it prints, as text and as JSON, its pictures and its exit codes."""

import json
import re
import shlex
import subprocess
import sys
import time
from xml.etree import ElementTree

import pytest

import tour
from places import ROOT
from tt_transformers_v2.commands import predict as predict_cli
from tt_transformers_v2.commands.predict import main
from tt_transformers_v2.common import drawing
from tt_transformers_v2.hardware.enums import MathFidelity
from tt_transformers_v2.prediction import targets
from tt_transformers_v2.prediction.knobs import NOISE
from tt_transformers_v2.prediction.questions import ask
from tt_transformers_v2.prediction.roofline_picture import draw

N150 = ["device=n150", "model=llama8b", "precision=accuracy"]
TOO_LARGE = ["device=n150", "model=llama70b"]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def said(capsys):
    """Runs the command and returns (exit code, standard output, standard error)."""

    def run(*arguments):
        code = main(list(arguments))
        return code, *capsys.readouterr()

    return run


def answered(said, *arguments):
    code, out, err = said(*arguments, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_figures_come_with_class_band_and_what_was_measured(said):
    code, out, err = said(*N150)
    assert (code, err) == (0, "")
    answer = ask(N150)
    decode, prefill = answer.prediction.decode, answer.prediction.prefill
    assert f"decode   {answer.tokens_per_s_per_user:.1f} tokens/s/user ({decode}: " in out
    assert f"TTFT     {answer.ttft_ms:.0f} ms ({prefill}: " in out
    low, high = map(float, re.search(r"tokens/s/user \(.*±\d+ %: ([\d.]+) to ([\d.]+)", out).groups())
    assert low < answer.tokens_per_s_per_user < high
    assert "predicted" in out.splitlines()[1]
    assert "nothing was run" in out
    assert re.search(r"measured 9.11 tokens/s/user.*Llama-3.1-8B on N150", out)
    assert "tt-metal models/common/tests/demos/llama3_8b/demo.py" in out
    assert "the same configuration; predicted / measured: decode" in out
    assert "memory   Llama-3.1-8B-Instruct on N150 fits" in out


def test_typed_programs_are_said_to_change_no_predicted_time(said):
    typed, words = "runtime.programs.ff1_ff3_decode.readers_per_bank=2", "typed programs (runtime.programs) change no"
    p150 = ["device=p150", "model=llama8b"]
    _, out, _ = said(*p150, typed)
    assert words in out
    assert words not in said(*p150)[1]
    found, planned = answered(said, *p150, typed)["performance"], answered(said, *p150)["performance"]
    assert (found["decode_tokens_per_s_per_user"], len(found["notes"])) == (
        planned["decode_tokens_per_s_per_user"],
        len(planned["notes"]) + 1,
    )


def test_another_configuration_is_given_no_ratio(said):
    _, out, _ = said(*N150, "precision.ff2=BF16")
    assert "a different configuration, so no ratio: differs in precision" in out
    assert "predicted / measured" not in out


@pytest.mark.parametrize(
    "arguments",
    [
        [*N150, "--prefill"],
        ["device=t3k", "model=qwen2_5_7b", "workload.batch=32", "--prefill"],
        ["device=wh_galaxy", "model=llama70b", "precision=accuracy", "--prefill"],
        ["device=n150", "model=llama8b", "--what-if"],
        ["device=t3k", "model=llama8b", "--what-if"],
        ["model=llama8b", "--target", "30"],
        ["device=n300", "model=llama8b", "--max-context"],
    ],
)
def test_nothing_is_wider_than_a_hundred_columns(said, arguments):
    code, out, _ = said(*arguments)
    assert code == 0
    assert max(map(len, out.splitlines())) <= 100, max(out.splitlines(), key=len)


def test_the_table_of_ops_adds_up_to_the_step(said):
    _, out, _ = said(*N150, "--prefill")
    decode, prefill = (part.splitlines()[1:] for part in out.split("\n\n")[1:])
    speed = ask(N150).prediction.speed
    assert sum(float(line.split()[3]) for line in decode[1:]) == pytest.approx(speed.decode_ms, abs=0.01)
    assert sum(float(line.split()[3]) for line in prefill[1:]) == pytest.approx(speed.ttft_ms, abs=0.01)
    (ff1,) = [line for line in decode if line.startswith("ff1 ")]
    assert re.search(r"DRAM +DRAM [\d.]+ us +BFP8 +HiFi2", ff1)
    assert [line.split()[0] for line in said(*N150)[1].split("\n\n")[1].splitlines()[2:]] == [
        line.split()[0] for line in decode[1:]
    ], "without --prefill there is one table"


def test_json_is_the_same_and_nothing_else_is_on_standard_output(said):
    found, answer = answered(said, *N150), ask(N150)
    assert found["performance"]["decode_tokens_per_s_per_user"] == answer.tokens_per_s_per_user
    assert found["performance"]["decode_confidence"]["class"] == answer.prediction.decode.kind
    assert found["performance"]["memory"]["fits"] is True
    for ops, whole in (("decode_ops", "decode_ms"), ("prefill_ops", "ttft_ms")):
        assert sum(op["total_ms"] for op in found[ops]) == pytest.approx(found["performance"][whole])
        assert sum(op["share"] for op in found[ops]) == pytest.approx(1)
    ratio = found["nearest_measured"]["decode_ratio"] * found["nearest_measured"]["row"]["tokens_per_s_per_user"]
    assert ratio == pytest.approx(answer.tokens_per_s_per_user)
    assert "predicted" in found["basis"]
    assert found["overrides"] == N150


def test_what_if_prints_what_to_type_ranked_and_marks_noise(said):
    _, out, _ = said(*N150, "--what-if")
    rows = re.findall(r"^ +(~?)([+-][\d.]+) % +~?[+-][\d.]+ % .*?((?:precision|compute|runtime)\.\S+=.*)$", out, re.M)
    gains = [float(gain) for _, gain, _ in rows]
    assert len(rows) > 20
    assert gains == sorted(gains, reverse=True)
    assert gains[-1] < -NOISE
    assert all((abs(gain) < NOISE) == (mark == "~") for (mark, _, _), gain in zip(rows, gains, strict=True))
    assert "precision.ff1_ff3=BFP4 compute.ff1_ff3.math_fidelity=LoFi" in [knob for *_, knob in rows]
    assert out.index("faster decode") < out.index("decode within noise") < out.index("slower decode")
    assert "compute.mlp.math_fidelity=LoFi !" in out
    assert "! triggers the warning fidelity-below-format" in out
    assert "left out: precision.mlp_weights=BF16" in out
    found = answered(said, *N150, "--what-if")["what_if"]["gains"]
    assert len(found) > len(rows), "those without effect are counted in the text"
    assert all(one["within_noise"] == (abs(one["decode_gain_percent"]) < NOISE) for one in found)


def test_a_target_is_answered_from_any_start_cheapest_first(said, monkeypatch):
    monkeypatch.setattr(targets, "groups", lambda: {"device": ("n150", "n300", "p150x4", "t3k", "p150x8", "wh_galaxy")})
    code, out, err = said(*TOO_LARGE, "--target", "15")
    assert (code, err) == (0, "")
    table = out.splitlines()[2:]
    chips = [int(line.split()[0]) for line in table if re.match(r" +\d+ +\d+ ", line)]
    assert chips == sorted(chips)
    assert len(chips) >= 3
    assert "device=t3k precision=accuracy (extrapolated" in out
    assert "do not fit in DRAM" in out
    reaching = answered(said, *TOO_LARGE, "--target", "15")["target"]["reaching"]
    assert all(option["tokens_per_s_per_user"] >= 15 for option in reaching)
    starred = re.findall(r"[\d.]+\*  (device=\w+)", out)
    sure = {option["overrides"][0] for option in reaching if option["low_tokens_per_s_per_user"] >= 15}
    assert set(starred) == sure
    assert "device=p150x8" in sure
    assert "device=t3k" not in sure, "its band reaches below"


def test_a_target_out_of_reach_names_the_best_and_the_miss(said):
    code, out, _ = said("model=llama70b", "--target", "500")
    assert code == 0
    best, missed = re.search(r"The best is ([\d.]+) tokens/s/user .*, ([\d.]+) short", out).groups()
    assert float(best) + float(missed) == pytest.approx(500, abs=0.11)
    assert "device=" in out.splitlines()[2]


def test_the_longest_contexts_are_printed_with_the_speed_there(said):
    _, out, _ = said(*N150, "--max-context")
    rows = re.findall(r"^ +(\d+) +(\d+) +([\d.]+) +([\d.]+) ", out, re.M)
    assert [int(users) for users, *_ in rows] == [1, 2, 4, 8, 16, 32]
    for users, context, speed, whole in rows:
        assert float(whole) == pytest.approx(int(users) * float(speed), rel=0.01)
        assert int(context) % 32 == 0
    assert "the largest batch at 128 tokens: 32" in out
    found = answered(said, *N150, "--max-context")["max_context"]
    assert [str(one["context"]) for one in found["contexts"]] == [context for _, context, *_ in rows]


def test_a_model_that_does_not_fit_has_no_speed_and_says_where_it_would(said):
    code, out, err = said(*TOO_LARGE)
    assert code == 1
    assert out == ""
    assert re.search(r"does not fit on N150: each chip is \d+\.\d+ GiB short", err)
    device = re.search(r"The device with the least DRAM that it fits on is (device=\w+)\.", err)[1]
    assert said(device, "model=llama70b")[0] == 0
    code, out, err = said(*TOO_LARGE, "--json")
    assert code == 1
    found = json.loads(out)
    assert found["status"] == "failed"
    assert "performance" not in found
    assert found["findings"][0]["id"] == "dram-overflow"
    assert "Traceback" not in err


def test_a_workload_that_does_not_fit_is_told_what_would(said):
    code, out, err = said(
        "device=n150", "model=llama8b", "workload.batch=32", "workload.context=65536", "--max-context"
    )
    assert code == 1
    assert "does not fit" in err
    assert len(re.findall(r"^ +\d+ +\d+ +[\d.]+ ", out, re.M)) == 6
    assert "the largest batch at 65536 tokens: 0" in out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["device=n151"], 2, "Did you mean device=n150?"),
        (["precision.mlp_weight=BFP8"], 2, "Did you mean precision.mlp_weights?"),
        (["--whatif"], 2, "Did you mean --what-if?"),
        (["--target", "fast"], 2, "above 0, not 'fast'"),
        (["--target"], 2, "expected one argument"),
        (["--plot", "roof.pdf"], 2, ".svg or .png, not 'roof.pdf'"),
        (["--config-dir", "/nowhere"], 2, "does not exist"),
        (["workload.batch=64"], 1, "takes at most 32 users"),
        (["device=n300", "parallelism.tensor_parallel_size=1", "parallelism.pipeline_parallel_size=2"], 1, "pipeline"),
        (["memory.kv_cache_placement=L1", "model=llama8b", "--max-context"], 1, "L1 holds"),
    ],
)
def test_exit_codes_and_one_or_two_lines_for_a_mistake(said, arguments, code, words):
    found, out, err = said(*arguments)
    assert found == code
    assert words in err
    assert "tokens/s" not in out
    assert len(err.strip().splitlines()) <= 2
    assert "Traceback" not in err


def test_an_interrupt_is_130(said, monkeypatch):
    def interrupted(given):
        raise KeyboardInterrupt

    monkeypatch.setattr(predict_cli, "_main", interrupted)
    assert said(*N150)[0] == 130


def test_help_has_a_line_per_option_and_examples(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for option in ("--prefill", "--what-if", "--target", "--max-context", "--plot", "--json", "--config-dir"):
        assert re.search(rf"^  {option}\b.*  \S", out, re.M), option
    assert out.count("python scripts/predict.py ") >= 5


def test_a_picture_is_self_contained_svg_for_light_and_dark_pages(said, tmp_path):
    target = tmp_path / "roof.svg"
    code, out, _ = said(*N150, "--plot", str(target))
    assert code == 0
    assert "picture: " in out
    assert [path.name for path in tmp_path.iterdir()] == ["roof.svg"]
    text = target.read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    words = " ".join(node.text for node in root.iter(f"{SVG}text"))
    for expected in ("on N150, predicted", "DRAM 288 GB/s", "HiFi2 131 TFLOP/s", "wqkv, wo, ff1, ff3", "calibrated"):
        assert expected in words
    assert "prefers-color-scheme:dark" in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize(
    "overrides",
    [
        N150,
        ["device=t3k", "model=llama8b", "workload.batch=32", "workload.prompt_length=4096"],
        ["device=p150", "model=qwen3_8b", "runtime.dram_readers_per_bank=2"],
        ["device=wh_galaxy", "model=llama70b", "precision=accuracy", "workload.batch=32"],
    ],
)
def test_everything_drawn_is_on_the_page_and_no_op_is_above_its_roof(overrides):
    answer = ask(overrides)
    picture = draw(answer)
    for item in picture.items:
        if isinstance(item, (drawing.Disc, drawing.Words)):
            assert 0 <= item.x <= picture.width
            assert 0 <= item.y <= picture.height
        if isinstance(item, drawing.Box):
            assert item.x + item.width <= picture.width
    markers = [item for item in picture.items if isinstance(item, drawing.Words) and item.text.isdecimal()]
    numbers = [int(item.text) for item in markers if item.bold and item.size == 11]
    assert sorted(numbers) == sorted([*range(1, max(numbers) + 1)] * 2), "each once in the plot, once in the key"
    hw = answer.experiment.hardware
    for line in (*answer.prediction.speed.ops, *answer.prediction.speed.prefill_ops):
        op, chip = line.op, hw.spec.chip
        if op.flops and op.bytes and op.fidelity:
            peak = chip.flop_per_cycle_lofi * hw.spec.cores * chip.clock_mhz / MathFidelity(op.fidelity).phases
            by_bytes = op.flops / op.bytes * hw.dram_bandwidth / hw.spec.chips * 1e3
            assert op.flops / line.us <= min(peak, by_bytes) * 1.0001, op.name


def test_a_png_is_drawn_with_matplotlib(said, tmp_path):
    pytest.importorskip("matplotlib")
    target = tmp_path / "roof.PNG"
    assert said(*N150, "--plot", str(target))[0] == 0
    assert target.read_bytes().startswith(b"\x89PNG")
    assert target.stat().st_size > 20_000


def test_a_png_without_matplotlib_says_how_to_get_it(said, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, err = said(*N150, "--plot", str(tmp_path / "roof.png"))
    assert code == 2
    assert "pip install 'tt-transformers-v2[plot]'" in err
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_cannot_be_written_is_the_users_mistake(said, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = said(*N150, "--plot", str(tmp_path / "file" / "roof.svg"))
    assert code == 2
    assert "Choose another file for --plot" in err


def run(*arguments):
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )


@pytest.mark.parametrize("more", [[], ["--what-if", "--max-context", "--json"], ["--plot", "FILE"], ["--target", "30"]])
def test_the_command_loads_neither_torch_nor_ttnn_nor_numpy(more, tmp_path):
    more = [text.replace("FILE", str(tmp_path / "roof.svg")) for text in more]
    code = (
        "import sys; from tt_transformers_v2.commands.predict import main; code = main(sys.argv[1:]); "
        "print(code, [m for m in ('torch', 'ttnn', 'numpy', 'pandas', 'matplotlib') if m in sys.modules])"
    )
    done = run("-c", code, *N150, *more)
    assert done.stdout.strip().endswith("0 []"), done.stdout[-500:] + done.stderr


def test_the_script_is_quick_and_a_reader_may_stop_reading():
    started = time.perf_counter()
    done = run("scripts/predict.py", *N150)
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - started < 5, "about 0.4 s on an idle machine"
    command = f"{shlex.quote(sys.executable)} scripts/predict.py {' '.join(N150)} --json | head -c 1"
    stopped = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert stopped.stdout == "{"
    assert stopped.stderr == ""


def test_a_search_takes_about_a_second(said):
    said("model=llama1b", "--target", "1")  # reads every file once
    spent = []
    for _ in range(2):  # the quicker one: beside other work a second of computing is two or three
        started = time.process_time()
        said("model=llama70b", "--target", "300")
        spent.append(time.process_time() - started)
    assert min(spent) < 5


STEPS = tour.steps("docs/predict.md", "docs/predictions.md")


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_the_documented_commands_work_and_print_what_the_page_says(said, step, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    _, _, *words = shlex.split(step.command)
    arguments = [str(ROOT / word) if word.startswith("tests/data/") else word for word in words]
    if any(text.endswith(".png") for text in arguments):
        pytest.importorskip("matplotlib")
    code, out, err = said(*arguments)
    fits = "device=n150 model=llama70b" not in step.command
    assert code == (0 if fits else 1), err
    assert bool(out) == fits
    tour.assert_prints(step, out + err)


def test_the_documented_commands_are_found():
    assert len(STEPS) >= 8
