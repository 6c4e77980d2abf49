"""Whether what shares a GPU fits it: the published models on known cards, and a run that is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planned import shot_of
from runs import command, start, write_manifest
from sparse_checkpoint import TRANSFORMERS, sparse_checkpoint

from cluster.cards import CARD_BYTES, GIB, worst_crowd
from cluster.facts import Gpu
from cluster.placement import place
from jobs.memory_check import Cards, Fit, cards_of, check_memory
from ltx_ray.config import PoolsConfig, RenderConfig
from ltx_ray.decoding.budget import decoder_bytes_per_cell
from ltx_ray.errors import PreflightError
from ltx_ray.models.checkpoint import resolve
from ltx_ray.run import RunSpec
from ltx_ray.types import Stage

HD = shot_of(num_frames=121, width=1920, height=1080)
UHD = shot_of(num_frames=121, width=3840, height=2160)
SMALL = shot_of(num_frames=121, width=768, height=512)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {size: str(sparse_checkpoint(folder / size, size)) for size in TRANSFORMERS}


def run_of(model: str, *settings: str) -> RunSpec:
    """A run of a published model on GPUs; its weights are holes, so nothing but sizes is read of them."""
    tiny = RunSpec.decide(RenderConfig.load(None, settings), "unused", "cuda")
    per_cell = decoder_bytes_per_cell(resolve(model).vae_config(), 2)
    sampling = replace(tiny.sampling, dtype="bfloat16")
    return replace(tiny, model=model, sampling=sampling, bytes_per_cell=per_cell)


def fit(run: RunSpec, card: str, count: float, *shots: Any) -> Fit:
    """How full a card becomes. Raises PreflightError."""
    cards = Cards(name=card, size=CARD_BYTES[card], count=count)
    placement = place(16 * count, count, "cuda", 1, run.config.pools)
    return check_memory(run, placement, cards, shots)


def test_what_fits_a_card_of_80_gib_and_what_24_gib_hold(models: dict[str, str]) -> None:
    for size in models:
        for count in (1, 8):
            found = fit(run_of(models[size]), "H100", count, HD)
            assert found.crowd.needed < 80 * GIB
    small = fit(run_of(models["2b"]), "L4", 1, SMALL)
    assert small.crowd.actors == {Stage.CONDITION: 1, Stage.DENOISE: 1, Stage.DECODE: 1}
    assert 15 * GIB < small.crowd.needed < 24 * GIB


def test_what_does_not_fit_is_told_with_a_setting_that_would(models: dict[str, str]) -> None:
    with pytest.raises(PreflightError) as told:
        fit(run_of(models["2b"]), "L4", 1, UHD)
    text = str(told.value)
    assert "L4 has 24.0 GiB" in text
    for part in ("condition", "denoise", "decode", "weights", "largest task", "pools.gpu_shares"):
        assert part in text
    # What it says is true: each of the settings that it names does.
    advised = text.split("--set ")[1:]
    assert advised
    for part in advised:
        setting = part[1:].partition("'")[0] if part.startswith("'") else part.partition(",")[0].split(" ")[0]
        assert fit(run_of(models["2b"], setting.strip()), "L4", 1, UHD).crowd.needed <= 24 * GIB


def test_13b_on_24_gib_fits_with_no_setting_and_says_so(models: dict[str, str]) -> None:
    with pytest.raises(PreflightError, match=r"device\.accelerator"):
        fit(run_of(models["13b"]), "L4", 1, HD)
    with pytest.raises(PreflightError, match=r"No setting makes it fit: give it GPUs with [0-9.]+ GiB"):
        fit(run_of(models["13b"]), "T4", 4, UHD)


def test_cards_are_those_that_were_seen_or_those_of_the_label() -> None:
    mixed = [Gpu(name="big", memory=80 * GIB), Gpu(name="small", memory=40 * GIB), Gpu(name="odd", memory=0)]
    assert cards_of(mixed, "H100", 3) == Cards(name="small", size=40 * GIB, count=3)
    assert cards_of([], "L40S", 2) == Cards(name="L40S", size=48 * GIB, count=2)
    assert cards_of([], "a new one", 1) is cards_of([], None, 1) is None


@given(
    st.lists(st.sampled_from([0.1, 0.2, 0.25, 0.3, 0.5, 0.6, 1.0, 2.0]), min_size=3, max_size=3),
    st.lists(st.integers(1, 50), min_size=3, max_size=3),
    st.sampled_from([1, 4]),
)
def test_the_worst_crowd_is_one_that_ray_may_make(shares: list[float], sizes: list[int], gpus: int) -> None:
    stages = (Stage.CONDITION, Stage.DENOISE, Stage.DECODE)
    config = PoolsConfig(gpu_shares={s.value: share for s, share in zip(stages, shares, strict=True)})
    placement = place(16, gpus, "cuda", 1, config)
    needs = dict(zip(stages, sizes, strict=True))
    worst = worst_crowd(needs, placement, gpus)
    taken = sum(placement.gpus[stage] * count for stage, count in worst.actors.items())
    assert taken <= 1 + 1e-6 or sum(worst.actors.values()) == 1
    assert worst.needed == sum(needs[stage] * count for stage, count in worst.actors.items())
    assert worst.needed >= max(needs.values())


def test_a_run_whose_actors_would_overfill_a_gpu_is_refused_before_anything_begins(tmp_path: Path) -> None:
    row = {"id": "large", "prompt": "x", "width": 3840, "height": 2160, "num_frames": 241}
    manifest = write_manifest(tmp_path / "shots.jsonl", [row])
    # A Ray of its own without a GPU: one is to come, of a type whose memory is known.
    sets = ("device.kind=cuda", "device.accelerator=T4", "pools.max_gpus=1")
    process = start(command(manifest, tmp_path / "out", "--address", "local", settings=sets))
    out, err = process.communicate(timeout=180)
    assert process.returncode == 4, (out, err)
    for part in ("share one GPU", "T4 has 16.0 GiB", "decode", "To do", "decoding.tile_bytes"):
        assert part in err, err
    assert not (tmp_path / "out").exists()
