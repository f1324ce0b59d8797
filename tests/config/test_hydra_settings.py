# SPDX-License-Identifier: Apache-2.0
"""No configuration runs code: Hydra's own settings, flags and files that could are refused before Hydra sees them."""

import ast
import subprocess
import sys

import pytest

from places import ROOT
from tt_transformers_v2.commands import explain, predict, run
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.hydra_settings import check_own_files
from tt_transformers_v2.config.overrides import check_overrides


@pytest.mark.parametrize(
    "text",
    [
        "hydra.callbacks.mine._target_=os.system",
        "+hydra.callbacks.mine={_target_: os.system, command: ls}",
        "++hydra.launcher._target_=os.system",
        "hydra.sweeper._target_=os.system",
        "hydra.job_logging.handlers.file.class=os.system",
        "+hydra.job.env_set.PATH=here",
        "hydra.searchpath=[file:///tmp]",
        "hydra/callbacks=mine",
        "hydra/job_logging=colorlog",
        "hydra/launcher=joblib",
        "~hydra.job_logging",
        "hydra={run: {dir: here}}",
        "hydra.run={dir: here}",
    ],
)
def test_settings_that_hydra_would_instantiate_are_refused(text):
    with pytest.raises(ConfigError, match=r"Hydra's|hydra/launcher|takes one value"):
        check_overrides([text])


@pytest.mark.parametrize("value", ["../elsewhere", "/elsewhere", "a/../../b"])
@pytest.mark.parametrize("key", ["hydra.sweep.subdir", "hydra.output_subdir", "hydra.job.name"])
def test_folders_inside_a_run_stay_inside(key, value):
    with pytest.raises(ConfigError, match="points outside"):
        check_overrides([f"{key}={value}"])


@pytest.mark.parametrize(
    "text", ["hydra.run.dir=/tmp/here", "hydra.sweep.dir=there", "hydra.verbose=true", "hydra/sweeper=tt_transformers"]
)
def test_settings_that_place_files_pass(text):
    assert check_overrides([text]).texts == [text]


def test_a_setting_is_given_once():
    with pytest.raises(ConfigError, match="given twice"):
        check_overrides(["hydra.run.dir=a", "hydra.run.dir=b"])


@pytest.mark.parametrize(
    "content",
    [
        "# @package _global_\nhydra:\n  callbacks: {x: {_target_: os.system}}\n",
        "# @package hydra.callbacks\nx: {_target_: os.system}\n",
        '# @package _global_\n"hydra": {callbacks: {x: {_target_: os.system}}}\n',
        "defaults:\n  - override /hydra/job_logging: none\n",
        "defaults:\n  - /tuning@hydra.callbacks: other\n",
        "hydra.callbacks.x._target_: os.system\n",
    ],
)
def test_files_that_reach_for_hydras_settings_are_refused(tmp_path, content):
    (tmp_path / "tuning").mkdir()
    (tmp_path / "tuning" / "mine.yaml").write_text(content)
    with pytest.raises(ConfigError, match="changes Hydra's settings"):
        check_own_files(tmp_path)


def test_groups_of_hydras_own_are_refused(tmp_path):
    (tmp_path / "hydra" / "callbacks").mkdir(parents=True)
    (tmp_path / "hydra" / "callbacks" / "mine.yaml").write_text("_target_: os.system\n")
    with pytest.raises(ConfigError, match="option of Hydra's own groups"):
        check_own_files(tmp_path)


def test_a_file_far_too_large_for_a_configuration_is_refused_unread(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "huge.yaml").write_bytes(b"#" * (2 << 20))
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        check_own_files(tmp_path)


def test_a_broken_file_that_nobody_chose_is_no_matter_unless_it_names_hydra(tmp_path):
    (tmp_path / "tuning").mkdir()
    (tmp_path / "tuning" / "broken.yaml").write_text("precision: {mlp_weights: [\n")
    check_own_files(tmp_path)
    (tmp_path / "tuning" / "broken.yaml").write_text("hydra: {callbacks: [\n")
    with pytest.raises(ConfigError, match="not plain YAML"):
        check_own_files(tmp_path)


def test_the_folder_of_an_earlier_run_can_be_a_configuration_folder(tmp_path):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "hydra.yaml").write_text("hydra: {job: {name: run}}\n")
    (tmp_path / "tuning").mkdir()
    (tmp_path / "tuning" / "found.yaml").write_text("# @package _global_\nprecision: {mlp_weights: BFP8}\n")
    check_own_files(tmp_path)


