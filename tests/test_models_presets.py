"""Presets: each checkpoint finds its own, and the config has the last word."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from ltx_ray.checkpoints import tiny_path
from ltx_ray.config import DecodingConfig, ModelConfig, RenderConfig, SamplingConfig
from ltx_ray.errors import ConfigError
from ltx_ray.models.checkpoint import Checkpoint, resolve
from ltx_ray.models.presets import PRESETS, find_preset, preset_of, resolve_sampling


def checkpoint(tmp_path: Path, name: str, layers: int, heads: int = 32, timed: bool = True) -> Checkpoint:
    """A checkpoint of configs only, of the sizes of the real ones."""
    for part, config in (
        ("transformer", {"num_layers": layers, "num_attention_heads": heads, "attention_head_dim": 64}),
        ("vae", {"timestep_conditioning": timed}),
    ):
        (tmp_path / part).mkdir(parents=True)
        (tmp_path / part / "config.json").write_text(json.dumps(config))
    return Checkpoint(name, tmp_path, None)


@pytest.mark.parametrize(
    ("name", "layers", "timed", "expected"),
    [
        ("Lightricks/LTX-Video", 28, False, "ltxv-2b-0.9"),
        ("diffusers/LTX-Video-0.9.0", 28, False, "ltxv-2b-0.9"),
        ("a-r-r-o-w/LTX-Video-0.9.1-diffusers", 28, True, "ltxv-2b-0.9.1"),
        ("Lightricks/LTX-Video-0.9.5", 28, True, "ltxv-2b-0.9.5"),
        ("/models/ltxv-2b-0.9.6-distilled-04-25", 28, True, "ltxv-2b-0.9.6-distilled"),
        ("/models/ltxv-2b-0.9.6-dev", 28, True, "ltxv-2b-0.9.6-dev"),
        ("/models/ltxv-2b-0.9.8-distilled", 28, True, "ltxv-2b-0.9.8-distilled"),
        ("Lightricks/LTX-Video-0.9.7-dev", 48, True, "ltxv-13b-0.9.7-dev"),
        ("Lightricks/LTX-Video-0.9.7-distilled", 48, True, "ltxv-13b-0.9.7-distilled"),
        ("Lightricks/LTX-Video-0.9.8-13B-distilled", 48, True, "ltxv-13b-0.9.8-distilled"),
        # Nothing in the name: the configs decide.
        ("/models/mine", 28, True, "ltxv-2b-0.9.6-dev"),
        ("/models/mine", 28, False, "ltxv-2b-0.9"),
        ("/models/mine", 48, True, "ltxv-13b-0.9.8-dev"),
    ],
)
def test_a_released_model_finds_its_preset(
    tmp_path: Path, name: str, layers: int, timed: bool, expected: str
) -> None:
    assert find_preset(checkpoint(tmp_path, name, layers, timed=timed)) == PRESETS[expected]


def test_plain_configs_find_the_preset_of_the_checkpoint_that_has_them(tmp_path: Path) -> None:
    for name, layers, timed in (
        ("LTX-Video", 28, False),
        ("LTX-Video-0.9.7-DISTILLED", 48, True),
        ("", 28, True),
    ):
        found = checkpoint(tmp_path / (name or "unnamed"), name, layers, timed=timed)
        assert preset_of(found.transformer_config(), found.vae_config(), name) == find_preset(found)
    assert preset_of({}, {}).name == "ltxv-2b-0.9", "diffusers' defaults"


def test_tiny_and_copies_of_it_find_the_preset_tiny(tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_path(), tmp_path / "trained-0.9.8-distilled")
    assert find_preset(resolve("tiny")) == find_preset(resolve(str(copy))) == PRESETS["tiny"]
    assert (PRESETS["tiny"].dtype, PRESETS["tiny"].rope) == ("float32", "causal")


def test_a_name_decides_and_an_unknown_one_lists_the_known() -> None:
    assert find_preset(resolve("tiny"), "ltxv-2b-0.9").name == "ltxv-2b-0.9"
    with pytest.raises(ConfigError, match=r"one of tiny, ltxv-2b-0\.9, .*got 'ltx-3'"):
        find_preset(resolve("tiny"), "ltx-3")


def test_the_vae_decides_whether_there_is_a_decode_timestep(tmp_path: Path) -> None:
    assert find_preset(resolve("tiny"), "ltxv-2b-0.9.5").decode_timestep is None
    timed = find_preset(checkpoint(tmp_path, "x", 28), "ltxv-2b-0.9")
    assert (timed.decode_timestep, timed.decode_noise_scale) == (0.05, 0.025)


def test_published_sigmas_fit_the_config_and_are_as_many_as_the_steps() -> None:
    distilled = [preset for preset in PRESETS.values() if "distilled" in preset.name]
    assert len(distilled) == 4
    for preset in distilled:
        assert preset.guidance_scale == 1
        assert preset.sigmas is not None
        SamplingConfig(sigmas=preset.sigmas)  # falling, within [0, 1]
        assert preset.sigmas[-1] == 0
        assert len(preset.sigmas) == preset.num_inference_steps + 1
    published = [1000, 993, 987, 981, 975, 909, 725, 0.03, 0]
    sigmas = PRESETS["ltxv-13b-0.9.8-distilled"].sigmas
    assert sigmas is not None
    assert [sigma * 1000 for sigma in sigmas] == pytest.approx(published)


def test_the_bytes_of_tiny_are_those_of_its_weights() -> None:
    tiny, preset = resolve("tiny"), PRESETS["tiny"]
    _, text_encoder = tiny.load_text_encoder(torch.float32, "cpu")
    for model, expected in (
        (tiny.load_transformer(torch.float32, "cpu"), preset.transformer_bytes),
        (tiny.load_vae(torch.float32, "cpu"), preset.vae_bytes),
        (text_encoder, preset.text_encoder_bytes),
    ):
        assert sum(p.numel() * p.element_size() for p in model.parameters()) == expected


def test_an_empty_config_samples_as_the_preset_says() -> None:
    preset = PRESETS["ltxv-13b-0.9.8-distilled"]
    sampling = resolve_sampling(RenderConfig(), preset)
    for field in ("num_inference_steps", "sigmas", "guidance_scale", "rope", "decode_timestep", "dtype"):
        assert getattr(sampling, field) == getattr(preset, field)
    assert sampling.decode_noise_scale == 0.025


def test_the_config_overrides_the_preset_zero_too() -> None:
    config = RenderConfig(
        model=ModelConfig(dtype="float32"),
        sampling=SamplingConfig(guidance_scale=0.0, rope="uniform"),
        decoding=DecodingConfig(decode_timestep=0.0, decode_noise_scale=0.0),
    )
    sampling = resolve_sampling(config, PRESETS["ltxv-13b-0.9.8-distilled"])
    assert (sampling.guidance_scale, sampling.rope, sampling.dtype) == (0.0, "uniform", "float32")
    assert (sampling.decode_timestep, sampling.decode_noise_scale) == (0.0, 0.0)
    assert resolve_sampling(config, PRESETS["tiny"]).decode_timestep is None


def test_steps_replace_the_presets_sigmas_and_sigmas_decide_the_steps() -> None:
    preset = PRESETS["ltxv-13b-0.9.8-distilled"]
    steps = resolve_sampling(RenderConfig(sampling=SamplingConfig(num_inference_steps=4)), preset)
    assert (steps.num_inference_steps, steps.sigmas) == (4, None)
    for sigmas, number in (((1.0, 0.5, 0.0), 2), ((1.0, 0.5), 2)):
        sampling = resolve_sampling(RenderConfig(sampling=SamplingConfig(sigmas=sigmas)), preset)
        assert (sampling.num_inference_steps, sampling.sigmas) == (number, sigmas)
