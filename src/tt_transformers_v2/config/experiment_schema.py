# SPDX-License-Identifier: Apache-2.0
"""Everything that conf/config.yaml composes, as checked dataclasses: the schema of an experiment."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from ..common.checked import Checked
from ..common.errors import ConfigError
from ..common.units import TILE
from ..hardware.enums import Named, PrecisionMode, Prefill, Sampling, Stack
from ..hardware.schema import HardwareSections
from ..planning.typed_programs import check_programs
from .evaluate_schema import EvaluateConfig
from .quantize_schema import QuantizeConfig
from .search_schema import SearchConfig
from .sweep_schema import LauncherConfig, SweepConfig


class Task(Named):
    """`both` is accuracy and performance; `evaluate` answers the tasks of EleutherAI's lm-evaluation-harness;
    `preflight` asks the real ttnn about every op, without a card; `search` looks for the fastest configuration that
    keeps the quality, `sensitivity` measures only what every single change costs; `quantize` writes weights that lose
    less in the formats they have."""

    accuracy = "accuracy"
    performance = "performance"
    both = "both"
    evaluate = "evaluate"
    preflight = "preflight"
    search = "search"
    sensitivity = "sensitivity"
    quantize = "quantize"


# Tasks that the `search` section belongs to.
SEARCHING = (Task.search, Task.sensitivity)
# Tasks that measure with `quantize.weights`.
OF_WEIGHTS = (Task.accuracy, Task.both)


class BackendName(Named):
    """Where a model is computed; conf/backend says what each is."""

    emulated = "emulated"
    reference = "reference"
    ttnn = "ttnn"


class Numerics(Named):
    """How the emulated matrix unit computes: `exact` bit for bit, `fast` with operands cut per phase and float32 sums,
    `auto` exact where the run is estimated to stay within `exact_max_seconds`."""

    auto = "auto"
    exact = "exact"
    fast = "fast"


class Part(Named):
    """Which windows of a text are evaluated: with `even` and `odd` one part can choose and the other verify."""

    all = "all"
    even = "even"
    odd = "odd"


class RuleSet(Named):
    """Which model rules of conf/rules apply, besides those by size and family."""

    tttv1 = "tttv1"
    tttv2 = "tttv2"
    none = "none"


@dataclass
class RopeScalingConfig(Checked):
    """conf/model's rope_scaling; see models.spec.RopeScaling. Without a `kind` there is none.

    Not merely optional: OmegaConf cannot set one key of a section that is null.
    """

    kind: str | None = None
    factor: float = 1.0
    original_max_context: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0

    def __post_init__(self) -> None:
        if self.kind is None and any(getattr(self, f.name) != f.default for f in dataclasses.fields(self)):
            raise ConfigError(
                "model.rope_scaling has no kind.",
                "Add model.rope_scaling.kind=linear (or llama3), or model.rope_scaling=null.",
            )


@dataclass
class ModelConfig(Checked):
    """conf/model: a shape, or a `path` to files that have one. Widths in elements, `max_context` in tokens.

    `path` is a Hugging Face folder, a .gguf file, or "hub" for the model `hf_id` in the hub's cache on this machine,
    which is downloaded only with `download`. `model_type` is a family of models.families whose layers are not of the
    Llama kind, and `config` has what that family wants beside the shape, by its names in config.json: experts,
    rope_scaling, partial_rotary_factor.
    """

    name: str
    family: str = ""
    hf_id: str = ""
    aliases: list[str] = field(default_factory=list)
    vocab_size: int | None = None
    hidden_dim: int | None = None
    num_layers: int | None = None
    num_heads: int | None = None
    num_kv_heads: int | None = None
    head_dim: int | None = None
    intermediate_dim: int | None = None
    tie_embeddings: bool = False
    qkv_bias: bool = False
    qk_norm: bool = False
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    rope_scaling: RopeScalingConfig | None = field(default_factory=RopeScalingConfig)
    max_context: int = 131072
    sliding_window: int | None = None
    model_type: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    package: str | None = None
    path: str | None = None
    download: bool = False

    def files(self) -> str | None:
        """The path of the model's files; for "hub" that in the cache. None for none. Raises ConfigError."""
        from ..models.model_place import HUB, hub_folder

        if self.path == HUB:
            return hub_folder(self.hf_id, download=self.download)
        if self.download:
            raise ConfigError("model.download=true needs model.path=hub.", "A path or a package is not downloaded.")
        return self.path


@dataclass
class BackendConfig(Checked):
    """conf/backend: which one, and how it computes; `exact_max_seconds` in seconds."""

    AT_LEAST = {"exact_max_seconds": 0}  # noqa: RUF012

    name: BackendName = BackendName.emulated
    numerics: Numerics = Numerics.auto
    exact_max_seconds: float = 120.0
    tensor_parallel: bool = True


