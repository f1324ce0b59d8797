# SPDX-License-Identifier: Apache-2.0
"""Experiments in folders, and several at once, the later winning: the same from Hydra and without it."""

import pytest

from tt_transformers_v2.commands import explain, predict, run
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.composition import compose_by_hydra, compose_with_origins
from tt_transformers_v2.config.conf_folders import add_conf_dir, in_own_context
from tt_transformers_v2.config.groups import groups
from tt_transformers_v2.config.overrides import check_overrides


@pytest.fixture
def own(tmp_path):
    folder = tmp_path / "own" / "experiment"
    (folder / "mine").mkdir(parents=True)
    head = "# @package _global_\n"
    (folder / "mine" / "first.yaml").write_text(f"{head}task: performance\nworkload: {{batch: 4, context: 512}}\n")
    (folder / "second.yaml").write_text(f"{head}workload: {{batch: 8}}\n")
    return tmp_path / "own"


@pytest.mark.parametrize(
    ("chosen", "batch", "context"),
    [
        ("mine/first", 4, 512),
        ("second", 8, None),
        ("[mine/first,second]", 8, 512),
        ("[second,mine/first]", 4, 512),
        ("[second]", 8, None),
    ],
)
def test_the_later_wins_in_either_composition(own, chosen, batch, context):
    @in_own_context
    def composed():
        add_conf_dir(own)
        checked = check_overrides([f"experiment={chosen}"])
        assert checked.texts == [f"experiment={chosen}"]
        return compose_with_origins(checked), compose_by_hydra(checked.hydra_texts)

    quick, slow = composed()
    for found in (quick.tree["workload"], slow.workload):
        assert (found["batch"], found.get("context")) == (batch, context)
    assert quick.origins["workload.batch"] == f"experiment/{'mine/first' if batch == 4 else 'second'}.yaml"


def test_every_command_takes_them(own, tmp_path, capsys):
    pytest.importorskip("torch")  # which a run needs, and the job with the newest Hydra has not
    asked = ["--config-dir", str(own), "experiment=[mine/first,second]", "precision=accuracy"]
    for main, more in ((predict.main, []), (explain.main, []), (run.main, [f"hydra.run.dir={tmp_path / 'out'}"])):
        assert main([*asked, *more]) == 0, capsys.readouterr().err


def test_they_are_listed_with_their_folder(own):
    @in_own_context
    def listed():
        add_conf_dir(own)
        return groups()["experiment"]

    assert {"mine/first", "second", "kv_cache_formats"} <= set(listed())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("experiment=[kv_cache_formats,nope]", "no experiment named 'nope'"),
        ("experiment=[]", "experiment takes one option"),
        ("experiment=kv_cache_formatz", "Did you mean experiment=kv_cache_formats?"),
        ("device=[n150,t3k]", "device takes one option"),
    ],
)
def test_what_is_none_is_refused(text, says):
    with pytest.raises(ConfigError, match=says.replace("[", r"\[").replace("?", r"\?")):
        check_overrides([text])
