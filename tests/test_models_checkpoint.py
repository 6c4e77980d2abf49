"""Checkpoints: what a name means, what is refused and why, and that each part loads alone and whole."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel
from hub_server import COMMIT, hub_of
from safetensors.torch import load_file, save_file

from ltx_ray.checkpoints import tiny_path
from ltx_ray.errors import ModelError
from ltx_ray.models.checkpoint import Checkpoint, resolve
from ltx_ray.models.transformers.audio_adapter import AudioAdapter
from ltx_ray.planning.geometry import Ratios


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the built-in checkpoint that a test may break."""
    return Path(shutil.copytree(tiny_path(), tmp_path / "model"))


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python apart, where the hub's client reads this environment."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    return subprocess.run(
        [sys.executable, "-c", code], env=env | environment, capture_output=True, text=True, timeout=60
    )


def test_tiny_is_the_packaged_folder_and_a_folder_is_itself(folder: Path) -> None:
    assert resolve("tiny") == Checkpoint("tiny", tiny_path(), None)
    assert resolve(str(folder)) == Checkpoint(str(folder), folder, None)


def test_resolving_and_reading_configs_imports_no_torch() -> None:
    code = """if True:
        import sys
        from ltx_ray.models.checkpoint import resolve
        from ltx_ray.models.presets import find_preset
        checkpoint = resolve("tiny")
        checkpoint.ratios(), checkpoint.weights_hash(), find_preset(checkpoint)
        sys.exit(any(name in sys.modules for name in ("torch", "diffusers", "transformers", "ray")))
    """
    assert run(code).returncode == 0


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"spatial_compression_ratio": 16, "temporal_compression_ratio": 4},
        {"spatial_compression_ratio": None, "temporal_compression_ratio": None},
        {
            "spatial_compression_ratio": None,
            "temporal_compression_ratio": None,
            "spatio_temporal_scaling": [True, True, False],
        },
    ],
)
def test_ratios_are_those_of_the_diffusers_class(folder: Path, config: dict[str, object]) -> None:
    edit(folder / "vae" / "config.json", **config)
    checkpoint = resolve(str(folder))
    with torch.device("meta"):
        vae = AutoencoderKLLTXVideo.from_config(checkpoint.vae_config())
    expected = Ratios(time=vae.temporal_compression_ratio, space=vae.spatial_compression_ratio)
    assert checkpoint.ratios() == expected


def test_ratios_of_an_empty_vae_config_are_the_defaults_of_the_class(folder: Path) -> None:
    (folder / "vae" / "config.json").write_text("{}")
    assert Checkpoint("x", folder).ratios() == Ratios(time=8, space=32)


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_part_is_named(folder: Path, part: str) -> None:
    shutil.rmtree(folder / part)
    with pytest.raises(ModelError, match=f"lacks its folder {part}/"):
        resolve(str(folder))


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_part_missing_in_the_index_is_named(folder: Path, part: str) -> None:
    edit(folder / "model_index.json", **{part: [None, None]})
    with pytest.raises(ModelError, match=f"lacks the part {part}"):
        resolve(str(folder))


def test_a_folder_without_index_is_refused(folder: Path) -> None:
    (folder / "model_index.json").unlink()
    with pytest.raises(ModelError, match=r"needs model_index\.json, got none"):
        resolve(str(folder))


@pytest.mark.parametrize("content", ["{", "[]", "\x00"])
def test_a_broken_config_is_refused(folder: Path, content: str) -> None:
    (folder / "vae" / "config.json").write_text(content)
    with pytest.raises(ModelError, match=r"vae/config\.json must"):
        resolve(str(folder))


def test_pickles_are_refused_even_when_nothing_else_is_there(folder: Path) -> None:
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").rename(
        folder / "transformer" / "diffusion_pytorch_model.bin"
    )
    with pytest.raises(ModelError, match=r"only pickles .*diffusion_pytorch_model\.bin"):
        resolve(str(folder))


def test_missing_weights_are_told_with_what_is_there(folder: Path) -> None:
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"the vae has no weights: .*got config\.json"):
        resolve(str(folder))


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_cut_weights_are_refused_before_they_are_loaded(folder: Path, keep: int) -> None:
    path = folder / "text_encoder" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match=r"model\.safetensors is (cut short|no safetensors)"):
        resolve(str(folder))


