"""A streamed call goes on only where all that decides its videos is what it was, however that is held."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FirstBlockCacheConfig
from peft import LoraConfig
from PIL import Image
from tiny_pipelines import LONG_CALL, deaf_pipeline, offloaded

from ltx_ray.errors import ConfigError, UserError
from ltx_ray.pipelines import chunk_folder, fingerprint
from ltx_ray.pipelines.autoregressive_pipeline import create_autoregressive_pipeline
from ltx_ray.pipelines.model_hash import model_hash
from ltx_ray.pipelines.pipeline_ltx_video import LTXVideoPipeline

CALL = {**LONG_CALL, "total_frames": 9, "num_inference_steps": 1}


@pytest.fixture
def base() -> LTXVideoPipeline:
    return deaf_pipeline()


def made(base: LTXVideoPipeline, folder: Path, **changes: Any) -> Any:
    long = create_autoregressive_pipeline(base, chunk_size=33, overlap_frames=8)
    long.enable_streaming(str(folder))
    return long.generate_long_video(**{**CALL, **changes})


def refused(base: LTXVideoPipeline, folder: Path, words: str, **changes: Any) -> None:
    with pytest.raises(ConfigError, match=rf"of another call \({words}\): give"):
        made(base, folder, **changes)


def swap(weight: torch.Tensor) -> None:
    """Another weight with the same sum."""
    with torch.no_grad():
        weight.copy_(weight.flip(0))


def test_other_weights_are_another_model_whatever_their_sum(base: LTXVideoPipeline, tmp_path: Path) -> None:
    made(base, tmp_path)
    for name in ("transformer", "vae", "text_encoder"):
        weight = max(getattr(base, name).parameters(), key=torch.numel)
        swap(weight)
        refused(base, tmp_path, f"another {name.replace('_', ' ')}")
        swap(weight)
    assert made(base, tmp_path).video_paths


def test_another_tokenizer_is_another_call(base: LTXVideoPipeline, tmp_path: Path) -> None:
    made(base, tmp_path)
    # Known as one token, "tide" is no longer spelt.
    base.tokenizer.add_tokens(["tide"])
    refused(base, tmp_path, "another tokens")


def test_another_image_is_another_call_under_the_same_name_too(
    base: LTXVideoPipeline, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    path, folder = tmp_path / "first.png", tmp_path / "out"
    Image.fromarray(pixels).save(path)
    made(base, folder, image=str(path))
    for same in (path, Image.fromarray(pixels)):
        assert made(base, folder, image=same).video_paths
    refused(base, folder, "another image", image=Image.fromarray(pixels.reshape(64, 32, 3)))
    Image.fromarray(pixels[::-1]).save(path)
    refused(base, folder, "another image", image=str(path))
    refused(base, folder, "image was given, now None")


def test_another_library_encoding_or_number_of_threads_is_another_call(
    base: LTXVideoPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(base, tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        refused(base, tmp_path, r"device was {'kind': 'cpu', 'threads': 1}, now {.*'threads': 2}")
    finally:
        torch.set_num_threads(threads)
    with monkeypatch.context() as patch:
        patch.setattr(fingerprint, "__version__", "9.9")
        refused(base, tmp_path, "versions was {.*")
    with monkeypatch.context() as patch:
        patch.setattr(chunk_folder, "_ENCODING", chunk_folder.EncodingConfig(crf=30))
        refused(base, tmp_path, "encoding was {.*")


def test_a_lora_and_its_scale_and_a_feature_cache_are_another_transformer(
    base: LTXVideoPipeline, tmp_path: Path
) -> None:
    base.transformer.add_adapter(LoraConfig(r=2, target_modules=["attn1.to_q"]), adapter_name="style")
    made(base, tmp_path)
    base.transformer.set_adapters("style", 0.5)
    refused(base, tmp_path, "another transformer")
    base.transformer.set_adapters("style", 1.0)
    base.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.1))
    refused(base, tmp_path, "another transformer")
    base.transformer.disable_cache()
    assert made(base, tmp_path).video_paths


def test_an_offloaded_pipeline_goes_on_with_the_call_of_one_that_is_not(
    base: LTXVideoPipeline, tmp_path: Path
) -> None:
    made(base, tmp_path)
    moved = offloaded(deaf_pipeline())
    assert made(moved, tmp_path).video_paths
    held = moved.transformer.proj_out._hf_hook.weights_map["weight"]
    swap(held)
    refused(moved, tmp_path, "another transformer")


def test_a_generator_decides_the_seed_as_a_seed_does(base: LTXVideoPipeline, tmp_path: Path) -> None:
    def drawn(seed: int) -> Any:
        return made(base, tmp_path, seed=None, generator=torch.Generator().manual_seed(seed)).seed

    first = drawn(1)
    assert drawn(1) == first
    with pytest.raises(ConfigError, match=f"seed was {first}, now "):
        drawn(2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.int8])
def test_a_hash_is_over_the_bytes_of_every_dtype(dtype: torch.dtype) -> None:
    def model(*values: float) -> torch.nn.Module:
        one = torch.nn.Module()
        one.register_buffer("weight", torch.tensor(values).to(dtype))
        one.register_buffer("scale", torch.tensor(2.0))
        return one

    assert model_hash(model(1, 2, 3)) == model_hash(model(1, 2, 3))
    assert len({model_hash(model(*values)) for values in ((1, 2, 3), (3, 2, 1), (1, 2), (0, 0, 6))}) == 4


def test_weights_that_cannot_be_read_are_told(base: LTXVideoPipeline, tmp_path: Path) -> None:
    words = re.escape("the weights of LTXVideoTransformer3DModel must be readable")
    on_disk = deaf_pipeline()
    on_disk.transformer.enable_group_offload(
        onload_device=torch.device("cpu"),
        offload_type="block_level",
        num_blocks_per_group=1,
        offload_to_disk_path=str(tmp_path / "weights"),
    )
    base.transformer.to("meta")
    for pipeline, why in ((base, "is on the device meta"), (on_disk, "is group-offloaded to a disk")):
        with pytest.raises(UserError, match=f"{words}.*{why}"):
            made(pipeline, tmp_path / "out")
