# SPDX-License-Identifier: Apache-2.0
"""The model `tt_transformers_v2` of EleutherAI's lm-evaluation-harness. Imports lm_eval, which is an extra."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn

from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from ..common.errors import ConfigError
from ..config.composition import compose
from ..config.override_grammar import encoded, quoted
from ..config.overrides import check_overrides
from ..config.resolve import Experiment, resolve_or_refuse
from ..run.board_snapshot import this_device
from .evaluated_model import EvaluatedModel
from .likelihoods import Asked, Progress

# New tokens where a task names no number, as lm-eval's own models have it (HFLM.max_gen_toks).
MAX_GEN_TOKS = 256
BATCH_SIZE = 64
# Of gen_kwargs, what changes nothing in greedy decoding.
_UNREAD = ("use_cache", "top_p", "top_k", "min_p", "pad_token_id")


class HarnessModel(TemplateLM):
    """lm_eval.api.model.LM of an experiment, on the emulated backend or the reference.

    Texts begin with BOS where the model is used with it (`models.tokenizer`); an empty context is BOS, or EOS for a
    model without. `show` is told of the progress; lm-eval's own kind of bar without it. Raises ConfigError as
    `EvaluatedModel` does.
    """

    def __init__(self, experiment: Experiment, *, batch_size: int = BATCH_SIZE, show: Progress | None = None) -> None:
        super().__init__()
        self.evaluated = EvaluatedModel(experiment, batch_size)
        self._show = show

    @classmethod
    def of(cls, overrides: Sequence[str], *, batch_size: int = BATCH_SIZE) -> HarnessModel:
        """The model of an experiment as on the command line. Raises ConfigError."""
        keys = [text.partition("=")[0].strip("+~") for text in overrides]
        if "task" in keys or any(key.split(".")[0] == "evaluate" for key in keys):
            raise ConfigError("lm_eval says what is asked, not the model's arguments.", "Leave task and evaluate out.")
        checked = check_overrides([*overrides, "task=evaluate"], this_machine=this_device)
        return cls(resolve_or_refuse(compose(checked), checked.typed), batch_size=batch_size)

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: Mapping[str, Any], additional_config: Mapping[str, Any] | None = None
    ) -> HarnessModel:
        """What `lm_eval --model_args` gives: overrides by key. A mistake in them ends the program with exit code 2.

        lm_eval's own `--device` is torch's, cuda:0 where it is not given: it says nothing about ours.
        """
        others = {key: value for key, value in (additional_config or {}).items() if value is not None}
        try:
            overrides = [f"{key}={encoded(quoted(value))}" for key, value in arg_dict.items()]
            return cls.of(overrides, batch_size=_batch_size(others.get("batch_size")))
        except ConfigError as error:
            _leave(error)

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None) -> HarnessModel:
        """The same of `key=value,key=value`."""
        pairs = (text.partition("=") for text in arg_string.split(",") if text)
        return cls.create_from_arg_obj({key: value for key, _, value in pairs}, additional_config)

    @property
    def eot_token_id(self) -> int:
        """The id of EOS; of BOS where the model's files name no EOS."""
        tokenizer = self.evaluated.tokenizer
        found = tokenizer.bos if tokenizer.eos is None else tokenizer.eos
        if found is None:
            raise ConfigError(
                f"{tokenizer.basis} names neither EOS nor BOS, and a text without context needs one.",
                "Name them in tokenizer_config.json (bos_token, eos_token).",
            )
        return found

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text without context: BOS, or EOS for a model without."""
        bos = self.evaluated.tokenizer.bos
        return self.eot_token_id if bos is None else bos

    @property
    def max_length(self) -> int:
        """Tokens that the model reads at the most."""
        return self.evaluated.most_tokens

    @property
    def tokenizer_name(self) -> str:
        """Where the vocabulary came from."""
        return self.evaluated.tokenizer.basis

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Token ids; BOS first where asked for, or where the model is used with it and the text has none itself."""
        tokenizer = self.evaluated.tokenizer
        ids = tokenizer.encode(string)
        wanted = tokenizer.begins if add_special_tokens is None else add_special_tokens
        if wanted and tokenizer.bos is not None and ids[:1] != [tokenizer.bos]:
            return [tokenizer.bos, *ids]
        return ids

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """As LM.loglikelihood: of each continuation after its context, and whether greedy decoding would give it."""
        return super().loglikelihood(requests, disable_tqdm=disable_tqdm or self._show is not None)

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], disable_tqdm: bool = False, **kwargs: Any
    ) -> list[tuple[float, bool]]:
        asked = [
            Asked(tuple(context or [self.prefix_token_id]), tuple(continuation))
            for _, context, continuation in requests
        ]
        for (names, _, _), own in zip(requests, asked, strict=True):
            if not own.continuation:
                raise ConfigError(f"a continuation has no tokens: {names}.")
        with self._progress(disable_tqdm) as progress:
            found = self.evaluated.likelihoods(asked, progress)
        answers = [(own.log_likelihood, own.greedy) for own in found]
        for (names, _, _), answer in zip(requests, answers, strict=True):
            if names is not None:
                self.cache_hook.add_partial("loglikelihood", names, answer)
        return answers

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """The log likelihood (nats) of each whole text, in windows of the model's context that share no token."""
        windows = []
        for request in requests:
            ids = self.tok_encode(request.args[0], add_special_tokens=False)
            rolled = get_rolling_token_windows(ids, self.prefix_token_id, max_seq_len=self.max_length, context_len=1)
            windows.append([make_disjoint_window(own) for own in rolled])
        flat = [(None, context, continuation) for own in windows for context, continuation in own]
        answers = iter(self._loglikelihood_tokens(flat, disable_tqdm=disable_tqdm))
        sums = [sum(next(answers)[0] for _ in own) for own in windows]
        for request, total in zip(requests, sums, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return sums

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Greedy text after each context, up to a stop text of the task (which is left out), EOS or `max_gen_toks`.

        Raises ConfigError where a task wants to sample.
        """
        by_settings: dict[tuple[tuple[str, ...], int], list[int]] = {}
        for place, request in enumerate(requests):
            by_settings.setdefault(_settings(request.args[1]), []).append(place)
        found: dict[int, str] = {}
        with self._progress(disable_tqdm) as progress:
            for (until, most), places in by_settings.items():
                prompts = [tuple(self.tok_encode(requests[at].args[0]) or [self.prefix_token_id]) for at in places]
                made = self.evaluated.generate(prompts, most, partial(self._ends, until), progress)
                found |= {at: self._text(ids, until) for at, ids in zip(places, made, strict=True)}
        answers = [found[place] for place in range(len(requests))]
        for request, answer in zip(requests, answers, strict=True):
            self.cache_hook.add_partial("generate_until", request.args, answer)
        return answers

    def _ends(self, until: Sequence[str], ids: list[int]) -> bool:
        if ids[-1] == self.evaluated.tokenizer.eos:
            return True
        text = self.evaluated.tokenizer.decode(ids)
        return any(stop in text for stop in until)

    def _text(self, ids: list[int], until: Sequence[str]) -> str:
        """The text of new tokens before EOS and before the first stop text."""
        if ids[-1] == self.evaluated.tokenizer.eos:
            ids = ids[:-1]
        text = self.evaluated.tokenizer.decode(ids) if ids else ""
        return text[: min((at for stop in until if (at := text.find(stop)) >= 0), default=len(text))]

    @contextmanager
    def _progress(self, disabled: bool) -> Iterator[Progress]:
        if self._show is not None:
            yield self._show
            return
        with tqdm(disable=disabled, leave=False) as bar:

            def show(stage: str, done: int, total: int) -> None:
                bar.set_description(stage, refresh=False)
                bar.total, bar.n = total, done
                bar.refresh()

            yield show


def _settings(kwargs: Mapping[str, Any]) -> tuple[tuple[str, ...], int]:
    """The stop texts and the most new tokens of a request's gen_kwargs. Raises ConfigError for those not understood."""
    left = dict(kwargs)
    until = left.pop("until", None) or []
    most = [left.pop(name) for name in ("max_gen_toks", "max_new_tokens", "max_tokens") if name in left]
    if left.pop("do_sample", False) or float(left.pop("temperature", 0) or 0) > 0:
        raise ConfigError("this task samples; the model decodes greedily.", "Set do_sample=false and temperature=0.")
    unknown = sorted(left.keys() - set(_UNREAD))
    if unknown:
        raise ConfigError(f"gen_kwargs {', '.join(unknown)} are not understood.", "Use until and max_gen_toks.")
    stops = (until,) if isinstance(until, str) else tuple(until)
    return tuple(stop for stop in stops if stop), int(most[0]) if most else MAX_GEN_TOKS


def _batch_size(asked: Any) -> int:
    """Sequences computed together. lm_eval's own default is 1, which its models take for the smallest memory; here it
    would only be slow, and figures of the reference would differ from task=evaluate in their last digits."""
    if asked is None or str(asked) == "1" or str(asked).startswith("auto"):
        return BATCH_SIZE
    if not str(asked).isdecimal() or int(asked) < 1:
        raise ConfigError(f"batch_size must be a whole number from 1, or auto, not {asked}.")
    return int(asked)


def _leave(error: ConfigError) -> NoReturn:
    """lm_eval's command line shows tracebacks; a mistake in the model's arguments is answered as ours does."""
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(2)
