"""What an actor needs of a card is worked out of headers, and is what the code of the models would hold."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from allocations import Allocations
from diffusers import LTXVideoTransformer3DModel
from planned import shot_of
from sparse_checkpoint import TRANSFORMERS, sparse_checkpoint

from ltx_ray.config import RenderConfig
from ltx_ray.models.checkpoint import Checkpoint, resolve
from ltx_ray.models.memory import stage_needs
from ltx_ray.models.presets import PRESETS
from ltx_ray.models.weight_bytes import part_bytes
from ltx_ray.planning.workload import Workload, workload_of
from ltx_ray.quantization import quantize_model
from ltx_ray.run import RunSpec
from ltx_ray.types import Stage


@pytest.fixture(scope="module", params=TRANSFORMERS)
def released(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return resolve(str(sparse_checkpoint(tmp_path_factory.mktemp("model") / "it", request.param)))


def test_weights_by_their_headers_are_those_of_the_presets(released: Checkpoint) -> None:
    is_small = released.transformer_config()["num_layers"] == 28
    preset = PRESETS["ltxv-2b-0.9.5" if is_small else "ltxv-13b-0.9.7-dev"]
    assert part_bytes(released.path, "transformer", 2).weights == preset.transformer_bytes
    assert part_bytes(released.path, "vae", 2).weights == preset.vae_bytes
    assert part_bytes(released.path, "text_encoder", 2).weights == preset.text_encoder_bytes


@pytest.mark.parametrize("mode", ["none", "fp8", "int8"])
@pytest.mark.parametrize("part", ["transformer", "text_encoder"])
def test_quantized_weights_by_their_headers_are_what_quantization_leaves(part: str, mode: Any) -> None:
    tiny = resolve("tiny")
    model: Any = (
        tiny.load_transformer(torch.bfloat16, "cpu")
        if part == "transformer"
        else tiny.load_text_encoder(torch.bfloat16, "cpu")[1]
    )
    report = quantize_model(model, mode)
    parameters = sum(value.nbytes for value in model.parameters())
    scales = sum(value.nbytes for name, value in model.named_buffers() if name.endswith("scale"))
    assert report.bytes_after >= parameters
    assert part_bytes(tiny.path, part, 2, mode).weights == pytest.approx(parameters + scales, rel=0.01)


@pytest.mark.parametrize("is_held", [False, True])
@pytest.mark.parametrize("size", TRANSFORMERS)
def test_activations_of_a_chunk_are_those_that_the_transformer_would_hold(
    size: str, is_held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a GPU's attention kernels: they hold nothing but what comes out.
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda query, key, value, **_: torch.empty_like(query)
    )
    tokens = 7296  # 19 latents of 16 x 24 cells
    with torch.device("meta"):
        transformer = LTXVideoTransformer3DModel(**{**TRANSFORMERS[size], "num_layers": 2})
        transformer = transformer.to(torch.bfloat16).eval()
        inputs = {
            "hidden_states": torch.empty(1, tokens, 128, dtype=torch.bfloat16),
            "encoder_hidden_states": torch.empty(1, 128, 4096, dtype=torch.bfloat16),
            "encoder_attention_mask": torch.ones(1, 128, dtype=torch.bool),
            "timestep": torch.empty(1, tokens, 1) if is_held else torch.empty(1),
            "video_coords": torch.empty(1, 3, tokens),
        }
    with torch.inference_mode(), Allocations() as allocations:
        transformer(**inputs, return_dict=False)
    run = _run("2b")
    checkpoint = _with_width(transformer.config)
    need = stage_needs(run, checkpoint, Workload(tokens=tokens, is_held=is_held))[Stage.DENOISE]
    assert need.activations == pytest.approx(allocations.peak, rel=0.1)
    assert need.activations >= allocations.peak


def test_the_largest_tasks_of_a_manifest_are_found() -> None:
    settings = _run("2b").plan_settings()
    short = workload_of([shot_of()], settings)
    assert (short.tokens, short.is_held, short.image_cells) == (16 * 16 * 24, False, 0)
    long = workload_of([shot_of(), shot_of(num_frames=360), shot_of(width=96, height=64)], settings)
    assert (long.tokens, long.is_held) == ((14 + 3) * 16 * 24, True)
    assert long.tile_cells >= short.tile_cells
    with_image = workload_of([shot_of(image="/a.png")], settings)
    assert (with_image.tokens, with_image.is_held, with_image.image_cells) == (17 * 16 * 24, True, 16 * 24)
    assert workload_of([], settings) == Workload()
    assert workload_of([shot_of(width=97)], settings) == Workload(), "it will be rejected"


def _run(size: str, *settings: str) -> RunSpec:
    """A run of the built-in model, planned as one of the published ones on GPUs."""
    spec = RunSpec.decide(RenderConfig.load(None, settings), "unused", "cuda")
    return replace(spec, sampling=replace(spec.sampling, dtype="bfloat16"))


def _with_width(config: Any) -> Checkpoint:
    """The built-in checkpoint with another transformer's config."""

    class Wide(Checkpoint):
        def transformer_config(self) -> dict[str, Any]:
            return dict(config)

    return Wide("wide", Path(resolve("tiny").path))
