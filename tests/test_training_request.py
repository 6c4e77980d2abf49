"""Trainings as they are asked for: refused with reasons, gone on with, and of use to `ltx-ray render`."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import LTXVideoTransformer3DModel
from runs import render_here, wait_until, write_beeps, write_manifest

from jobs.train import Workers, train_on_ray
from ltx_ray.checkpoints import tiny_path
from ltx_ray.errors import UserError
from ltx_ray.models.checkpoint import resolve
from ltx_ray.models.transformers.audio_adapter import AudioAdapter
from ltx_ray.training.request import Size, TrainRequest, run
from ltx_ray.training.world_folder import write_world_folder

SIZES = (Size(width=64, height=64, frames=17),)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("clips")
    made.rmdir()
    write_world_folder(made, range(3), 33, 64, 64)
    return made


def request(kind: Any, data: Path | str, output: Path, **changes: Any) -> TrainRequest:
    values: dict[str, Any] = {"steps": 2, "tokens": 60, "batch": 1, "sizes": SIZES, **changes}
    return TrainRequest(kind=kind, data=str(data), output=str(output), **values)


def test_an_adapter_from_a_users_folder_drives_a_render(folder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    done = run(request("audio-adapter", folder, tmp_path / "training"), said.append)
    assert (done["steps"], done["of"]) == (2, 2)
    adapter = AudioAdapter.from_pretrained(done["audio_adapter"])
    assert (adapter.layers.start_layer, adapter.layers.end_layer) == (8, 12)
    # The checkpoint with the adapter in it is whole: its own adapter is taken where none is named.
    assert (
        resolve(done["checkpoint"]).audio_adapter(None) == f"{done['checkpoint']}/audio_adapter.safetensors"
    )
    write_beeps(tmp_path / "beeps.wav", 1.0)
    row = {"id": "a", "prompt": "a red circle", "num_frames": 9, "width": 64, "height": 64}
    manifest = write_manifest(tmp_path / "shots.jsonl", [row | {"audio": "beeps.wav"}])
    for name in (done["checkpoint"], str(tiny_path())):
        settings = (
            f"model.name={json.dumps(name)}",
            f"model.audio_adapter={json.dumps(done['audio_adapter'])}",
        )
        summary = render_here(manifest, tmp_path / Path(name).name, *settings)
        assert summary.progress.done == 1


def test_the_other_parts_become_whole_checkpoints(folder: Path, tmp_path: Path) -> None:
    for kind, part in (("transformer", "transformer"), ("vae", "vae")):
        done = run(request(kind, folder, tmp_path / kind, decoder_only=True), lambda _: None)
        made, tiny = resolve(done["checkpoint"]), resolve("tiny")
        assert made.part_hash(part) != tiny.part_hash(part)
        for other in {"text_encoder", "transformer", "vae"} - {part}:
            assert made.part_hash(other) == tiny.part_hash(other)
        assert (tmp_path / kind / "previews" / "0000002.png").exists()


def test_a_transformer_and_its_adapter_are_trained_together(folder: Path, tmp_path: Path) -> None:
    asked = request("transformer", folder, tmp_path, audio_adapter=str(tiny_path()), data_workers=1)
    done = run(asked, lambda _: None)
    made, tiny = resolve(done["checkpoint"]), resolve("tiny")
    for part in ("text_encoder", "vae"):
        assert made.part_hash(part) == tiny.part_hash(part)
    assert made.part_hash("transformer") != tiny.part_hash("transformer")
    assert type(made.load_transformer(torch.float32, "cpu")) is LTXVideoTransformer3DModel
    heard = [AudioAdapter.from_pretrained(place).state_dict() for place in (made.path, tiny.path)]
    assert any((weight != heard[1][name]).any() for name, weight in heard[0].items())


def test_a_new_adapter_has_the_layers_that_are_asked_for(folder: Path, tmp_path: Path) -> None:
    done = run(request("audio-adapter", folder, tmp_path, start_layer=2, end_layer=3), lambda _: None)
    layers = AudioAdapter.from_pretrained(done["audio_adapter"]).layers
    assert (layers.start_layer, layers.end_layer) == (2, 3)


def test_latents_are_encoded_once(folder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    run(request("transformer", folder, tmp_path, steps=1), said.append)
    run(request("transformer", folder, tmp_path, steps=2), said.append)
    assert sum(text.startswith("encoding") for text in said) == 1
    assert "going on from step 1 of 2" in said


def test_a_signal_ends_it_with_all_saved_and_the_same_command_goes_on(folder: Path, tmp_path: Path) -> None:
    words = [
        "transformer",
        "--data",
        str(folder),
        "--size",
        "64x64x17",
        "--tokens",
        "60",
        "-o",
        str(tmp_path),
    ]
    words = [sys.executable, "-m", "jobs.cli", "train", *words, "--steps", "500", "--json"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: (tmp_path / "log.csv").exists(), process)  # 25 steps are done
    process.terminate()
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 75
    done = json.loads(told)
    assert 25 <= done["steps"] < 500
    assert resolve(done["checkpoint"]).part_hash("transformer") != resolve("tiny").part_hash("transformer")
    said: list[str] = []
    run(request("transformer", folder, tmp_path, steps=done["steps"] + 1, batch=4), said.append)
    assert f"going on from step {done['steps']} of {done['steps'] + 1}" in said


def test_another_training_in_the_same_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    run(request("transformer", folder, tmp_path, steps=1), lambda _: None)
    with pytest.raises(UserError, match=r"begun otherwise \(tokens was 60, now 61\): give the first values"):
        run(request("transformer", folder, tmp_path, steps=2, tokens=61), lambda _: None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "text"}, "must be one of vae, transformer, audio-adapter, got 'text'"),
        ({"sizes": ()}, "add --size WIDTHxHEIGHTxFRAMES"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"precision": "fp8"}, "precision must be no or bf16, got 'fp8'"),
        ({"audio_dropout": 1.5}, "audio_dropout must be within 0 and 1, got 1.5"),
    ],
)
def test_what_cannot_be_trained_is_said_at_once(changes: dict[str, Any], message: str) -> None:
    values: dict[str, Any] = {"kind": "vae", "data": "folder", "output": "out", "sizes": SIZES}
    with pytest.raises(UserError, match=message):
        TrainRequest(**values | changes)


@pytest.mark.parametrize("text", ["512x512", "512x512x", "axbxc", "512 x 512 x 9"])
def test_a_size_is_width_height_and_frames(text: str) -> None:
    assert Size.parse("768x512x121") == Size(width=768, height=512, frames=121)
    with pytest.raises(UserError, match="WIDTHxHEIGHTxFRAMES, such as 768x512x121, got"):
        Size.parse(text)


def test_a_request_travels_as_plain_data() -> None:
    asked = request("vae", "folder", Path("out"))
    assert TrainRequest.from_dict(json.loads(json.dumps(asked.to_dict()))) == asked


def test_two_processes_train_as_one_ray_job(folder: Path, tmp_path: Path) -> None:
    asked = request("audio-adapter", folder, tmp_path, steps=3, save_every=1)
    done = train_on_ray(asked, Workers(count=2), "local", lambda _: None)
    assert done["steps"] == 3
    adapter = AudioAdapter.from_pretrained(done["audio_adapter"])
    assert any(float(block.gate.abs().max()) > 0 for block in adapter.blocks.values())  # type: ignore[operator, union-attr, arg-type]
    assert torch.isfinite(torch.cat([weight.flatten() for weight in adapter.parameters()])).all()
    # What two processes began, one can go on with.
    assert run(request("audio-adapter", folder, tmp_path, steps=4), lambda _: None)["steps"] == 4
