"""Pools fit the machine: what the config says counts, the rest follows from CPUs and GPUs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.placement import place
from ltx_ray.config import PoolsConfig
from ltx_ray.types import Stage

GPU_STAGES = (Stage.CONDITION, Stage.DENOISE, Stage.DECODE)


def test_a_laptop_has_a_denoiser_and_a_decoder_for_each_core() -> None:
    placement = place(2, 0, "cpu", 1, PoolsConfig())
    assert placement.sizes[Stage.DENOISE] == placement.sizes[Stage.DECODE] == 2
    assert placement.total_cpus <= 2
    assert set(placement.gpus.values()) == {0.0}


def test_one_gpu_is_shared_by_the_stages_that_need_it() -> None:
    placement = place(16, 1, "cuda", 1, PoolsConfig())
    assert [placement.sizes[stage] for stage in GPU_STAGES] == [1, 1, 1]
    assert sum(placement.gpus.values()) == pytest.approx(1.0)


@given(st.integers(2, 64))
def test_stages_never_take_more_gpus_than_there_are(gpus: int) -> None:
    placement = place(16 * gpus, gpus, "cuda", 1, PoolsConfig())
    assert placement.gpus[Stage.DENOISE] == 1.0
    total = sum(placement.sizes[stage] * placement.gpus[stage] for stage in Stage)
    assert total <= gpus
    assert placement.sizes[Stage.DENOISE] >= gpus // 2


def test_the_config_has_the_last_word() -> None:
    config = PoolsConfig(denoisers=3, decoders=4, cpu_shares={"denoise": 2.0}, gpu_shares={"decode": 0.5})
    placement = place(2, 0, "cpu", 1, config)
    assert (placement.sizes[Stage.DENOISE], placement.sizes[Stage.DECODE]) == (3, 4)
    assert placement.cpus[Stage.DENOISE] == 2.0
    assert placement.gpus[Stage.DECODE] == 0.5


def test_threads_of_an_actor_take_the_cores_of_as_many_actors() -> None:
    placement = place(16, 0, "cpu", 4, PoolsConfig())
    assert placement.sizes[Stage.DENOISE] == 4
    assert placement.total_cpus <= 16