def test_weights_that_are_something_else_are_refused(folder: Path) -> None:
    (folder / "vae" / "diffusion_pytorch_model.safetensors").write_text("<html>404 Not Found</html>" * 9)
    with pytest.raises(ModelError, match=r"is (cut short|no safetensors)"):
        resolve(str(folder))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"_class_name": "StableDiffusionPipeline"}, "got 'StableDiffusionPipeline'"),
        ({"vae": ["diffusers", "AutoencoderKL"]}, "class AutoencoderKLLTXVideo, got 'AutoencoderKL'"),
        ({"tokenizer": ["os", "system"]}, "got 'system'"),
        ({"scheduler": "EulerDiscreteScheduler"}, "got 'EulerDiscreteScheduler'"),
    ],
)
def test_other_classes_are_refused(folder: Path, values: dict[str, object], message: str) -> None:
    edit(folder / "model_index.json", **values)
    with pytest.raises(ModelError, match=message):
        resolve(str(folder))


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("transformer", "in_channels", 128, "in_channels must be 48"),
        ("transformer", "out_channels", 16, "out_channels must be 48"),
        ("transformer", "patch_size", 2, "patch_size must be 1"),
        ("transformer", "patch_size_t", 2, "patch_size_t must be 1"),
        ("vae", "latent_channels", 16, "in_channels must be 16"),
        ("text_encoder", "d_model", 4096, "caption_channels must be 4096"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    folder: Path, part: str, key: str, value: int, message: str
) -> None:
    edit(folder / part / "config.json", **{key: value})
    with pytest.raises(ModelError, match=message):
        resolve(str(folder))


def test_the_hash_names_contents_and_not_places(folder: Path) -> None:
    copy = resolve(str(folder))
    assert copy.weights_hash() == resolve("tiny").weights_hash()
    (folder / "README.md").write_text("another card")
    (folder / "ltxv-13b.safetensors").write_bytes(b"a single-file checkpoint that is never loaded")
    assert copy.weights_hash() == resolve("tiny").weights_hash()


def test_the_hash_changes_with_one_bit_of_the_weights(folder: Path) -> None:
    checkpoint, path = resolve(str(folder)), folder / "vae" / "diffusion_pytorch_model.safetensors"
    before = checkpoint.weights_hash()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(0, 1))  # a file system's clock may be too coarse to tell the two apart
    assert checkpoint.weights_hash() != before


def test_models_load_frozen_in_the_asked_dtype_with_the_stored_values() -> None:
    checkpoint = resolve("tiny")
    stored = load_file(tiny_path() / "transformer" / "diffusion_pytorch_model.safetensors")
    for dtype in (torch.float32, torch.bfloat16):
        transformer = checkpoint.load_transformer(dtype, "cpu")
        vae = checkpoint.load_vae(dtype, "cpu")
        _, text_encoder = checkpoint.load_text_encoder(dtype, "cpu")
        for model in (transformer, vae, text_encoder):
            assert not model.training
            assert {p.dtype for p in model.parameters()} == {dtype}
            assert not any(p.requires_grad for p in model.parameters())
        loaded = transformer.state_dict()
        assert loaded.keys() == stored.keys()
        assert all(torch.equal(loaded[name], stored[name].to(dtype)) for name in stored)


def test_sharded_weights_load_as_the_whole_file_does(folder: Path) -> None:
    whole = resolve("tiny").load_transformer(torch.float32, "cpu")
    shutil.rmtree(folder / "transformer")
    LTXVideoTransformer3DModel.from_pretrained(tiny_path() / "transformer").save_pretrained(
        folder / "transformer", max_shard_size="5MB"
    )
    assert len(list((folder / "transformer").glob("*.safetensors"))) > 1
    sharded = resolve(str(folder)).load_transformer(torch.float32, "cpu")
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), sharded.parameters(), strict=True))

    next((folder / "transformer").glob("*00001-of*.safetensors")).unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        resolve(str(folder))


@pytest.mark.parametrize(("part", "stem"), [("vae", "diffusion_pytorch_model"), ("text_encoder", "model")])
def test_weights_that_lack_a_tensor_are_refused_and_not_made_up(folder: Path, part: str, stem: str) -> None:
    path = folder / part / f"{stem}.safetensors"
    tensors = load_file(path)
    dropped = next(name for name in tensors if "conv_out" in name or "SelfAttention.q" in name)
    del tensors[dropped]
    save_file(tensors, path, metadata={"format": "pt"})
    checkpoint = resolve(str(folder))
    load = checkpoint.load_vae if part == "vae" else checkpoint.load_text_encoder
    with pytest.raises(ModelError, match="lack 1 of the tensors"):
        load(torch.float32, "cpu")


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    edit(folder / "transformer" / "config.json", num_attention_heads=5, cross_attention_dim=160)
    with pytest.raises(ModelError, match="cannot be loaded as LTXVideoTransformer3DModel"):
        resolve(str(folder)).load_transformer(torch.float32, "cpu")


