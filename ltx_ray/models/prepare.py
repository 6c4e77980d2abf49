"""What a run adds to the parts of its checkpoint after they are loaded, always in the same order."""

from typing import Any

from ltx_ray.config import ModelConfig
from ltx_ray.models.lora import fuse_lora
from ltx_ray.models.transformers.audio_adapter import AudioAdapter
from ltx_ray.quantization import quantize_model


def prepare_transformer(transformer: Any, config: ModelConfig) -> Any:
    """``transformer`` with its LoRAs fused, then its audio layers added, then its weights quantized.

    In place. Raises ModelError where a file does not fit, ConfigError where the device cannot quantize so.
    """
    for lora in config.lora:
        fuse_lora(transformer, lora.path, lora.weight)
    if config.audio_adapter is not None:
        transformer = AudioAdapter.from_pretrained(config.audio_adapter).attach(transformer)
    quantize_model(transformer, config.quantization)
    return transformer
