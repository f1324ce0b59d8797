# SPDX-License-Identifier: Apache-2.0
"""5,000 damaged inputs: command lines, YAML, JSON, headers of GGUF and safetensors. Minutes long: pytest -m slow.

Each is either taken or refused with a ConfigError (on the command line exit code 0 or 2 and no traceback), within
seconds, and nothing is written but in the folder of the run.
"""

import json
import random
import shutil
import signal

import pytest

from places import ROOT
from tt_transformers_v2.commands import run as cli
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.conf_folders import add_conf_dir, in_own_context
from tt_transformers_v2.config.exchange import read_decoder_json
from tt_transformers_v2.config.hydra_settings import check_own_files
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import resolve_or_refuse
from tt_transformers_v2.models.gguf_weights import read_gguf
from tt_transformers_v2.models.open_model import open_weights, read_spec
from tt_transformers_v2.report.loading import read_sweep

pytestmark = pytest.mark.slow

LONGEST_S = 20
WORDS = [
    "precision.mlp_weights=BFP8",
    "compute.mlp.math_fidelity=LoFi",
    "workload.batch=3",
    "model.hidden_dim=64",
    "layers=[]",
    "layers=[{select:0}]",
    "device=t3k",
    "model=llama1b",
    "precision=custom",
    "tuning=x",
    "experiment=kv_cache_formats",
    "seed=-1",
    "runtime.programs={ff2:{in0_block_w:3}}",
    "model.path=/dev/null",
    "workload.text_file=/proc/self",
    "hydra.verbose=true",
    "hydra/callbacks=x",
    "parallelism.tensor_parallel_size=0",
    "calibration={}",
    "cache.reference_gib=nan",
]
ODD = [
    "",
    "\x00",
    "${",
    "${oc.env:HOME}",
    "[",
    "{a",
    "'",
    '"',
    "=",
    ",",
    "~",
    "+",
    "1e400",
    "-0",
    "é",
    "\u202e",
    "../" * 9,
]


class TooLong(Exception):
    pass


@pytest.fixture(autouse=True)
def no_input_hangs():
    def expire(*_):
        raise TooLong

    before = signal.signal(signal.SIGALRM, expire)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def taken_or_refused(action):
    """Whether `action` took its input; a ConfigError is a refusal, anything else fails the test."""
    signal.alarm(LONGEST_S)
    try:
        action()
        return True
    except ConfigError:
        return False
    finally:
        signal.alarm(0)


