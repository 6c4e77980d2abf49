"""Files of weights are known by their bytes, and a run is told before it starts what does not fit it."""

import hashlib
import json
import struct
from pathlib import Path

import fsspec
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_transformer import AUDIO, hearing_transformer, small_transformer

from ltx_ray.errors import ModelError
from ltx_ray.models.audio.audio_encoder import AudioEncoder
from ltx_ray.models.transformers.audio_adapter import AudioAdapter
from ltx_ray.models.weight_files import (
    adapter_url,
    check_adapter_fits,
    file_metadata,
    read_weights,
    weights_hash,
)


@pytest.fixture
def adapter(tmp_path: Path) -> str:
    encoder = AudioEncoder(latent_channels=AUDIO, hidden_channels=8)
    return AudioAdapter.of(hearing_transformer(), encoder).save_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("/a/b", "/a/b/audio_adapter.safetensors"),
        ("s3://bucket/a/", "s3://bucket/a/audio_adapter.safetensors"),
        ("/a/singing.safetensors", "/a/singing.safetensors"),
    ],
)
def test_a_folder_means_the_adapter_in_it(path: str, url: str) -> None:
    assert adapter_url(path) == url


def test_a_model_of_its_width_and_depth_is_fitted(adapter: str) -> None:
    check_adapter_fits(Path(adapter).read_bytes(), adapter, small_transformer().config)
    check_adapter_fits(Path(adapter).read_bytes(), adapter, {**small_transformer().config, "num_layers": 3})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_layers": 2}, "32 wide with a layer 2, got a model 32 wide with 2 layers"),
        ({"num_attention_heads": 4}, "got a model 64 wide with 4 layers"),
    ],
)
def test_another_model_is_not(adapter: str, change: dict[str, int], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        check_adapter_fits(Path(adapter).read_bytes(), adapter, {**small_transformer().config, **change})


def test_a_config_that_leaves_out_what_is_usual_is_that_of_the_2b_model(adapter: str) -> None:
    with pytest.raises(ModelError, match="got a model 2048 wide with 28 layers"):
        check_adapter_fits(Path(adapter).read_bytes(), adapter, {})


def test_an_adapter_that_does_not_say_what_it_is_for_is_told(tmp_path: Path) -> None:
    path = str(tmp_path / "x.safetensors")
    for told in ({"format": "ltx_ray audio adapter 1"}, {}, []):
        save_file({"a": torch.zeros(1)}, path, {"audio_adapter": json.dumps(told)})
        with pytest.raises(ModelError, match=r"x\.safetensors"):
            check_adapter_fits(Path(path).read_bytes(), path, small_transformer().config)


def test_the_hash_is_that_of_the_bytes_wherever_they_lie(adapter: str) -> None:
    data = Path(adapter).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    assert weights_hash(data) == digest
    fsspec.filesystem("memory").pipe("/weights/copy.safetensors", data)
    assert read_weights("memory://weights/copy.safetensors", "it", digest) == data


def test_a_file_that_has_changed_since_the_run_began_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    digest = weights_hash(path.read_bytes())
    save_file({"a": torch.ones(2)}, path)
    with pytest.raises(ModelError, match=r"the LoRA .* has changed since the run began"):
        read_weights(str(path), "the LoRA", digest)
    assert weights_hash(read_weights(str(path), "the LoRA")) != digest


def test_metadata_are_read_without_torch(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(2)}, path, {"told": "yes"})
    assert file_metadata(path.read_bytes()) == {"told": "yes"}
    save_file({"a": torch.zeros(2)}, path)
    assert file_metadata(path.read_bytes()) == {}


def test_weights_of_no_tensor_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({}, path, {"told": "yes"})
    assert read_weights(str(path), "it") == path.read_bytes()


@pytest.mark.parametrize(
    "header", [b"[]", b"{", b'"x"', b'{"a": 1}', b'{"a": {}}', b'{"a": {"data_offsets": [0]}}']
)
def test_a_header_that_is_not_safetensors_is_told(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(
        ModelError, match=r"the LoRA must be a safetensors file, got .*: its header is broken"
    ):
        read_weights(str(path), "the LoRA")


@pytest.mark.parametrize("url", ["nowhere/at/all.safetensors", "nothing://x", "memory://gone.safetensors"])
def test_what_cannot_be_read_is_told(url: str) -> None:
    with pytest.raises(ModelError, match=f"the LoRA must be a readable .safetensors file, got {url}"):
        read_weights(url, "the LoRA")


def test_an_adapter_that_does_not_hold_what_it_describes_is_told(adapter: str) -> None:
    state = load_file(adapter)
    description = file_metadata(Path(adapter).read_bytes())
    name = next(name for name in state if name.endswith("to_q.weight"))
    for changed in ({**state, name: torch.zeros(64, 64)}, {k: v for k, v in state.items() if k != name}):
        save_file(changed, adapter, description)
        with pytest.raises(ModelError, match=f"is damaged: its {name} must be"):
            check_adapter_fits(Path(adapter).read_bytes(), adapter, small_transformer().config)
