"""What a run adds to the parts of its checkpoint after they are loaded, always in the same order."""

from collections.abc import Sequence
from typing import Any

from ltx_ray.config import ModelConfig
from ltx_ray.models.lora import fuse_lora
from ltx_ray.models.transformers.audio_adapter import AudioAdapter
from ltx_ray.quantization import quantize_model


def prepare_transformer(
    transformer: Any,
    config: ModelConfig,
    adapter: str | None,
    adapter_hash: str | None,
    lora_hashes: Sequence[str],
) -> Any:
    """``transformer`` with its LoRAs fused, then its audio layers added, then its weights quantized.

    In place, on the device where it is. The hashes (SHA-256) are those of the files with which the run was
    begun: an actor that starts later must not take others. Raises ModelError where a file does not fit or
    has changed, ConfigError where the device cannot quantize so.
    """
    for lora, digest in zip(config.lora, lora_hashes, strict=True):
        fuse_lora(transformer, lora.path, lora.weight, digest)
    if adapter is not None:
        transformer = AudioAdapter.from_pretrained(adapter, adapter_hash).attach(transformer)
    quantize_model(transformer, config.quantization)
    return transformer