def test_a_broken_tokenizer_is_refused(folder: Path) -> None:
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="tokenizer"):
        resolve(str(folder)).load_text_encoder(torch.float32, "cpu")


@pytest.mark.parametrize("name", ["/no/such/folder", "./nowhere", "~/nowhere-at-all", "../a/b/c"])
def test_a_path_that_is_not_there_is_not_taken_for_a_hub_id(name: str) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        resolve(name)


def test_offline_an_unknown_hub_id_says_what_was_tried(tmp_path: Path) -> None:
    code = "from ltx_ray.models.checkpoint import resolve; resolve('someone/something@v2')"
    done = run(code, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    message = done.stderr.strip().splitlines()[-1]
    assert "ModelError" in done.stderr
    for part in ("'someone/something'", "offline (HF_HUB_OFFLINE is set)", "revision v2", "HF_TOKEN"):
        assert part in message, message


@pytest.fixture
def hub(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """A hub with one model that also has files that must not be fetched; its URL and what was asked."""
    for extra in ("ltxv-13b.safetensors", "vae/model.bin", "transformer/code.py", "text_encoder/x.pt"):
        (folder / extra).write_bytes(b"not wanted")
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    asked: list[str] = []
    with hub_of(files, asked) as url:
        yield url, asked


def test_a_hub_id_is_fetched_once_without_code_or_pickles(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    url, asked = hub
    code = """if True:
        from ltx_ray.models.checkpoint import resolve
        checkpoint = resolve("me/model@v1")
        print(checkpoint.name, checkpoint.revision, checkpoint.weights_hash())
    """
    expected = f"me/model {COMMIT} {resolve('tiny').weights_hash()}\n"
    home = str(tmp_path / "home")
    done = run(code, HF_HOME=home, HF_ENDPOINT=url, HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_TELEMETRY="1")
    assert done.stdout == expected, done.stderr
    assert {Path(name).suffix for name in asked} == {".json", ".safetensors"}
    assert not any("ltxv-13b.safetensors" in name for name in asked)

    offline = run(code, HF_HOME=home, HF_HUB_OFFLINE="1")
    assert offline.stdout == expected, offline.stderr


def test_what_the_hub_has_is_told_without_fetching_it(
    hub: tuple[str, list[str]], folder: Path, tmp_path: Path
) -> None:
    url, asked = hub
    code = """if True:
        from ltx_ray.config import RenderConfig
        from ltx_ray.models.presence import look_for_model
        facts = look_for_model(RenderConfig.load(None, ("model.name=me/model@v1",)))
        print(facts.is_absent, facts.size, facts.problem)
    """
    environment = {
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    wanted = [folder / "model_index.json"]
    for part in ("scheduler", "text_encoder", "tokenizer", "transformer", "vae"):
        wanted += [path for path in (folder / part).iterdir() if path.suffix in (".json", ".safetensors")]
    size = sum(path.stat().st_size for path in wanted)
    told = run(code, HF_ENDPOINT=url, **environment)
    assert told.stdout == f"True {size} None\n", told.stderr
    assert asked == []

    run(
        "from ltx_ray.models.checkpoint import resolve; resolve('me/model@v1')",
        HF_ENDPOINT=url,
        **environment,
    )
    assert asked
    told = run(code, HF_HUB_OFFLINE="1", **environment)
    assert told.stdout.startswith("False "), told.stderr
    told = run(code, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "other"))
    assert told.stdout.startswith("True None the model must be 'tiny'"), told.stderr


def test_threads_may_load_at_once() -> None:
    tiny = resolve("tiny")
    file = tiny.audio_adapter(None)
    assert file is not None

    def load(number: int) -> torch.device:
        if number % 2:
            return next(AudioAdapter.from_pretrained(file).parameters()).device
        return next(tiny.load_transformer(torch.float32, "cpu").parameters()).device

    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(load, range(16))) == {torch.device("cpu")}
    assert torch.nn.Linear(1, 1).weight.device == torch.device("cpu")
