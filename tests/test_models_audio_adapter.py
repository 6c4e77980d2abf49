"""An audio adapter is one file that brings layers and encoder back bit for bit, and fits or says why not."""

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from accelerate import cpu_offload
from safetensors.torch import load_file, save_file
from small_transformer import AUDIO, WIDTH, hearing_transformer, inputs, random, small_transformer, sound
from torch import nn

from ltx_ray.errors import ModelError
from ltx_ray.models.audio.audio_encoder import AudioEncoder
from ltx_ray.models.audio.mel import MelSettings
from ltx_ray.models.transformers.audio_adapter import AudioAdapter
from ltx_ray.models.transformers.audio_transformer import AudioLTXVideoTransformer3DModel
from ltx_ray.models.weight_files import ADAPTER_FILE
from ltx_ray.quantization import quantize_model


def trained_encoder(**changes: Any) -> AudioEncoder:
    """An encoder whose weights are not those that every encoder starts from."""
    encoder = AudioEncoder(**{"latent_channels": AUDIO, "hidden_channels": 16, **changes})
    with torch.no_grad():
        for seed, weight in enumerate(encoder.parameters()):
            weight.add_(0.1 * random(seed, *weight.shape))
    return encoder.eval()


def saved(folder: Path, transformer: AudioLTXVideoTransformer3DModel | None = None, **encoder: Any) -> str:
    adapter = AudioAdapter.of(transformer or hearing_transformer(), trained_encoder(**encoder))
    return adapter.save_pretrained(folder)


@torch.no_grad()
def heard(transformer: Any, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    made: torch.Tensor = transformer(**inputs(dtype), audio=sound(dtype=dtype))[0]
    return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_transformer_with_the_loaded_adapter_hears_bit_for_bit_as_the_one_that_saved_it(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    original = hearing_transformer().to(dtype)
    path = saved(tmp_path, original)
    stock = small_transformer().to(dtype)
    adapted = AudioAdapter.from_pretrained(path).attach(stock)
    assert adapted is stock
    assert torch.equal(heard(adapted, dtype), heard(original, dtype))
    assert {weight.dtype for weight in adapted.parameters()} == {dtype}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"input_channels": 2, "mel": MelSettings(n_mels=40, hop_length=80, n_fft=512, floor=1e-4)},
        {"sample_rate": 24_000},
    ],
)
def test_the_encoder_comes_back_with_its_settings_and_makes_the_same_tokens(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    encoder = trained_encoder(**changes)
    AudioAdapter.of(hearing_transformer(), encoder).save_pretrained(tmp_path)
    again = AudioAdapter.from_pretrained(tmp_path).encoder
    waveform = 0.1 * random(3, 1, 2, 9000)
    assert torch.equal(again(waveform, 22_050), encoder(waveform, 22_050))
    assert again.mel.settings == encoder.mel.settings
    assert (again.input_channels, again.latent_channels) == (encoder.input_channels, AUDIO)


def test_it_is_one_file_where_it_was_asked_for(tmp_path: Path) -> None:
    assert saved(tmp_path / "new" / "folder") == str(tmp_path / "new" / "folder" / ADAPTER_FILE)
    named = tmp_path / "elsewhere" / "singing.safetensors"
    assert saved(named) == str(named)  # type: ignore[arg-type]
    assert [path.name for path in named.parent.iterdir()] == ["singing.safetensors"]
    names = {name.split(".")[0] for name in load_file(named)}
    assert names == {"blocks", "encoder"}
    for path in (named, named.parent / ".." / "new" / "folder"):
        assert AudioAdapter.from_pretrained(path).layers.end_layer == 2


def test_it_can_lie_behind_a_url() -> None:
    url = saved("memory://adapters/one")  # type: ignore[arg-type]
    assert url == f"memory://adapters/one/{ADAPTER_FILE}"
    try:
        assert AudioAdapter.from_pretrained("memory://adapters/one").layers.start_layer == 1
    finally:
        fsspec.filesystem("memory").rm("adapters", recursive=True)


def test_its_parameters_are_those_of_the_transformer_it_is_of() -> None:
    """What is trained through the adapter is what the transformer hears with."""
    transformer, encoder = hearing_transformer(), trained_encoder()
    adapter = AudioAdapter.of(transformer, encoder)
    before = heard(transformer)
    with torch.no_grad():
        for weight in adapter.parameters():
            weight.add_(0.1)
    assert not torch.equal(heard(transformer), before)
    count = sum(1 for block in transformer.audio_blocks().values() for _ in block.parameters())
    assert len(list(adapter.parameters())) == count + len(list(encoder.parameters()))


def test_attached_layers_are_copies(tmp_path: Path) -> None:
    adapter = AudioAdapter.from_pretrained(saved(tmp_path))
    one, other = adapter.attach(small_transformer()), adapter.attach(small_transformer())
    with torch.no_grad():
        one.audio_blocks()[1].gate.zero_()
    assert torch.equal(heard(other), heard(hearing_transformer()))
    assert adapter.blocks["1"].gate.abs().max() > 0


def test_a_loaded_adapter_is_frozen_and_does_not_drop_out(tmp_path: Path) -> None:
    adapter = AudioAdapter.from_pretrained(saved(tmp_path))
    assert not any(weight.requires_grad for weight in adapter.parameters())
    assert not any(module.training for module in adapter.modules())
    assert {weight.dtype for weight in adapter.parameters()} == {torch.float32}


def test_a_transformer_that_it_does_not_fit_is_told_and_left_alone(tmp_path: Path) -> None:
    adapter = AudioAdapter.from_pretrained(saved(tmp_path))
    with pytest.raises(ModelError, match=r"layers 0 to 1 of this transformer of 2 layers, .* got 1 to 2"):
        adapter.attach(small_transformer(num_layers=2))
    wide = type(small_transformer()).from_config({**small_transformer().config, "num_attention_heads": 4})
    names = list(wide.state_dict())
    with pytest.raises(ModelError, match=f"made for a transformer {WIDTH} wide, got one {2 * WIDTH} wide"):
        adapter.attach(wide)
    assert list(wide.state_dict()) == names
    with pytest.raises(ModelError, match="has audio layers already"):
        adapter.attach(hearing_transformer())
    with pytest.raises(ModelError, match="expected an LTXVideoTransformer3DModel"):
        adapter.attach(nn.Linear(2, 2))


def test_layers_and_an_encoder_that_do_not_belong_together_are_told() -> None:
    with pytest.raises(ModelError, match="makes 5 latent_channels, but the audio layers hear 12"):
        AudioAdapter.of(hearing_transformer(), trained_encoder(latent_channels=5))
    with pytest.raises(ModelError, match="with audio layers, got LTXVideoTransformer3DModel"):
        AudioAdapter.of(small_transformer(), trained_encoder())
    blocks = hearing_transformer().audio_blocks()
    layers = hearing_transformer().audio_layers
    with pytest.raises(ModelError, match=r"needs blocks \[1, 2\], got \[1\]"):
        AudioAdapter(trained_encoder(), layers, {1: blocks[1]})


@pytest.mark.parametrize(("mode", "dtype"), [("fp8", "float8_e4m3fn"), ("int8", "int8")])
def test_quantized_layers_are_not_saved(tmp_path: Path, mode: Any, dtype: str) -> None:
    transformer = hearing_transformer()
    quantize_model(transformer, mode)
    with pytest.raises(
        ModelError, match=rf"got blocks\.1\..* in torch\.{dtype}: save .* before quantize_model"
    ):
        saved(tmp_path / "out", transformer)
    assert not (tmp_path / "out").exists()


def test_offloaded_layers_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="on the device meta: save the adapter before"):
        saved(tmp_path, cpu_offload(hearing_transformer(), torch.device("cpu")))