@dataclass
class AccuracyConfig(Checked):
    """What PCC is expected, and whether modules are also measured alone; see conf/config.yaml."""

    AT_LEAST = {"module_bar": -1, "layer_bar": -1, "model_bar": -1}  # noqa: RUF012

    module_bar: float = 0.999
    layer_bar: float = 0.998
    model_bar: float = 0.99
    isolated: bool = False


@dataclass
class PreflightConfig(Checked):
    """What task=preflight leaves besides its section; see conf/config.yaml."""

    visualizer: str | None = None


@dataclass
class CacheConfig(Checked):
    """What is kept on disk between runs. Nothing that is measured depends on it."""

    AT_LEAST = {"reference_gib": 0, "weights_gib": 0}  # noqa: RUF012

    reference_gib: float = 4.0
    weights_gib: float = 4.0


@dataclass
class WorkloadConfig(Checked):
    """What is asked of the model; see conf/workload for the units."""

    AT_LEAST = {  # noqa: RUF012
        "tokens": 2,
        "window": 2,
        "prompt_length": 1,
        "batch": 1,
        "context": 1,
        "prefill_users": 1,
        "max_seconds": 1e-3,
        "prefill_tokens": 1,
        "skip": 0,
    }

    tokens: int = 512
    window: int = 512
    prefill_tokens: int | None = None
    prompt_length: int = 128
    batch: int = 1
    context: int | None = None
    prefill_users: int | None = None
    texts: list[str] = field(default_factory=lambda: ["python_topics"])
    text_file: str | None = None
    skip: int = 0
    part: Part = Part.all
    bos: bool | None = None
    max_seconds: float = 120.0

    def __post_init__(self) -> None:
        if self.prefill_tokens is not None and self.prefill_tokens > self.window:
            raise ConfigError(
                f"workload.prefill_tokens={self.prefill_tokens} is longer than workload.window={self.window}.",
                "Decode begins inside a window: choose a smaller number or a longer window.",
            )


@dataclass
class RuntimeConfig(Checked):
    """How the software runs the model; null is what the calibrated release does. `dram_readers_per_bank` is 1 or 2.

    `max_num_seqs` is the number of users that a vLLM server makes room for, whoever is there (`stack=vllm`).
    `kv_page_size` is in tokens, a multiple of 32; null keeps a plain KV cache. `programs` sets fields of ttnn's program
    configs by op group (planning.typed_programs); those groups are not fitted, all others may be (`autofit`).
    """

    AT_LEAST = {"dram_readers_per_bank": 1, "max_num_seqs": 1, "kv_page_size": TILE}  # noqa: RUF012

    sampling: Sampling | None = None
    prefill: Prefill | None = None
    stack: Stack | None = None
    max_num_seqs: int | None = None
    dram_readers_per_bank: int | None = None
    kv_page_size: int | None = 32
    autofit: bool = True
    programs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.dram_readers_per_bank is not None and self.dram_readers_per_bank > 2:
            raise ConfigError(f"runtime.dram_readers_per_bank must be 1 or 2, not {self.dram_readers_per_bank}.")
        if self.kv_page_size is not None and self.kv_page_size % TILE:
            raise ConfigError(f"runtime.kv_page_size must be a multiple of {TILE} tokens, not {self.kv_page_size}.")
        check_programs(self.programs)

    def constants(self) -> dict[str, Any]:
        """The calibration's switches that differ from its release."""
        asked = {
            "sampling": self.sampling,
            "prefill": self.prefill,
            "stack": self.stack,
            "max_num_seqs": self.max_num_seqs,
            "readers_per_bank": self.dram_readers_per_bank,
        }
        found: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
        if self.sampling is not None:
            found["sampling_widest"] = None  # what was asked for is done, however wide
        return found


@dataclass
class ExperimentConfig(HardwareSections):
    """Everything conf/config.yaml composes, typed."""

    model: ModelConfig = field(default_factory=lambda: ModelConfig("unnamed"))
    backend: BackendConfig = field(default_factory=BackendConfig)
    workload: WorkloadConfig = field(default_factory=WorkloadConfig)
    calibration: dict[str, Any] = field(default_factory=dict)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    accuracy: AccuracyConfig = field(default_factory=AccuracyConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    preflight: PreflightConfig = field(default_factory=PreflightConfig)
    mode: PrecisionMode = PrecisionMode.CUSTOM
    task: Task = Task.both
    seed: int = 0
    model_rules: RuleSet = RuleSet.tttv1
    layers: list[Any] = field(default_factory=list)
    search: SearchConfig = field(default_factory=SearchConfig)
    quantize: QuantizeConfig = field(default_factory=QuantizeConfig)
    # How many jobs run, where, and what they leave for others; what one of them is does not depend on these.
    sweep: SweepConfig = field(default_factory=SweepConfig)
    launcher: LauncherConfig = field(default_factory=LauncherConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
