# SPDX-License-Identifier: Apache-2.0
"""The command line as a user runs it: its output, its exit code and what it leaves behind.

Whole processes, but for what only looks at these three and has one of its kind among the processes.
"""

import csv
import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from in_process import typed_here
from places import ROOT
from tt_transformers_v2.config.groups import groups

SHORT = "workload.tokens=48"


def process(*arguments, cwd=ROOT):
    environment = {key: value for key, value in os.environ.items() if key != "HYDRA_FULL_ERROR"}
    command = [sys.executable, str(ROOT / "scripts" / "run.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=300)


def run(*arguments, cwd=ROOT):
    """In this process."""
    return typed_here([str(ROOT / "scripts" / "run.py"), *arguments], cwd)


@pytest.fixture(scope="module")
def default_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    done = process(SHORT, f"hydra.run.dir={folder}", cwd=folder)
    assert done.returncode == 0, done.stderr
    return done, json.loads((folder / "result.json").read_text())


def test_default_run_measures_real_weights_on_real_text(default_run):
    done, result = default_run
    assert result["status"] == "ok"
    assert result["error"] is None
    assert result["accuracy"]["weights"] == "real"
    assert "pydoc_data.topics" in result["accuracy"]["text"]
    assert result["accuracy"]["tokens"] == 48
    assert 0 < result["accuracy"]["kl_divergence"] < 1
    assert result["performance"]["decode_tokens_per_s_per_user"] > 30
    assert result["performance"]["assumes"]["sampling"] == "device"
    assert re.search(r"\nassumes +release tt-metal main[^:]+sampling\s+device", done.stdout)
    assert "predicted" in result["performance"]["basis"]
    assert "SmolLM2-135M-Instruct" in done.stdout


def test_result_has_every_key(default_run):
    _, result = default_run
    top = "schema_version status error overrides config config_hash git environment accuracy performance seconds"
    accuracy = (
        "basis numerics text tokens top1 top5 kl_divergence pcc perplexity reference_perplexity next_token_top1 "
        "next_token_top5"
    )
    performance = "basis decode_tokens_per_s_per_user tokens_per_s ttft_ms bound memory"
    assert set(top.split()) <= set(result)
    assert set(accuracy.split()) <= set(result["accuracy"])
    assert set(performance.split()) <= set(result["performance"])
    assert result["overrides"] == [SHORT]
    assert result["config"]["device"]["device_type"] == "N150"


def test_results_go_under_the_projects_outputs_whatever_the_folder_called_from(tmp_path):
    done = process("task=performance", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.strip().split()[-1])
    assert path.is_relative_to(ROOT / "outputs" / "runs")
    assert json.loads(path.read_text())["accuracy"] is None
    assert list(tmp_path.iterdir()) == []
    for left in path.parent.rglob("*"):
        if left.is_file():
            left.unlink()


def test_multirun_makes_a_folder_per_job_and_a_table_that_tells_them_apart(tmp_path):
    small = ["model=hf", f"model.path={ROOT / 'tests/data/hf_llama'}"]
    done = run("--multirun", "compute.mlp.math_fidelity=LoFi,HiFi2", SHORT, *small, f"hydra.sweep.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    folders = sorted(path.parent.name for path in tmp_path.glob("*/result.json"))
    assert [name.rsplit("_", 1)[0] for name in folders] == ["000_LoFi", "001_HiFi2"]
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert [row["compute.mlp.math_fidelity"] for row in rows] == ["LoFi", "HiFi2"]
    assert rows[0]["kl_divergence"] != rows[1]["kl_divergence"]
    assert "results.csv" in done.stdout


def test_a_job_that_cannot_be_is_left_out_with_its_reason(tmp_path):
    done = process("--multirun", "workload.batch=1,64", "task=performance", f"hydra.sweep.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "takes at most 32 users" in done.stderr
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert [row["status"] for row in rows] == ["ok", "skipped"]
    assert "takes at most 32 users" in rows[1]["error"]


def test_hydras_own_sweeper_is_refused(tmp_path):
    done = run("--multirun", "seed=1,2", "hydra/sweeper=basic", f"hydra.sweep.dir={tmp_path / 'out'}")
    assert done.returncode == 2
    assert "hydra/sweeper must be tt_transformers" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_70b_model_without_weights_is_predicted_and_fits_a_t3k(tmp_path):
    done = run("device=t3k", "precision=accuracy", "model=llama70b", "task=performance", f"hydra.run.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["performance"]["memory"]["fits"] is True
    assert result["config"]["precision"]["ff1_ff3"] == "BFP4"
    assert "mlp-bfp4-from-70b" in done.stdout


def test_a_model_without_weights_runs_on_synthetic_ones_and_says_so(tmp_path):
    shape = {"hidden_dim": 128, "num_layers": 3, "num_heads": 4, "num_kv_heads": 2, "head_dim": 32}
    overrides = [f"model.{key}={value}" for key, value in shape.items()]
    done = run("model=llama1b", *overrides, "model.intermediate_dim=256", SHORT, f"hydra.run.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    accuracy = json.loads((tmp_path / "result.json").read_text())["accuracy"]
    assert "synthetic weights" in accuracy["basis"]
    assert accuracy["weights"] == "synthetic"
    assert accuracy["top1"] is None
    assert accuracy["perplexity"] is None
    assert len(accuracy["modules"]) == 3
    assert 0.9 < accuracy["pcc"] < 1
    assert "synthetic weights" in done.stdout


def test_reference_backend_agrees_with_itself(tmp_path):
    done = run("backend=reference", "task=accuracy", SHORT, f"hydra.run.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    accuracy = json.loads((tmp_path / "result.json").read_text())["accuracy"]
    assert (accuracy["top1"], accuracy["kl_divergence"], accuracy["numerics"]) == (1.0, 0.0, "float32")


def test_a_local_hugging_face_folder_gives_shape_and_weights(tmp_path):
    done = run("model=hf", f"model.path={ROOT / 'tests/data/hf_qwen3'}", SHORT, f"hydra.run.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert "real weights" in result["accuracy"]["basis"]
    assert result["config"]["model"]["qk_norm"] is True


def test_a_text_of_ones_own(tmp_path):
    text = tmp_path / "mine.txt"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 20, encoding="utf-8")
    asked = ["task=accuracy", "backend=reference", SHORT]
    done = run(f"workload.text_file={text}", *asked, f"hydra.run.dir={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "result.json").read_text())["accuracy"]["text"] == "mine.txt"


BAD_TEXT = ROOT / "tests/data/hf_llama/model.safetensors"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["device=n151"], "Did you mean device=n150?"),
        (["+devise=t3k"], "Did you mean device?"),
        (["compute.mpl.math_fidelity=LoFi"], "Did you mean compute.mlp?"),
        (["compute.mlp.math_fidelity=HiFi9"], "Did you mean HiFi"),
        (["precision.mlp_weight=BFP8"], "Did you mean precision.mlp_weights?"),
        (["--multirn"], "Did you mean --multirun?"),
        (["model.path=/nowhere"], "does not exist"),
        (["model=hf"], "model.path=DIR"),
        (["workload.text_file=/nowhere"], "/nowhere cannot be read"),
        ([f"workload.text_file={BAD_TEXT}"], "not UTF-8"),
        (["workload.tokens=99999999"], "Set workload.tokens="),
        (["backend=ttnn"], "Use backend=emulated"),
        (["model.package=no_such_package"], "no_such_package"),
    ],
)
def test_a_mistake_is_answered_in_a_line_or_two_without_a_traceback(arguments, hint, tmp_path):
    folder = tmp_path / "run"
    done = run(*arguments, f"hydra.run.dir={folder}")
    assert done.returncode == 2
    assert hint in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2
    assert not folder.exists()


def test_so_is_one_in_a_process_of_its_own(tmp_path):
    done = process("device=n151", f"hydra.run.dir={tmp_path / 'run'}")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Did you mean device=n150?" in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2


def test_a_broken_checkpoint_is_named(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    source = ROOT / "tests/data/hf_llama"
    (folder / "config.json").write_text((source / "config.json").read_text())
    (folder / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes()[:5000])
    done = run("model=hf", f"model.path={folder}", SHORT, f"hydra.run.dir={tmp_path / 'out'}")
    assert done.returncode == 2
    assert "model.safetensors" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    from tt_transformers_v2.hardware import ConfigError
    from tt_transformers_v2.run.result_files import write_result

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_result(tmp_path, {"status": "ok"})
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="No space left"):
        write_result(tmp_path, {"status": "changed"})
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
    assert json.loads((tmp_path / "result.json").read_text()) == {"status": "ok"}


def test_help_lists_every_option_with_a_line():
    done = run("--help")
    assert done.returncode == 0, done.stderr
    for group, options in groups().items():
        assert not options or f"\n{group}=\n" in done.stdout
        for option in options:
            about = re.search(rf"^ [* ] {option} +(\S.+)$", done.stdout, flags=re.MULTILINE)
            assert about, option
            assert not about[1].startswith("The seed"), option
    assert " * n150 " in done.stdout
    assert "python scripts/run.py device=t3k precision=accuracy model=llama70b" in done.stdout


def test_broken_files_of_ones_own_and_dollar_signs_do_not_keep_help_from_coming(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("# Costs $1 and ${nothing}.\nname: mine\n")
    (tmp_path / "model" / "broken.yaml").write_text("name: [")
    done = run("--config-dir", str(tmp_path), "--help")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^   mine +Costs \$1 and \$\{nothing\}\.$", done.stdout, flags=re.MULTILINE)
    assert re.search(r"^   broken +\S", done.stdout, flags=re.MULTILINE)


QUESTIONS_OF_PROCESSES = (["--cfg", "job", "--resolve"], ["--info"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cfg", "job", "--resolve"], "device_type: N150"),
        (["--cfg", "job", "--resolve", "device=T3000"], "device_type: T3K"),
        (["--cfg", "job", "--package", "model"], "name: SmolLM2-135M-Instruct"),
        (["--cfg", "hydra"], "TTTransformersSweeper"),
        (["--info", "defaults"], "device/n150"),
        (["--info", "defaults-tree"], "precision: performance"),
        (["--info", "searchpath"], "conf"),
        (["--info", "config", "model=llama8b"], "hidden_dim: 4096"),
        (["--info", "plugins"], "TTTransformersSweeper"),
        (["--info"], "Config search path"),
        (["--hydra-help"], "--multirun"),
        (["--version"], "tt-transformers-v2 0."),
    ],
)
def test_hydras_own_questions_are_answered_and_nothing_runs(arguments, said, tmp_path):
    done = (process if arguments in QUESTIONS_OF_PROCESSES else run)(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("run", ["--help"]),
        ("run", ["--info"]),
        ("run", ["--cfg", "job"]),
        ("explain", ["device=t3k"]),
        ("predict", ["model=llama8b"]),
        ("run", ["task=performance", "hydra.run.dir={folder}"]),
        ("run", ["--multirun", "device=n150,t3k", "task=performance", "hydra.sweep.dir={folder}"]),
    ],
)
def test_a_reader_who_has_seen_enough_ends_nothing_with_an_error(script, arguments, tmp_path):
    """As `| head -1`: the pipe is closed after the first line, or before it."""
    words = [word.format(folder=tmp_path / "out") for word in arguments]
    command = [sys.executable, str(ROOT / "scripts" / f"{script}.py"), *words]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    started.stdout.close()
    errors = started.stderr.read()
    # A sweep on a slow machine tells how far it is.
    said = [line for line in errors.splitlines() if not re.search(r" jobs done, |^\d+ jobs to run$", line)]
    assert (started.wait(timeout=120), said) == (0, [])
    if "hydra.run.dir={folder}" in arguments:
        assert json.loads((tmp_path / "out" / "result.json").read_text())["status"] == "ok"
    if "--multirun" in arguments:
        assert len((tmp_path / "out" / "results.csv").read_text().splitlines()) == 3


def test_a_prediction_loads_no_torch(tmp_path):
    code = (
        "import sys; from tt_transformers_v2.commands.run import main; "
        "code = main(['task=performance', 'hydra.run.dir=' + sys.argv[1]]); "
        "print(code, [m for m in ('torch', 'ttnn', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip().endswith("0 []"), done.stdout + done.stderr


@pytest.mark.parametrize("script", ["run", "explain", "predict", "preflight"])
def test_a_python_without_the_dependencies_is_told_what_to_do(script):
    """-S leaves out installed packages."""
    done = subprocess.run(
        [sys.executable, "-S", "-E", str(ROOT / "scripts" / f"{script}.py"), "device=n150"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert re.fullmatch(r"error: \w+ is not installed for \S+\. Run `make setup` and use .*\n", done.stderr)


def test_the_scripts_run_the_checkout_they_belong_to(tmp_path):
    """Not another one that happens to be installed."""
    for name in ("scripts", "src", "conf"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "conf" / "model" / "only_here.yaml").write_text((ROOT / "conf/model/llama1b.yaml").read_text())
    command = [sys.executable, str(tmp_path / "scripts" / "explain.py"), "model=only_here"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