def _described(path: str, change: Any) -> None:
    """Write the adapter anew with its own description changed by ``change``."""
    data = Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    description = json.loads(metadata["audio_adapter"])
    change(description)
    save_file(load_file(path), path, {"audio_adapter": json.dumps(description)})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda told: told.update(format="ltx_ray audio adapter 9"), "got 'ltx_ray audio adapter 9'"),
        (lambda told: told.pop("format"), "is no audio adapter of ltx_ray"),
        (lambda told: told.pop("layers"), "is damaged: .*its layers"),
        (lambda told: told["layers"].update(end_layer=3), "is damaged: .*blocks.3"),
        (lambda told: told["layers"].update(swing=3), "is damaged: .*swing"),
        (lambda told: told["layers"].update(num_heads=7), "is damaged: .*num_heads 7"),
        (lambda told: told["encoder"].update(hidden_channels=17), "is damaged: .*size mismatch"),
        (lambda told: told["encoder"]["mel"].update(n_fft=7), "is damaged: .*n_fft 7"),
        (lambda told: told["encoder"].update(mel=None), "is damaged"),
    ],
)
def test_a_description_that_is_not_that_of_the_weights_is_told(
    tmp_path: Path, change: Any, words: str
) -> None:
    path = saved(tmp_path)
    _described(path, change)
    with pytest.raises(ModelError, match=words):
        AudioAdapter.from_pretrained(path)


def test_files_that_are_no_adapters_are_told(tmp_path: Path) -> None:
    good = Path(saved(tmp_path)).read_bytes()
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(3)}, foreign)
    with pytest.raises(ModelError, match=r"foreign\.safetensors is no audio adapter of ltx_ray"):
        AudioAdapter.from_pretrained(foreign)
    contents = {
        "cut": good[:-100],
        "longer": good + b"\0",
        "header cut": good[:100],
        "empty": b"",
        "pickled": pickle.dumps({"blocks": 1}),
        "text": b"not weights at all, and long enough to have a length",
    }
    for name, content in contents.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content)
        with pytest.raises(ModelError, match=f"{name}.safetensors"):
            AudioAdapter.from_pretrained(path)
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(ModelError, match="must be a safetensors file"):
        AudioAdapter.from_pretrained(path)
    with pytest.raises(ModelError, match=f"readable .safetensors file, got .*{ADAPTER_FILE}"):
        AudioAdapter.from_pretrained(tmp_path / "nowhere")
