"""A run adds LoRAs and stores weights in fewer bits where it is told so, in every process that it has."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import LTXPipeline
from peft import LoraConfig, get_peft_model_state_dict
from runs import QUICK, command, finish, render_here, start, video_hashes, write_manifest

from ltx_ray.models.checkpoint import resolve

SHOT = {"id": "a", "prompt": "a red circle", "width": 64, "height": 64, "num_frames": 33, "seed": 3}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_manifest(tmp_path_factory.mktemp("weights") / "shots.jsonl", [SHOT])


@pytest.fixture(scope="module")
def plain(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("plain")
    render_here(manifest, out)
    return video_hashes(out)["a"]


def lora(path: Path) -> Path:
    """A LoRA of rank 4 on the self-attention of every layer, saved by diffusers."""
    transformer = resolve("tiny").load_transformer(torch.float32, "cpu")
    torch.manual_seed(0)
    transformer.add_adapter(LoraConfig(r=4, lora_alpha=8, target_modules=["attn1.to_q", "attn1.to_v"]))
    for name, parameter in transformer.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    LTXPipeline.save_lora_weights(path, transformer_lora_layers=get_peft_model_state_dict(transformer))
    return path / "pytorch_lora_weights.safetensors"


@pytest.mark.parametrize("mode", ["fp8", "int8"])
def test_weights_are_stored_in_fewer_bits(manifest: Path, plain: str, tmp_path: Path, mode: str) -> None:
    hashes = []
    for name in ("once", "again"):
        render_here(manifest, tmp_path / name, f"model.quantization={mode}")
        hashes.append(video_hashes(tmp_path / name)["a"])
    assert hashes[0] == hashes[1]
    assert hashes[0] != plain, "rounded weights make other bytes"


def test_a_lora_acts_as_its_weight_says_in_one_process_and_on_a_cluster(
    manifest: Path, plain: str, tmp_path: Path
) -> None:
    file = lora(tmp_path / "lora")
    full = f'model.lora=[{{path="{file}", weight=1.0}}]'
    hashes = {}
    for name, setting in (("full", full), ("alone", f"model.lora={file}")):
        render_here(manifest, tmp_path / name, setting)
        hashes[name] = video_hashes(tmp_path / name)["a"]
    render_here(manifest, tmp_path / "half", f'model.lora=[{{path="{file}", weight=0.5}}]')
    assert hashes["full"] == hashes["alone"]
    assert len({plain, hashes["full"], video_hashes(tmp_path / "half")["a"]}) == 3
    finish(start(command(manifest, tmp_path / "cluster", settings=(*QUICK, full))))
    assert video_hashes(tmp_path / "cluster")["a"] == hashes["full"]
    content = json.loads((tmp_path / "full/run.json").read_text())["content"]
    assert [weight for _, weight in content["model"]["lora"]] == [1.0]


def test_a_lora_of_another_model_stops_the_run_and_says_why(manifest: Path, tmp_path: Path) -> None:
    words = command(
        manifest,
        tmp_path / "out",
        "--address",
        "in-process",
        settings=(*QUICK, f"model.lora={resolve('tiny').path}/vae/diffusion_pytorch_model.safetensors"),
    )
    process = start(words)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "must hold weights for LTX's transformer" in told
    assert not (tmp_path / "out").exists()