def test_so_can_the_folder_of_an_earlier_sweep(tmp_path):
    (tmp_path / "frozen" / "0").mkdir(parents=True)
    ours = (ROOT / "conf" / "config.yaml").read_text()
    (tmp_path / "frozen" / "0" / "config.yaml").write_text(ours)
    check_own_files(tmp_path)
    (tmp_path / "frozen" / "0" / "config.yaml").write_text(ours + "  callbacks: {x: {_target_: os.system}}\n")
    with pytest.raises(ConfigError, match="changes Hydra's settings"):
        check_own_files(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--experimental-rerun", "config.pickle"], "loads a pickle"),
        (["--config-name", "other"], "replace conf/config.yaml"),
        (["--config-path", "other"], "replace conf/config.yaml"),
        (["tuning=mine", "--config-dir", "FOLDER"], "changes Hydra's settings"),
        (["tuning=mine", "--multirun", "seed=1,2", "--config-dir", "FOLDER"], "changes Hydra's settings"),
        (["seed=1,2", "--config-dir", "FOLDER", "--multirun", "tuning=mine,null"], "changes Hydra's settings"),
        (["experiment=leads_there", "--config-dir", "FOLDER"], "changes Hydra's settings"),
        (["experiment=leads_somehow", "--config-dir", "FOLDER"], "changes Hydra's settings"),
    ],
)
def test_the_command_line_refuses_with_2_and_runs_nothing(tmp_path, arguments, says):
    (tmp_path / "conf" / "tuning").mkdir(parents=True)
    (tmp_path / "conf" / "tuning" / "mine.yaml").write_text(
        f"# @package _global_\nhydra: {{callbacks: {{x: {{_target_: os.mkdir, path: {tmp_path / 'made'}}}}}}}\n"
    )
    (tmp_path / "conf" / "experiment").mkdir()
    for name, entry in (("leads_there", "/tuning@_global_: mine"), ("leads_somehow", "optional /tuning: mine")):
        text = f"# @package _global_\ndefaults:\n  - {entry}\n"
        (tmp_path / "conf" / "experiment" / f"{name}.yaml").write_text(text)
    given = [str(tmp_path / "conf") if text == "FOLDER" else text for text in arguments]
    command = [sys.executable, str(ROOT / "scripts" / "run.py"), *given]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["conf"]


@pytest.mark.parametrize("main", [run.main, predict.main, explain.main])
def test_one_file_with_a_block_of_hydras_breaks_only_what_uses_it(main, tmp_path, capsys):
    pytest.importorskip("torch")  # which a run needs, and the job with the newest Hydra has not
    (tmp_path / "tuning").mkdir()
    (tmp_path / "tuning" / "mine.yaml").write_text(
        "# @package _global_\nhydra: {sweep: {dir: x}, job: {chdir: true}}\nprecision: {ff2: BFP8}\n"
    )
    (tmp_path / "tuning" / "good.yaml").write_text("# @package _global_\nprecision: {ff2: BFP8}\n")
    asked = ["task=performance", "--config-dir", str(tmp_path)]
    asked += [f"hydra.run.dir={tmp_path / 'out'}"] if main is run.main else []
    assert main([*asked, "tuning=good"]) == 0
    assert main([*asked, "tuning=mine"]) == 2
    error = capsys.readouterr().err
    assert "mine.yaml: key hydra changes Hydra's settings. Remove hydra.job.chdir. Type hydra.sweep.dir=…" in error


# What runs code out of data. `Loader=` is how our one call of yaml.load names a safe loader.
_FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
_FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "shelve", "marshal", "cloudpickle"}
_FORBIDDEN_ATTRIBUTES = {("torch", "load"), ("yaml", "unsafe_load"), ("yaml", "full_load"), ("os", "system")}


def _offences(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in _FORBIDDEN_MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in _FORBIDDEN_MODULES:
            yield node.module
        elif isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name) and called.id in _FORBIDDEN_CALLS:
                yield called.id
            if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
                if (called.value.id, called.attr) in _FORBIDDEN_ATTRIBUTES:
                    yield f"{called.value.id}.{called.attr}"
                if called.attr == "instantiate":
                    yield "instantiate"
            if any(
                keyword.arg == "shell" and getattr(keyword.value, "value", False) is True for keyword in node.keywords
            ):
                yield "shell=True"


def test_nothing_in_the_package_unpickles_evaluates_or_calls_a_shell():
    found = {
        str(path.relative_to(ROOT)): names
        for path in sorted((ROOT / "src").rglob("*.py"))
        if (names := list(_offences(path)))
    }
    assert found == {}


def test_the_audit_sees_what_it_looks_for(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text(
        "import pickle\nimport torch, os\neval('1')\ntorch.load('x')\nos.system('x')\nrun('x', shell=True)\n"
    )
    assert sorted(_offences(bad)) == ["eval", "os.system", "pickle", "shell=True", "torch.load"]
