"""Tiles in parts, where memory does not suffice: every pixel once, and nearly the same."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLLTXVideo
from hypothesis import given
from hypothesis import strategies as st
from planned import settings_of, shot_of
from runs import manifest_rows, render_here, write_manifest

from actors.tile_decoder import decode_settings
from actors.work import Failure
from ltx_ray.config import RenderConfig
from ltx_ray.decoding.smaller import decode_in_parts, halves
from ltx_ray.decoding.tile import decode_tile
from ltx_ray.evaluation.tiles import psnr
from ltx_ray.media.probe import probe_video
from ltx_ray.models.checkpoint import resolve
from ltx_ray.planning.plan import plan_shot
from ltx_ray.run import RunSpec
from ltx_ray.types import Tile

SPACE = 32
ROW = {"id": "a", "prompt": "a red circle moving right", "width": 192, "height": 128, "num_frames": 17}


@given(
    width=st.integers(2, 12),
    height=st.integers(2, 12),
    tile_size=st.sampled_from([96, 128, 256]),
    halo=st.integers(0, 4),
    halvings=st.integers(1, 3),
)
def test_parts_cover_each_pixel_of_a_tile_once_within_its_block(
    width: int, height: int, tile_size: int, halo: int, halvings: int
) -> None:
    plan = plan_shot(shot_of(9, width * SPACE, height * SPACE), settings_of())
    for tile in plan.slabs[0].tiles:
        seen = np.zeros((height * SPACE, width * SPACE), int)
        for part in parts_of(tile, halo, halvings):
            seen[part.y.out_start : part.y.out_stop, part.x.out_start : part.x.out_stop] += 1
            for ours, whole in ((part.y, tile.y), (part.x, tile.x)):
                assert whole.in_start <= ours.in_start < ours.in_stop <= whole.in_stop
                assert ours.crop == ours.out_start - ours.in_start * SPACE >= 0
                assert ours.out_stop <= ours.in_stop * SPACE
        inside = seen[tile.y.out_start : tile.y.out_stop, tile.x.out_start : tile.x.out_stop]
        assert (inside == 1).all()
        assert seen.sum() == inside.sum()


def parts_of(tile: Tile, halo: int, halvings: int) -> list[Tile]:
    found = halves(tile, SPACE, halo) if halvings else None
    if found is None:
        return [tile]
    return [part for half in found[0] for part in parts_of(half, halo, halvings - 1)]


def test_decoded_in_parts_it_is_nearly_the_same(tmp_path: Path) -> None:
    run = RunSpec.decide(RenderConfig(), str(tmp_path), "cpu")
    plan = plan_shot(shot_of(9, 512, 256), run.plan_settings())
    vae = resolve("tiny").load_vae(torch.float32, "cpu")
    frame, slab = plan.frame, plan.slabs[0]
    size = (1, vae.config.latent_channels, frame.latents, frame.rows, frame.columns)
    latents = 0.5 * torch.randn(size, generator=torch.Generator().manual_seed(3))
    settings = replace(decode_settings(run, plan.shot, frame), decode_noise_scale=0.0)
    with torch.inference_mode():
        whole = decode_tile(vae, latents, 0, slab, slab.tiles[0], settings)
        for halvings in (1, 2, 3):
            made = decode_in_parts(vae, latents, 0, slab, slab.tiles[0], settings, halvings, halo=4)
            assert made.shape == whole.shape
            assert not torch.equal(made, whole), "it was not cut at all"
            assert psnr(made.numpy() / 2, whole.numpy() / 2) > 50
        poor = decode_in_parts(vae, latents, 0, slab, slab.tiles[0], settings, 2, halo=0)
        assert psnr(poor.numpy() / 2, whole.numpy() / 2) < 45


def test_torchs_words_for_a_full_memory_are_known() -> None:
    for size in (2**50, 2**48):
        with pytest.raises(RuntimeError) as raised:
            torch.empty(size, dtype=torch.uint8)
        assert Failure.of(raised.value).kind == "out_of_memory"


@pytest.fixture
def _small_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device whose memory holds the activations of twelve cells, as diffusers' decoder meets it."""
    whole = AutoencoderKLLTXVideo.decode

    def decode(self: Any, latents: torch.Tensor, *args: Any, **options: Any) -> Any:
        if latents.shape[-1] * latents.shape[-2] > 12:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return whole(self, latents, *args, **options)

    monkeypatch.setattr(AutoencoderKLLTXVideo, "decode", decode)


HALO = ("decoding.halo=1",)


@pytest.mark.usefixtures("_small_device")
def test_a_shot_that_does_not_fit_is_decoded_in_parts_and_its_row_says_so(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "shots.jsonl", [ROW])
    summary = render_here(manifest, tmp_path / "out", "reproducible=false", "limits.max_attempts=4", *HALO)
    assert (summary.progress.done, summary.progress.failed) == (1, 0)
    (row,) = manifest_rows(tmp_path / "out")
    assert row["adapted"]
    assert all("decode-" in text and "parts" in text for text in row["adapted"])
    assert probe_video(tmp_path / "out" / row["file_name"]).num_frames == 17


@pytest.mark.usefixtures("_small_device")
def test_by_default_it_fails_with_what_there_was_of_memory(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "shots.jsonl", [ROW])
    summary = render_here(manifest, tmp_path / "out", *HALO)
    assert summary.progress.failed == 1
    (row,) = manifest_rows(tmp_path / "out")
    assert row["error_kind"] == "out_of_memory"
    assert "CUDA out of memory" in row["error"]
    assert "GiB when its memory ran out (alone on its node)" in row["error"]
    assert row["adapted"] == []
