"""The renderer decodes with an adaptive decoder as with the stock one: a tile is never cut again."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLLTXVideo
from planned import shot_of
from small_vae import SMALL, small_vae
from torch import Tensor

from actors.tile_decoder import TileDecoder, decode_settings
from ltx_ray.config import RenderConfig
from ltx_ray.decoding.stream import SlabStream
from ltx_ray.decoding.tile import decode_tile
from ltx_ray.models.autoencoders.adaptive_vae_decoder import AdaptiveVAEDecoder, create_adaptive_decoder
from ltx_ray.payload import pack
from ltx_ray.planning.plan import plan_shot
from ltx_ray.run import RunSpec
from ltx_ray.types import Job, ShotPlan, Slab, Stage, Tile

DECODING = ("slab_frames=32", "tile_size=160", "halo=1", "ramp=32")


def decided(out: Path) -> RunSpec:
    """A run that decodes in small tiles, with noise in the latents where the decoder takes it."""
    overrides = [f"decoding.{option}" for option in (*DECODING, "decode_noise_scale=0.1")]
    return RunSpec.decide(RenderConfig.load(None, tuple(overrides)), str(out), "cpu")


def planned(run: RunSpec) -> ShotPlan:
    """A shot of several slabs, of two tiles each."""
    plan = plan_shot(shot_of(49, 256, 64), run.plan_settings())
    assert len(plan.slabs) > 1
    assert len(plan.slabs[0].tiles) > 1
    return plan


def latents_of(plan: ShotPlan) -> Tensor:
    size = plan.frame.latents, plan.frame.rows, plan.frame.columns
    return torch.randn(1, 8, *size, generator=torch.Generator().manual_seed(1))


def adaptive_vae(version: str) -> tuple[AutoencoderKLLTXVideo, AdaptiveVAEDecoder]:
    """With a decoder that by itself would cut any tile of the plan, and key its noise otherwise."""
    vae = small_vae(version)
    vae.decoder = decoder = create_adaptive_decoder(vae, memory_budget=2**23)
    decoder.enable_tiling(tile_size=96, overlap=64)
    decoder.noise_seed = 11
    return vae, decoder


def decode(vae: AutoencoderKLLTXVideo, plan: ShotPlan, slab: Slab, tile: Tile, run: RunSpec) -> Tensor:
    settings = decode_settings(run, plan.shot, plan.frame)
    with torch.inference_mode():
        return decode_tile(vae, latents_of(plan), 0, slab, tile, settings)


@pytest.mark.parametrize("version", SMALL)
def test_a_tile_is_decoded_to_the_bit_as_by_the_stock_decoder(version: str, tmp_path: Path) -> None:
    run = decided(tmp_path)
    plan, stock, (vae, decoder) = planned(run), small_vae(version), adaptive_vae(version)
    state = torch.get_rng_state()
    for slab in plan.slabs:
        for tile in slab.tiles:
            ours = decode(vae, plan, slab, tile, run)
            assert torch.equal(ours, decode(stock, plan, slab, tile, run))
            assert decoder.last_plan is not None
            assert decoder.last_plan.why == "it is a tile already"
            assert not decoder.last_plan.tiled
    assert torch.equal(torch.get_rng_state(), state)
    # Outside it goes on as it was told.
    tile = plan.slabs[0].tiles[0]
    block = latents_of(plan)[..., tile.x.in_start : tile.x.in_stop]
    assert decoder.plan(block).tiled


def test_a_failed_tile_leaves_the_decoder_free_to_cut(tmp_path: Path) -> None:
    run = decided(tmp_path)
    plan, (vae, decoder) = planned(run), adaptive_vae("0.9.0")
    vae.decoder.conv_in = torch.nn.Identity()
    with pytest.raises(RuntimeError):
        decode(vae, plan, plan.slabs[0], plan.slabs[0].tiles[0], run)
    assert decoder.plan(latents_of(plan)).tiled


@pytest.mark.parametrize("version", SMALL)
def test_the_decode_stage_makes_the_same_bytes_with_an_adaptive_decoder(version: str, tmp_path: Path) -> None:
    run = decided(tmp_path)
    plan = planned(run)
    payload = pack({"final": latents_of(plan)})
    made = []
    for vae in (small_vae(version), adaptive_vae(version)[0]):
        actor = TileDecoder(run)
        actor._vae = vae
        tasks = [task for task in plan.tasks if task.key.stage is Stage.DECODE]
        jobs = [Job(shot=plan.shot, task=task, frame=plan.frame, attempt=1, output="") for task in tasks]
        made.append([part for job in jobs for part in actor.work(job, [payload]).parts])
    stock, ours = made
    assert len(stock) == 2 * sum(len(slab.tiles) for slab in plan.slabs)
    assert all(np.array_equal(a, b) for a, b in zip(ours, stock, strict=True))
    assert all(part.std() > 1 for part in stock if part.size)


def test_a_long_video_in_one_process_has_the_same_frames_with_an_adaptive_decoder(tmp_path: Path) -> None:
    run = decided(tmp_path)
    plan = planned(run)
    settings = decode_settings(run, plan.shot, plan.frame)
    stock, ours = (
        [frame for _, frames in SlabStream(vae, plan, settings).push(latents_of(plan)) for frame in frames]
        for vae in (small_vae("0.9.1"), adaptive_vae("0.9.1")[0])
    )
    assert len(stock) == 49
    assert all(np.array_equal(a, b) for a, b in zip(ours, stock, strict=True))
