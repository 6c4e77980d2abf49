"""Weights that are pickles are refused whatever they are called, and no code of theirs runs."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ltx_ray.checkpoints import tiny_path
from ltx_ray.errors import ModelError
from ltx_ray.models.checkpoint import resolve
from ltx_ray.models.weight_files import read_weights


class Trap:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mknod, (str(self.path),)


@pytest.fixture
def sprung(tmp_path: Path) -> Path:
    """The file that a trap makes."""
    return tmp_path / "sprung"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    shutil.copytree(tiny_path(), tmp_path / "model")
    return tmp_path / "model"


def dumped(trap: Trap, path: Path) -> None:
    path.write_bytes(pickle.dumps({"weight": trap}))


def dumped_as_of_old(trap: Trap, path: Path) -> None:
    path.write_bytes(pickle.dumps({"weight": trap}, protocol=2))


def saved(trap: Trap, path: Path) -> None:
    torch.save({"weight": trap}, path)


WRITERS = (dumped, dumped_as_of_old, saved)
Writer = Callable[[Trap, Path], None]


def test_the_trap_springs(sprung: Path, tmp_path: Path) -> None:
    dumped(Trap(sprung), tmp_path / "x.bin")
    pickle.loads((tmp_path / "x.bin").read_bytes())
    assert sprung.exists()


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    "name",
    [
        "transformer/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
    ],
)
def test_a_pickle_that_is_called_safetensors_is_refused(
    model: Path, sprung: Path, name: str, write: Writer
) -> None:
    write(Trap(sprung), model / name)
    with pytest.raises(ModelError, match=r"must be a safetensors file, got a pickle: those can run code"):
        resolve(str(model))
    assert not sprung.exists()


@pytest.mark.parametrize("ending", ["bin", "pt", "pth", "ckpt", "pkl"])
def test_a_folder_that_holds_pickles_only_is_refused(model: Path, sprung: Path, ending: str) -> None:
    (model / "vae/diffusion_pytorch_model.safetensors").unlink()
    saved(Trap(sprung), model / f"vae/diffusion_pytorch_model.{ending}")
    with pytest.raises(ModelError, match=rf"only pickles .*diffusion_pytorch_model\.{ending}"):
        resolve(str(model))
    assert not sprung.exists()


def test_pickles_beside_good_weights_are_left_alone(model: Path, sprung: Path) -> None:
    for part in ("vae", "text_encoder"):
        for name in ("diffusion_pytorch_model.bin", "pytorch_model.bin"):
            saved(Trap(sprung), model / part / name)
    resolve(str(model)).load_vae(torch.float32, "cpu")
    resolve(str(model)).load_text_encoder(torch.float32, "cpu")
    assert not sprung.exists()


@pytest.mark.parametrize("shard", ["shard.bin", "../shard.safetensors", "/etc/passwd", "", 5, None])
def test_an_index_names_safetensors_beside_it_only(model: Path, sprung: Path, shard: object) -> None:
    (model / "vae/diffusion_pytorch_model.safetensors").unlink()
    saved(Trap(sprung), model / "vae/shard.bin")
    index = model / "vae/diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(ModelError, match=r"must name \.safetensors files that lie beside it"):
        resolve(str(model))
    assert not sprung.exists()


@pytest.mark.parametrize("write", WRITERS)
def test_a_lora_or_adapter_that_is_a_pickle_is_refused(tmp_path: Path, sprung: Path, write: Writer) -> None:
    path = tmp_path / "x.safetensors"
    write(Trap(sprung), path)
    with pytest.raises(ModelError, match=r"the LoRA must be a safetensors file, got .*, which is a pickle"):
        read_weights(str(path), "the LoRA")
    assert not sprung.exists()


def test_a_header_without_end_is_refused(model: Path, tmp_path: Path) -> None:
    deep = b"[" * 100_000
    data = len(deep).to_bytes(8, "little") + deep
    (model / "vae/diffusion_pytorch_model.safetensors").write_bytes(data)
    with pytest.raises(ModelError, match="its header is broken"):
        resolve(str(model))
    (tmp_path / "x.safetensors").write_bytes(data)
    with pytest.raises(ModelError, match="its header is broken"):
        read_weights(str(tmp_path / "x.safetensors"), "the LoRA")
