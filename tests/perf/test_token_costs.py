# SPDX-License-Identifier: Apache-2.0
"""What a token costs beside the layers: each way of sampling, at the limits of its steps, and a server."""

import pytest

from tt_transformers_v2.calibrate.measured_rows import load_calibration
from tt_transformers_v2.hardware.enums import Arch, Sampling, Stack
from tt_transformers_v2.perf.token_costs import (
    sampling_ms,
    sampling_notes,
    sampling_path,
    server_ms,
    unable_to_sample,
)

WORMHOLE = load_calibration("tt_metal_2026").of(Arch.wormhole_b0)
ON_DEVICE = WORMHOLE.replace(sampling=Sampling.device, sampling_widest=None)
OF_2025 = load_calibration("tt_metal_2025").of(Arch.wormhole_b0).replace(sampling=Sampling.device)


@pytest.mark.parametrize(
    ("logits", "constant"),
    [
        (16384, "topk_16k_ms"),
        (16385, "topk_32k_ms"),
        (32768, "topk_32k_ms"),
        (32769, "topk_64k_ms"),
        (65536, "topk_64k_ms"),
    ],
)
def test_topk_costs_by_the_power_of_two_above_a_chips_logits(logits, constant):
    assert sampling_ms(ON_DEVICE, 1, logits) == getattr(WORMHOLE, constant)
    assert sampling_ms(ON_DEVICE, 8, logits * 8) == getattr(WORMHOLE, constant)


def test_wider_topk_is_proportional_in_2026_and_refused_in_2025():
    assert sampling_ms(ON_DEVICE, 1, 65537) == pytest.approx(65.537 * WORMHOLE.topk_wide_us)
    assert unable_to_sample(OF_2025, 1, 65536) == ""
    assert "at most 65536 logits" in unable_to_sample(OF_2025, 1, 65537)


def test_the_release_samples_on_the_host_where_the_device_would_have_too_many_logits():
    assert sampling_path(WORMHOLE, 1, 2 * 65536) is Sampling.device, "a single chip counts as two"
    assert sampling_path(WORMHOLE, 2, 2 * 65536) is Sampling.device
    assert sampling_path(WORMHOLE, 2, 2 * 65537) is Sampling.host


def test_the_host_reads_every_chips_logits_and_a_server_gathered_ones():
    host = WORMHOLE.replace(sampling=Sampling.host)
    one, two = (sampling_ms(host, chips, 131072) for chips in (1, 2))
    assert (one, two - one) == pytest.approx((WORMHOLE.host_sampling_ms, WORMHOLE.host_chip_ms))
    assert sampling_ms(host, 2, 65536) == pytest.approx(two / 2)
    assert sampling_ms(host.replace(stack=Stack.vllm), 2, 131072) == one


def test_only_a_server_has_a_servers_overhead():
    assert server_ms(WORMHOLE, 1) == 0
    assert server_ms(WORMHOLE.replace(stack=Stack.vllm), 1) == WORMHOLE.server_overhead_ms


def test_a_faster_way_to_sample_is_named_where_sampling_takes_most_of_a_token():
    host, greedy = "runtime.sampling=host", "runtime.sampling=device_argmax (greedy)"
    assert sampling_notes(WORMHOLE, 1, 128256, 0.9) == (
        f"90% of a token is sampling on the device; faster: {host} or {greedy}",
    )
    assert sampling_notes(WORMHOLE, 1, 128256, 0.5) == (), "no more than half"
    (eight,) = sampling_notes(WORMHOLE, 8, 128256, 0.51)
    assert greedy in eight
    assert host not in eight, "which reads the logits of eight chips"
    assert sampling_notes(WORMHOLE.replace(sampling=Sampling.device_argmax), 1, 128256, 0.9) == ()
