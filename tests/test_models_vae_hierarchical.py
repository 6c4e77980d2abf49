"""Haar bands invert exactly, compact latents keep the coarse picture, and bands encode as the whole does."""

from typing import Any

import numpy as np
import pytest
import torch
from allocations import Allocations
from hypothesis import given, settings
from hypothesis import strategies as st
from small_vae import RELEASED_ENCODERS, SMALL_ENCODERS, small_vae
from torch import Tensor

from ltx_ray.errors import ConfigError, UserError
from ltx_ray.models.autoencoders.band_encoding import encode_in_bands, plan_bands
from ltx_ray.models.autoencoders.encoder_layers import Reach, encoder_bytes_per_cell, encoder_reach
from ltx_ray.models.autoencoders.vae_hierarchical import HierarchicalVAEEncoder
from ltx_ray.models.checkpoint import resolve
from ltx_ray.models.conditioning import encode_image, encode_video
from ltx_ray.planning.geometry import Ratios

ENCODERS = {**SMALL_ENCODERS, "tiny": {}}


def _encoding_vae(name: str, **changes: Any) -> Any:
    if name == "tiny":
        return resolve("tiny").load_vae(torch.float32, "cpu")
    return small_vae("0.9.0", **SMALL_ENCODERS[name], **changes)


def _noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def _film(frames: int, height: int, width: int) -> Tensor:
    """A disc that moves over waves, ``[1, 3, frames, height, width]`` in [-1, 1]."""
    t, y, x = (torch.arange(n) for n in (frames, height, width))
    t, y, x = t.view(-1, 1, 1) / 24, y.view(1, -1, 1) / 128, x.view(1, 1, -1) / 128
    waves = [torch.sin(3 * x + phase + 2 * t) * torch.cos(2 * y - phase) for phase in (0.0, 1.0, 2.0)]
    disc = torch.sigmoid(40 * (0.1 - (x - 0.5 - t) ** 2 - (y - 0.5) ** 2))
    return torch.stack([0.6 * wave * (1 - disc) + 0.8 * disc for wave in waves])[None]


@pytest.mark.parametrize("wavelet", [True, False])
@pytest.mark.parametrize("levels", [1, 2, 5])
def test_bands_give_the_pixels_back_and_wavelets_keep_their_energy(levels: int, wavelet: bool) -> None:
    encoder = HierarchicalVAEEncoder(compression_levels=levels, use_wavelet=wavelet)
    pixels = _noise(2, 3, 5, 64, 96)
    bands = encoder.decompose(pixels)
    assert bands.low.shape == (2, 3, 5, 64 >> levels, 96 >> levels)
    assert [band.shape[-3:] for band in bands.high] == [
        (3, 64 >> level, 96 >> level) for level in range(levels, 0, -1)
    ]
    assert (encoder.reconstruct(bands) - pixels).abs().max() < 2e-6
    energy = sum(float(band.double().square().sum()) for band in (bands.low, *bands.high))
    assert energy == pytest.approx(float(pixels.double().square().sum()), rel=1e-6)


def test_the_low_band_is_the_mean_of_squares_and_without_wavelets_their_first_pixel() -> None:
    pixels = _noise(1, 3, 1, 32, 32)
    low = HierarchicalVAEEncoder(compression_levels=2).decompose(pixels).low
    means = torch.nn.functional.avg_pool2d(pixels[:, :, 0], 4)[:, :, None]
    assert torch.allclose(low, 4 * means, atol=1e-5)
    plain = HierarchicalVAEEncoder(compression_levels=2, use_wavelet=False).decompose(pixels).low
    assert torch.equal(plain, pixels[..., ::4, ::4])


@pytest.mark.parametrize("wavelet", [True, False])
def test_all_coefficients_give_the_video_back(wavelet: bool) -> None:
    encoder = HierarchicalVAEEncoder(latent_channels=3 * 32 * 32 * 8, use_wavelet=wavelet)
    pixels = _noise(2, 3, 17, 32, 64)
    assert (encoder.decode(encoder(pixels)) - pixels).abs().max() < 1e-5


