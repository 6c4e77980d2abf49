"""An adaptive decoder has the stock one's weights and no more, moved, copied, saved or loaded."""

import copy
import gc
import io
import pickle
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adapted_vae import CLIP, adapted, decode, latents_of
from diffusers import AutoencoderKLLTXVideo, LTXPipeline
from diffusers.models.autoencoders.autoencoder_kl_ltx import LTXVideoDecoder3d
from small_vae import SMALL, small_vae

from ltx_ray.checkpoints import tiny_path
from ltx_ray.models.autoencoders.adaptive_vae_decoder import create_adaptive_decoder
from ltx_ray.models.autoencoders.decode_plan import Tiling
from ltx_ray.models.autoencoders.vae_hierarchical import HierarchicalVAEEncoder


@pytest.mark.parametrize("version", SMALL)
def test_the_state_dict_is_the_stock_decoders_and_loads_both_ways(version: str) -> None:
    stock, (vae, decoder) = small_vae(version), adapted(version)
    assert list(vae.state_dict()) == list(stock.state_dict())
    assert [name for name, _ in vae.named_modules()] == [name for name, _ in stock.named_modules()]
    changed = {name: value + 1 for name, value in stock.decoder.state_dict().items()}
    assert decoder.load_state_dict(changed) == ([], [])
    assert all(torch.equal(value, changed[name]) for name, value in decoder.state_dict().items())
    assert stock.decoder.load_state_dict(decoder.state_dict()) == ([], [])


def test_a_hierarchical_encoder_with_weights_adds_nothing_to_the_checkpoint() -> None:
    vae = small_vae("0.9.0")
    decoder = create_adaptive_decoder(vae, hierarchical_encoder=torch.nn.Linear(2, 2))
    assert list(decoder.state_dict()) == list(vae.decoder.state_dict())
    assert isinstance(decoder.hierarchical_encoder, torch.nn.Linear)


def test_a_copy_a_pickle_and_a_saved_file_decode_alike_and_are_independent() -> None:
    vae, decoder = adapted("0.9.1", share=0.66)
    decoder.noise_seed = 2
    latents = latents_of(CLIP)
    wanted = decode(vae, latents)
    file = io.BytesIO()
    torch.save(decoder, file)
    file.seek(0)
    others = [
        copy.deepcopy(decoder),
        pickle.loads(pickle.dumps(decoder)),
        torch.load(file, weights_only=False),
    ]
    with torch.no_grad():
        decoder.conv_in.conv.weight.zero_()
    for other in others:
        assert other.memory_budget == decoder.memory_budget
        vae.decoder = other
        assert torch.equal(decode(vae, latents), wanted)


def test_it_moves_with_the_vae_to_another_dtype_and_plans_with_its_bytes() -> None:
    vae, decoder = adapted("0.9.5", share=0.66)
    latents = latents_of(CLIP)
    tiled = decode(vae, latents)
    assert decoder.last_plan is not None
    whole_bytes = decoder.last_plan.whole_bytes
    vae.to(torch.bfloat16)
    assert {parameter.dtype for parameter in decoder.parameters()} == {torch.bfloat16}
    with torch.inference_mode():
        halves = vae.decode(latents.bfloat16(), torch.tensor([0.05]).bfloat16(), return_dict=False)[0]
    assert halves.dtype == torch.bfloat16
    assert decoder.last_plan.whole_bytes < whole_bytes
    assert (halves.float() - tiled).square().mean().sqrt() < 0.05 * tiled.std()


def test_nothing_keeps_the_vae_alive() -> None:
    vae, decoder = adapted("0.9.0")
    gone = weakref.ref(vae)
    gc.disable()
    try:
        del vae
        assert gone() is None
    finally:
        gc.enable()
    assert decoder(latents_of((1, 1, 1))).shape == (1, 3, 1, 32, 32)


def test_an_adaptive_decoder_is_not_wrapped_again() -> None:
    vae, first = adapted("0.9.5", share=0.66)
    first.enable_tiling(256, 64)
    second = create_adaptive_decoder(vae)
    assert second is not first
    assert list(second.state_dict()) == list(first.state_dict())
    assert second.conv_in is first.conv_in
    assert (second.memory_budget, second.tiling) == (None, Tiling(tile_size=None, overlap=None))
    assert not any(isinstance(module, LTXVideoDecoder3d) for module in list(second.modules())[1:])


def test_a_pipeline_renders_alike_and_saves_a_stock_checkpoint(tmp_path: Path) -> None:
    pipeline = LTXPipeline.from_pretrained(tiny_path(), dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    request: dict[str, Any] = {
        "prompt": "a red circle",
        "height": 96,
        "width": 768,
        "num_frames": 17,
        "num_inference_steps": 2,
        "guidance_scale": 1.0,
        "output_type": "np",
    }
    stock = pipeline(**request, generator=torch.Generator().manual_seed(0)).frames
    weights = {name: value.clone() for name, value in pipeline.vae.state_dict().items()}
    decoder = create_adaptive_decoder(pipeline.vae, HierarchicalVAEEncoder())
    pipeline.vae.decoder = decoder
    decoder.enable_tiling(tile_size=512, overlap=256)
    ours = pipeline(**request, generator=torch.Generator().manual_seed(0)).frames
    assert decoder.last_plan is not None
    assert decoder.last_plan.grid == (1, 1, 2)
    assert np.abs(ours - stock).max() < 0.5 / 255

    pipeline.save_pretrained(tmp_path / "saved")
    loaded, report = AutoencoderKLLTXVideo.from_pretrained(
        tmp_path / "saved" / "vae", output_loading_info=True
    )
    assert (list(report["missing_keys"]), list(report["unexpected_keys"])) == ([], [])
    assert type(loaded.decoder) is LTXVideoDecoder3d
    assert dict(loaded.config) | {"_name_or_path": None} == dict(pipeline.vae.config) | {
        "_name_or_path": None
    }
    assert all(torch.equal(value, weights[name]) for name, value in loaded.state_dict().items())
