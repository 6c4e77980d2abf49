"""An audio adapter: audio layers, the encoder whose tokens they were trained on, and its mel settings.

They belong together and travel as one safetensors file: tensors ``blocks.<layer>.*`` and ``encoder.*``, and
one JSON object under ``audio_adapter`` in the file's metadata. A run names the file with ``audio_adapter``.
"""

import json
from dataclasses import asdict
from pathlib import Path
from textwrap import shorten
from typing import Any

import fsspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from ltx_ray.errors import ModelError
from ltx_ray.models.audio.audio_encoder import AudioEncoder
from ltx_ray.models.audio.mel import MelSettings
from ltx_ray.models.transformers.audio_attention import AudioCrossAttentionBlock
from ltx_ray.models.transformers.audio_cross_attention import convert
from ltx_ray.models.transformers.audio_transformer import (
    AudioLayers,
    AudioLTXVideoTransformer3DModel,
    uncompiled,
)
from ltx_ray.models.weight_files import (
    ADAPTER_FORMAT,
    ADAPTER_METADATA,
    LOADING,
    adapter_description,
    adapter_url,
    read_weights,
)


class AudioAdapter(nn.Module):
    """The trained parts, by themselves or as they work in a transformer.

    ``blocks`` are keyed by the layer's index. ``AudioAdapter.of`` shares its blocks with the transformer, so
    that its ``parameters()`` are what is trained; ``attach`` gives them to another one.
    """

    def __init__(
        self, encoder: AudioEncoder, layers: AudioLayers, blocks: dict[int, AudioCrossAttentionBlock]
    ) -> None:
        """Raises ModelError where encoder and blocks do not fit each other or ``layers``."""
        super().__init__()
        wanted = list(range(layers.start_layer, layers.end_layer + 1))
        if sorted(blocks) != wanted:
            raise ModelError(f"an audio adapter of {layers} needs blocks {wanted}, got {sorted(blocks)}")
        if encoder.latent_channels != layers.audio_latent_dim:
            raise ModelError(
                f"the audio encoder makes {encoder.latent_channels} latent_channels, but the audio layers "
                f"hear {layers.audio_latent_dim} (audio_latent_dim): make both alike"
            )
        self.layers = layers
        self.encoder = encoder
        self.blocks = nn.ModuleDict({str(index): blocks[index] for index in wanted})

    @classmethod
    def of(cls, transformer: Any, encoder: AudioEncoder) -> "AudioAdapter":
        """The adapter that ``transformer`` carries, with the encoder that feeds it. Raises ModelError."""
        transformer = uncompiled(transformer)
        if not isinstance(transformer, AudioLTXVideoTransformer3DModel):
            raise ModelError(
                f"expected a transformer with audio layers, got {type(transformer).__name__}: call "
                "add_audio_cross_attention_to_transformer first"
            )
        return cls(encoder, transformer.audio_layers, transformer.audio_blocks())

    def attach(self, transformer: Any) -> AudioLTXVideoTransformer3DModel:
        """Give a stock transformer copies of these blocks, in place, in its own dtype and on its device.

        Raises ModelError where the transformer is no LTX transformer, has audio layers already, has too few
        layers, or another width.
        """
        hidden = self._hidden_dim
        width = getattr(getattr(transformer, "proj_in", None), "out_features", hidden)
        if width != hidden:
            raise ModelError(
                f"the audio adapter was made for a transformer {hidden} wide, got one {width} wide: "
                "use the adapter of this model"
            )
        adapted = convert(transformer, self.layers)
        for index, block in adapted.audio_blocks().items():
            block.load_state_dict(self.blocks[str(index)].state_dict())
        return adapted

    def save_pretrained(self, path: str | Path) -> str:
        """Write one safetensors file to ``path``: the file itself, or a folder (or URL) to put it in.

        Returns where it was written. Weights are stored in their own dtypes. Raises ModelError where they
        are quantized or offloaded.
        """
        url = adapter_url(str(path))
        _check_whole(self)
        tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in self.state_dict().items()}
        data = save(tensors, {ADAPTER_METADATA: json.dumps(self._description(), sort_keys=True)})
        with fsspec.open(url, "wb", auto_mkdir=True) as file:
            file.write(data)
        return url

    @classmethod
    def from_pretrained(cls, path: str | Path, sha256: str | None = None) -> "AudioAdapter":
        """Read what ``save_pretrained`` wrote, from a file, folder or URL; frozen, in float32 on the CPU.

        Raises ModelError where there is no such file, it is no audio adapter, or not the one of ``sha256``.
        """
        url = adapter_url(str(path))
        data = read_weights(url, "the audio adapter", sha256)
        description = adapter_description(data, url)
        try:
            with LOADING:
                adapter = cls._made(description)
            adapter.load_state_dict(load(data))
        # A UserError is a ValueError: numbers that make no layer.
        except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            # torch names every weight that is amiss, each on a line.
            text = shorten(str(error), 300)
            raise ModelError(f"the audio adapter {url} is damaged: {text}; fetch it again") from error
        return adapter.eval().requires_grad_(False)

    @classmethod
    def _made(cls, description: dict[str, Any]) -> "AudioAdapter":
        """An adapter of the shape that a file's metadata describe, with weights yet to be read."""
        layers = AudioLayers(**description["layers"])
        shape = description["encoder"]
        encoder = AudioEncoder(
            input_channels=shape["input_channels"],
            latent_channels=shape["latent_channels"],
            sample_rate=shape["mel"]["sample_rate"],
            hidden_channels=shape["hidden_channels"],
            mel=MelSettings(**shape["mel"]),
        )
        hidden = description["hidden_dim"]
        with torch.device("meta"):
            blocks = {
                index: AudioCrossAttentionBlock(
                    hidden, layers.num_heads, layers.audio_latent_dim, layers.dropout
                )
                for index in range(layers.start_layer, layers.end_layer + 1)
            }
        # Copied into memory of its own: where a file's bytes happen to lie must not decide which kernel runs.
        return cls(encoder, layers, blocks).to_empty(device="cpu")

    @property
    def _hidden_dim(self) -> int:
        width: int = next(iter(self.blocks.values())).to_out.out_features  # type: ignore[union-attr, assignment]
        return width

    def _description(self) -> dict[str, Any]:
        encoder = self.encoder
        return {
            "format": ADAPTER_FORMAT,
            "layers": asdict(self.layers),
            "hidden_dim": self._hidden_dim,
            "encoder": {
                "input_channels": encoder.input_channels,
                "latent_channels": encoder.latent_channels,
                "hidden_channels": encoder.hidden_channels,
                "mel": asdict(encoder.mel.settings),
            },
        }


def _check_whole(adapter: AudioAdapter) -> None:
    """Raise ModelError where a weight is not there in full."""
    for name, tensor in adapter.state_dict().items():
        if tensor.dtype.itemsize == 1:
            raise ModelError(
                f"an audio adapter is saved in full precision, got {name} in {tensor.dtype}: "
                "save the adapter before quantize_model"
            )
        if tensor.is_meta:
            raise ModelError(
                f"an audio adapter is saved from weights in memory, got {name} on the device meta: save the "
                "adapter before the transformer is offloaded"
            )