def test_compact_latents_stand_on_the_vaes_grid_and_group_frames_as_it_does() -> None:
    encoder = HierarchicalVAEEncoder()
    pixels = _noise(2, 3, 17, 64, 96)
    latents = encoder(pixels)
    assert latents.shape == (2, 128, 3, 2, 3)
    # Frame 0 alone, then frames 1 to 8, then 9 to 16; a cell sees its own 32 x 32 pixels.
    for frame, latent in ((0, 0), (1, 1), (8, 1), (9, 2), (16, 2)):
        changed = pixels.clone()
        changed[:, :, frame, 40, 70] += 1
        moved = (encoder(changed) - latents).abs().amax(dim=(0, 1)) > 1e-7
        assert moved.nonzero().tolist() == [[latent, 1, 2]]


def test_the_first_three_channels_are_the_mean_colours_of_a_cell() -> None:
    pixels = _noise(1, 3, 9, 32, 64)
    for wavelet in (True, False):
        latents = HierarchicalVAEEncoder(use_wavelet=wavelet)(torch.full_like(pixels, 0.25))
        assert torch.allclose(latents[:, :3], torch.tensor(0.25))
        assert latents[:, 3:].abs().max() < 1e-6
    latents = HierarchicalVAEEncoder()(pixels)
    means = torch.nn.functional.avg_pool3d(pixels[:, :, 1:], (8, 32, 32))
    assert torch.allclose(latents[:, :3, 1:], means, atol=1e-6)


def test_more_channels_keep_more_of_a_video_and_128_keep_its_shapes() -> None:
    film = _film(17, 96, 128)
    errors = []
    for channels in (3, 12, 66, 128, 1024):
        encoder = HierarchicalVAEEncoder(latent_channels=channels)
        preview = encoder.decode(encoder(film))
        assert preview.shape == film.shape
        errors.append(float((preview - film).square().mean().sqrt() / film.std()))
    assert errors == sorted(errors, reverse=True)
    assert errors[3] < 0.2 < errors[0]
    assert errors[4] < 0.08


def test_it_is_deterministic_and_adds_nothing_to_a_checkpoint() -> None:
    one, other = HierarchicalVAEEncoder(), HierarchicalVAEEncoder()
    assert one.state_dict() == {}
    assert list(one.parameters()) == list(one.buffers()) == []
    pixels = _noise(1, 3, 9, 32, 32)
    assert torch.equal(one(pixels), other(pixels))
    assert one(pixels.double()).dtype == torch.float64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": 0}, "in_channels must be at least 1, got 0"),
        ({"latent_channels": 0}, "latent_channels must be 1 to 24576, the values of one cell, got 0"),
        ({"in_channels": 1, "latent_channels": 8193}, "latent_channels must be 1 to 8192"),
        ({"compression_levels": 0}, "compression_levels must be 1 to 5, got 0"),
        ({"compression_levels": 6}, "compression_levels must be 1 to 5, got 6"),
    ],
)
def test_impossible_arguments_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        HierarchicalVAEEncoder(**options)


def test_pixels_and_latents_off_the_grid_are_refused() -> None:
    encoder = HierarchicalVAEEncoder()
    for shape, message in (
        ((1, 4, 9, 32, 32), r"pixels must be \[B, 3, F, H, W\], got \[1, 4, 9, 32, 32\]"),
        ((3, 9, 32, 32), r"pixels must be \[B, 3, F, H, W\]"),
        ((1, 3, 8, 32, 32), r"frames must be 8k \+ 1, got 8"),
        ((1, 3, 9, 40, 32), "multiples of 32, got 40 and 32"),
    ):
        with pytest.raises(UserError, match=message):
            encoder(torch.zeros(shape))
    with pytest.raises(
        UserError, match=r"compact latents must be \[B, 128, T, h, w\], got \[1, 64, 1, 1, 1\]"
    ):
        encoder.decode(torch.zeros(1, 64, 1, 1, 1))
    with pytest.raises(UserError, match=r"multiples of 4 for 2 levels, got \(6, 8\)"):
        encoder.decompose(torch.zeros(1, 3, 1, 6, 8))


