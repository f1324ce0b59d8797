# SPDX-License-Identifier: Apache-2.0
"""Attention heads: splitting and merging them, rotary embedding, the KV cache and attention itself."""

from __future__ import annotations

import math
import struct
from typing import Any

from typing_extensions import Self

from ....common.errors import ConfigError
from ....common.units import TILE
from ....hardware.op_table import DECODE, PREFILL, SDPA
from ....models.layer_spec import AttentionSpec
from ....models.spec import ModelSpec
from ....planning import plans
from ....planning.attention_chunks import chunk_refusal
from .. import conversions as to_ttnn
from .decoder_run import over_users
from .op_settings import Settings


class Heads(Settings):
    """What models.decoder.attention_block asks of its ops between the two projections."""

    def for_heads(self, spec: ModelSpec) -> Self:
        """The same: weights on the mesh are in the card's order already."""
        return self

    def split_heads(self, qkv: Any, spec: ModelSpec) -> tuple[Any, Any, Any]:
        """bfloat16 q, k and v of a chip's qkv [1, 1, rows, width]: [1, heads, tokens, head_dim] in prefill, in decode
        [1, users, heads, head_dim] with each user on a core of its own."""
        import ttnn

        heads = {"num_heads": self.run.split.q_heads(spec), "num_kv_heads": self.run.split.kv_heads(spec)}
        qkv = self._as(qkv, ttnn.bfloat16, "split_heads")  # rotary embedding takes nothing else
        if self.run.phase == DECODE:
            found = self.do(
                "split_heads",
                lambda _: ttnn.experimental.nlp_create_qkv_heads_decode(
                    qkv, **heads, memory_config=ttnn.L1_HEIGHT_SHARDED_MEMORY_CONFIG
                ),
            )
        else:
            found = self.do(
                "split_heads",
                lambda _: ttnn.experimental.nlp_create_qkv_heads(
                    qkv, **heads, transpose_k_heads=False, memory_config=self._place()
                ),
            )
        q, k, v = found
        return q, k, v

    def merge_heads(self, attended: Any) -> Any:
        """[1, 1, rows, width] of what attention gave, width being that of the chip's query heads."""
        import ttnn

        if self.run.phase == PREFILL:
            return self.do(
                "merge_heads",
                lambda _: ttnn.experimental.nlp_concat_heads(attended, memory_config=self._place()),
            )
        users, spec = self.run.rows, self.run.spec
        spread, more = self._users_to_merge()
        sharded = self.do("merge_heads shard", lambda _: ttnn.to_memory_config(attended, spread))
        merged = self.do(
            "merge_heads",
            lambda _: ttnn.experimental.nlp_concat_heads_decode(
                sharded, num_heads=self.run.split.q_heads(spec), **more
            ),
        )
        flat = self._interleaved("merge_heads", merged)
        width = flat.shape[-1]
        return ttnn.reshape(flat, [1, 1, users, width], [1, 1, math.ceil(users / TILE) * TILE, width])

    def rope(self, x: Any, cos: Any, sin: Any) -> Any:
        """x as `split_heads` gave it, rotated by the tables of the run's positions."""
        import ttnn

        x = self._by_user("rope", x)
        return self.do(
            "rope",
            lambda _: ttnn.experimental.rotary_embedding_llama(
                x,
                cos,
                sin,
                self.run.transformation,
                is_decode_mode=self.run.phase == DECODE,
                compute_kernel_config=self._fixed_kernel("rope"),
            ),
        )

    def attention(self, q: Any, k: Any, v: Any, kind: AttentionSpec, sinks: Any) -> Any:
        """Writes k and v to the layer's cache; returns causal attention over the positions so far, shaped like q.

        Raises ConfigError for a prompt in several chunks whose cache has no pages.
        """
        precision, memory = self.config.precision, self.config.memory
        keys, values = self.run.weights.cache(self.layer, precision.kv_cache, memory.kv_cache_placement)
        q, k = self._by_user("sdpa", q), self._by_user("update_cache", k)  # as they are without rotation
        attend = self._attend_one if self.run.phase == DECODE else self._attend_prompt
        return attend(q, k, v, keys, values, kind, {} if sinks is None else {"attention_sink": sinks})

    def _attend_prompt(
        self, q: Any, k: Any, v: Any, keys: Any, values: Any, kind: AttentionSpec, sinks: dict[str, Any]
    ) -> Any:
        import ttnn

        k, v = (self._as(x, cache.dtype, "kv") for x, cache in ((k, keys), (v, values)))
        for new, cache in ((k, keys), (v, values)):
            if self.run.page_table is None:
                self.do("fill_cache", lambda _, new=new, cache=cache: ttnn.fill_cache(cache, new, self.run.user))
            else:
                table = self.run.page_table if self.run.fill_table is None else self.run.fill_table
                self.do(
                    "paged_fill_cache",
                    lambda _, new=new, cache=cache, table=table: ttnn.experimental.paged_fill_cache(
                        cache, new, table, batch_idx=0, compute_kernel_config=self._fixed_kernel("fill_cache")
                    ),
                )
        if self.run.chunk_start:
            return self._attend_later_chunk(q, keys, values, kind, sinks)
        return self._attended(
            kind.window,
            ttnn.transformer.scaled_dot_product_attention,
            q,
            k,
            v,
            is_causal=True,
            scale=self._scale(kind),
            **sinks,
        )

    def _attend_later_chunk(self, q: Any, keys: Any, values: Any, kind: AttentionSpec, sinks: dict[str, Any]) -> Any:
        """Attention of a chunk of the prompt over all that the cache holds of it.

        It takes no `scale` that 32 bits do not hold exactly. Its default is head_dim ** -0.5; another one is rounded.
        """
        import ttnn

        if self.run.page_table is None:
            raise ConfigError(
                f"prompts of more than {self.run.rows} tokens need a paged KV cache.", "Set runtime.kv_page_size=32."
            )
        attend = ttnn.transformer.chunked_scaled_dot_product_attention
        own = {} if kind.scale is None else {"scale": _in_32_bits(kind.scale)}
        return self._attended(
            kind.window, attend, q, keys, values, self.run.page_table, self.run.chunk_start, **own, **sinks
        )

    def _attend_one(
        self, q: Any, k: Any, v: Any, keys: Any, values: Any, kind: AttentionSpec, sinks: dict[str, Any]
    ) -> Any:
        import ttnn

        pages = {} if self.run.page_table is None else {"page_table": self.run.page_table}
        for new, cache in ((k, keys), (v, values)):
            self.do(
                "update_cache",
                lambda _, new=new, cache=cache: ttnn.experimental.paged_update_cache(
                    cache,
                    new,
                    update_idxs_tensor=self.run.positions,
                    compute_kernel_config=self._fixed_kernel("update_cache"),
                    **pages,
                ),
            )
        attend = ttnn.transformer.scaled_dot_product_attention_decode
        table = {}
        if self.run.page_table is not None:
            attend = ttnn.transformer.paged_scaled_dot_product_attention_decode
            table = {"page_table_tensor": self.run.page_table}
        return self._attended(
            kind.window,
            attend,
            q,
            keys,
            values,
            **table,
            cur_pos_tensor=self.run.positions,
            scale=self._scale(kind),
            **sinks,
        )

    def _by_user(self, what: str, x: Any) -> Any:
        """Heads of decode with each user on a core of its own again: a norm leaves them interleaved."""
        import ttnn

        if self.run.phase != DECODE or x.is_sharded():
            return x
        place = over_users(self.run, math.ceil(self._rows(x) / TILE) * TILE, self.run.spec.head_dim)
        return self.do(f"{what} shard", lambda _: ttnn.to_memory_config(x, place))

    def _scale(self, kind: AttentionSpec) -> float:
        return kind.scale_for(self.run.spec.head_dim)

    def _attended(self, window: int | None, attend: Any, *tensors: Any, **how: Any) -> Any:
        """What ttnn's `attend` makes of `tensors` (q, keys, values), with the phase's plan, kernel and place.

        Raises ConfigError for chunks of keys with which ttnn would attend to wrong positions.
        """
        import ttnn

        run, decode = self.run, self.run.phase == DECODE
        if decode:
            tokens = self._cached_tokens(tensors[1])
            plan, _ = self.plans.attention(DECODE, run.rows, window=window, cached=tokens)
            fp32 = self.config.kernel(SDPA, DECODE).fp32_dest_acc_en
            if (refused := chunk_refusal(plan.k_chunk_size, tokens, window, fp32_dest_acc_en=fp32)) is not None:
                raise refused.error
        else:
            plan, _ = self.plans.attention(run.phase, run.rows)
        return self.do(
            SDPA.name,
            lambda tried: attend(
                *tensors,
                **how,
                sliding_window_size=window,
                program_config=to_ttnn.program_config(tried),
                compute_kernel_config=self._kernel(SDPA),
                memory_config=ttnn.L1_MEMORY_CONFIG if decode else self._place(),
            ),
            plan,
            fixed=self.plans.fixed(SDPA, run.phase, plan),
        )

    def _cached_tokens(self, keys: Any) -> int:
        """Tokens of a user that a layer's cache has room for."""
        pages = 1 if self.run.page_table is None else int(self.run.page_table.shape[-1])
        return pages * int(keys.shape[-2])

    def _users_to_merge(self) -> tuple[Any, dict[str, Any]]:
        """Where merge_heads wants its input, and what it must be told besides.

        It takes one rectangle of cores, or else wants to be told which cores it may use ("bad optional access").
        """
        import ttnn

        heads, depth = self.run.split.q_heads(self.run.spec), self.run.spec.head_dim
        height, (columns, rows) = math.ceil(heads / TILE) * TILE, self.run.grid
        if plans.rectangle(self.run.rows, self.run.grid) is not None:
            return to_ttnn.height_sharded(self.run.rows * height, depth, self.run.rows, self.run.grid), {}
        all_cores = ttnn.CoreRange(ttnn.CoreCoord(0, 0), ttnn.CoreCoord(columns - 1, rows - 1))
        return over_users(self.run, height, depth), {"sub_core_grids": ttnn.CoreRangeSet({all_cores})}


def _in_32_bits(value: float) -> float:
    """The nearest number that float32 holds."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])