def damaged(content, chance):
    """`content` with a few bytes changed, cut, repeated or put in."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        how = chance.randrange(5)
        if how == 0 and at < len(data):
            data[at] = chance.randrange(256)
        elif how == 1:
            data[at:at] = chance.choice(ODD).encode()
        elif how == 2:
            del data[at : at + chance.randint(1, 30)]
        elif how == 3:
            data[at:at] = data[at : at + chance.randint(1, 200)]
        elif chance.random() < 0.3:
            del data[at:]
    return bytes(data)


def files_of(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


def test_700_command_lines(tmp_path, monkeypatch, capfd):
    chance, codes = random.Random(1), {}
    monkeypatch.chdir(tmp_path)
    before = files_of(ROOT / "conf") | files_of(ROOT / "outputs")
    for number in range(700):
        words = chance.sample(WORDS, chance.randint(0, 3))
        if words and chance.random() < 0.6:
            at = chance.randrange(len(words))
            words[at] = damaged(words[at].encode(), chance).decode("utf-8", "replace")
        out = f"hydra.run.dir={tmp_path / 'out' / str(number)}"
        signal.alarm(60)
        code = cli.main(["task=performance", *(w for w in words if not w.startswith("task=")), out])
        signal.alarm(0)
        codes[code] = codes.get(code, 0) + 1
        assert code in (0, 1, 2), words
        assert "Traceback" not in capfd.readouterr().err, words
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        assert list(tmp_path.iterdir()) == [], words
    assert files_of(ROOT / "conf") | files_of(ROOT / "outputs") == before
    assert {0, 2} <= codes.keys() <= {0, 2}, codes


def test_1100_configuration_files(tmp_path):
    chance = random.Random(2)
    originals = [path for path in sorted((ROOT / "conf").rglob("*.yaml")) if path.parent.name in GROUPS]
    taken = 0
    for number in range(1100):
        original = chance.choice(originals)
        folder = tmp_path / str(number)
        target = folder / original.parent.name / "mine.yaml"
        target.parent.mkdir(parents=True)
        target.write_bytes(damaged(original.read_bytes(), chance))
        taken += taken_or_refused(lambda folder=folder, group=target.parent.name: composed(folder, group))
        assert files_of(folder) == {target}
    assert 0 < taken < 1100


GROUPS = ("device", "model", "precision", "workload", "backend", "experiment")


@in_own_context
def composed(folder, group):
    add_conf_dir(folder)
    check_own_files(folder)
    checked = check_overrides([f"{group}=mine", "task=performance"])
    resolve_or_refuse(compose(checked.texts), checked.typed)


def test_1100_json_files(tmp_path):
    chance, taken = random.Random(3), 0
    folders = sorted((ROOT / "tests/data").glob("hf_*"))
    decoders = sorted((ROOT / "tests/data/tttv1").glob("*.json"))
    assert cli.main(["task=performance", "model=llama1b", f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    result = (tmp_path / "run" / "result.json").read_bytes()
    for number in range(1100):
        kind, folder = number % 3, tmp_path / str(number)
        (folder / "0").mkdir(parents=True)
        if kind == 0:
            content = damaged((chance.choice(folders) / "config.json").read_bytes(), chance)
            (folder / "config.json").write_bytes(content)
            taken += taken_or_refused(lambda folder=folder: read_spec(str(folder)))
        elif kind == 1:
            text = damaged(chance.choice(decoders).read_bytes(), chance).decode("utf-8", "replace")
            taken += taken_or_refused(lambda text=text: read_decoder_json(text, 32))
        else:
            (folder / "0" / "result.json").write_bytes(damaged(result, chance))
            taken += taken_or_refused(lambda folder=folder: read_sweep(folder))
    assert 0 < taken < 1100


def test_1050_gguf_headers(tmp_path, monkeypatch):
    """Damage falls into the header alone, of a file that is otherwise whole: a cut one would be refused for that."""
    monkeypatch.syspath_prepend(str(ROOT / "tests/models"))
    from tiny_gguf import write_gguf

    chance, taken = random.Random(4), 0
    whole = write_gguf(tmp_path / "whole.gguf")
    content, start = whole.read_bytes(), read_gguf(whole).data_start
    for number in range(1050):
        path = tmp_path / f"{number}.gguf"
        # Half of the damage among the first keys, which the long token list would otherwise crowd out.
        end = 700 if number % 2 else start
        path.write_bytes(damaged(content[:end], chance) + content[end:])
        taken += taken_or_refused(lambda path=path: first_layer(path))
        path.unlink()
    assert 0 < taken < 1050


def test_1050_safetensors_headers(tmp_path):
    chance, taken = random.Random(5), 0
    source = ROOT / "tests/data/hf_llama"
    folder = tmp_path / "model"
    shutil.copytree(source, folder)
    content = (source / "model.safetensors").read_bytes()
    length = 8 + int.from_bytes(content[:8], "little")
    json.loads(content[8:length])
    for _ in range(1050):
        header = damaged(content[:length], chance)
        (folder / "model.safetensors").write_bytes(header + content[length:])
        taken += taken_or_refused(lambda: first_layer(folder))
    assert 0 < taken < 1050


def first_layer(place):
    source, _ = open_weights(None, path=str(place))
    for name in ("wqkv", "w2"):
        source.tensor(name, 0)