# From here on: encoding with a VAE's own encoder.


@pytest.mark.parametrize(("version", "space", "before"), [("0.9.0", 23, 46), ("0.9.5", 16, 29)])
def test_the_reach_of_the_released_encoders(version: str, space: int, before: int) -> None:
    config = small_vae("0.9.0", **SMALL_ENCODERS[version]).config
    assert encoder_reach({**config, **RELEASED_ENCODERS[version]}) == Reach(space, before, 0)


def _touched(vae: Any, axis: int, latents: int) -> tuple[int, int, int]:
    """(middle latent, first and last pixel or frame that it depends on) along ``axis``."""
    shape = [1, 3, 1, 32, 32]
    shape[axis] = 8 * latents - 7 if axis == 2 else 32 * latents
    pixels = _noise(*shape).double().requires_grad_(True)
    middle = latents // 2
    vae.encode(pixels).latent_dist.mode().select(axis, middle).square().sum().backward()
    assert pixels.grad is not None
    touched = pixels.grad.abs().movedim(axis, 0).flatten(1).sum(1).nonzero().flatten()
    return middle, int(touched.min()), int(touched.max())


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("version", SMALL_ENCODERS)
def test_gradients_reach_exactly_as_far_as_computed(version: str, causal: bool) -> None:
    vae = _encoding_vae(version, encoder_causal=causal).double()
    reach = encoder_reach(vae.config)
    middle, first, last = _touched(vae, axis=4, latents=2 * reach.space + 3)
    assert max(middle - first // 32, last // 32 - middle) == reach.space
    middle, first, last = _touched(vae, axis=2, latents=2 * reach.before + 3)
    # A block's first latent is one frame, the last of its eight.
    assert middle - first // 8 == reach.before
    assert max(-(-last // 8) - middle, 0) == reach.after == (0 if causal else reach.after)


def _peak_per_cell(vae: Any, device: str, frames: int, cells: int) -> float:
    pixels = torch.zeros(1, 3, frames, 32 * cells, 32 * cells, device=device, dtype=vae.dtype)
    with torch.inference_mode(), Allocations() as allocations:
        vae.encode(pixels)
    return allocations.peak / ((frames + 7) // 8 * cells**2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("version", RELEASED_ENCODERS)
def test_estimates_of_an_encoders_memory_hold(version: str, dtype: torch.dtype) -> None:
    with torch.device("meta"):  # allocates and computes nothing, but has every tensor's true size
        vae = small_vae("0.9.0", **RELEASED_ENCODERS[version], latent_channels=128).to(dtype)
    for frames, tolerance in ((1, 0.01), (121, 0.08)):
        estimate = encoder_bytes_per_cell(vae.config, dtype.itemsize, one_frame=frames == 1)
        measured = _peak_per_cell(vae, "meta", frames, cells=12)
        assert measured <= estimate * 1.001
        assert estimate == pytest.approx(measured, rel=tolerance)


@pytest.mark.parametrize("name", ENCODERS)
def test_an_image_in_bands_is_encoded_as_the_whole_within_its_budget(name: str) -> None:
    vae = _encoding_vae(name)
    space = encoder_reach(vae.config).space
    cells = 4 * space + 2
    pixels = _noise(2, 3, 1, 32 * cells, 96).clamp(-1, 1)
    with torch.no_grad():
        whole = torch.cat([vae.encode(sample).latent_dist.mode() for sample in pixels.split(1)])
    per_cell = encoder_bytes_per_cell(vae.config, 4, one_frame=True)
    assert torch.equal(encode_in_bands(vae, pixels, memory_budget=cells * 3 * per_cell), whole)
    budget = (3 * space + 2) * 3 * per_cell
    with Allocations() as allocations:
        banded = encode_in_bands(vae, pixels, memory_budget=budget)
    assert allocations.peak < budget + 2 * pixels.nbytes
    assert (banded - whole).abs().max() < 1e-4 * whole.std()


@pytest.mark.parametrize("name", ENCODERS)
def test_a_video_in_blocks_of_rows_columns_and_time_is_encoded_as_the_whole(name: str) -> None:
    vae = _encoding_vae(name)
    reach = encoder_reach(vae.config)
    latents = reach.before + 6
    pixels = _noise(1, 3, 8 * latents - 7, 64, 64).clamp(-1, 1)
    with torch.no_grad():
        whole = vae.encode(pixels).latent_dist.mode()
    per_cell = encoder_bytes_per_cell(vae.config, 4)
    blocks = encode_in_bands(vae, pixels, (latents - 1) * 4 * per_cell, context=reach.before)
    assert (blocks - whole).abs().max() < 1e-4 * whole.std()
    # Less context, more error.
    errors = []
    for context in (1, 3, 6):
        blocks = encode_in_bands(vae, pixels, (latents // 2 + 7) * 4 * per_cell, context=context)
        errors.append(float((blocks - whole).square().mean()))
    assert errors[0] > errors[1] > errors[2]


@settings(deadline=None, max_examples=60)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 70), st.integers(1, 120)),
    reach=st.builds(Reach, st.integers(1, 23), st.integers(1, 46), st.sampled_from([0, 3])),
    budget=st.integers(12_000, 200_000),
)
def test_blocks_fill_the_latents_once_and_keep_within_the_budget(
    size: tuple[int, int, int], reach: Reach, budget: int
) -> None:
    slabs = plan_bands(size, reach, Ratios(), 1, budget)
    filled = np.zeros(size, int)
    for slab in slabs:
        t = -(-slab.t.out_start // 8), -(-(slab.t.out_stop - 1) // 8) + 1
        for tile in slab.tiles:
            y, x = tile.y, tile.x
            axes = (slab.t, y, x)
            assert np.prod([axis.in_stop - axis.in_start for axis in axes]) <= budget
            rows, columns = (slice(axis.out_start // 32, axis.out_stop // 32) for axis in (y, x))
            filled[slice(*t), rows, columns] += 1
    assert (filled == 1).all()


def test_encode_of_the_hierarchical_encoder_gives_the_vaes_latents() -> None:
    vae = _encoding_vae("0.9.5")
    pixels = _noise(1, 3, 9, 64, 64).clamp(-1, 1)
    with torch.no_grad():
        wanted = vae.encode(pixels).latent_dist.mode()
    assert torch.equal(HierarchicalVAEEncoder().encode(vae, pixels), wanted)


def test_a_video_is_encoded_as_its_pixels_and_an_image_as_a_video_of_one_frame() -> None:
    vae = _encoding_vae("tiny")
    frames = np.random.default_rng(0).integers(0, 256, (9, 64, 96, 3), dtype=np.uint8)
    latents = encode_video(vae, frames)
    assert latents.shape == (1, 48, 2, 2, 3)
    assert torch.equal(encode_image(vae, frames[0]), encode_video(vae, frames[:1]))
    assert torch.allclose(latents[:, :, :1], encode_image(vae, frames[0]), atol=1e-5)
    per_cell = encoder_bytes_per_cell(vae.config, 4, one_frame=True)
    large = np.random.default_rng(0).integers(0, 256, (32 * 30, 64, 3), dtype=np.uint8)
    banded = encode_image(vae, large, memory_budget=50 * per_cell)
    assert (banded - encode_image(vae, large)).abs().max() < 1e-4


def test_what_cannot_be_encoded_says_what_to_do() -> None:
    vae = _encoding_vae("0.9.0")
    with pytest.raises(UserError, match=r"8k \+ 1 frames .* multiples of 32, got 8 frames of 64 x 40"):
        encode_in_bands(vae, torch.zeros(1, 3, 8, 64, 40))
    with pytest.raises(UserError, match=r"pixels must be \[B, 3, F, H, W\], got \[3, 8, 64, 40\]"):
        encode_in_bands(vae, torch.zeros(3, 8, 64, 40))
    for context, cells in ((None, 8), (3, 3)):
        with pytest.raises(ConfigError, match=rf"with {cells} cells of context, .* got 1024 bytes: raise it"):
            encode_in_bands(vae, torch.zeros(1, 3, 1, 64, 64), memory_budget=1024, context=context)
