"""What a call of ``generate_long_video`` is made of: a stopped one goes on with its own chunks only."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np
from torch import Tensor, nn

from ltx_ray.pipelines.long_video import VideoRequest
from ltx_ray.planning.chunks import ChunkSettings
from ltx_ray.planning.tiles import TileSettings

# They change what is told or returned, not what is made; the seed is kept apart.
_APART = {"seed", "generator", "output_type", "callback_on_step_end", "callback_on_chunk_end", "prompt_per"}


def describe_call(
    requests: Sequence[VideoRequest], chunks: ChunkSettings, tiles: TileSettings, pipeline: Any
) -> dict[str, Any]:
    """All that decides the videos of a call but its seed, as plain data."""
    first = requests[0]
    options = {field.name: getattr(first.options, field.name) for field in fields(first.options)}
    plain = {name: value for name, value in options.items() if name not in _APART}
    image = plain.pop("image")
    plain.pop("audio_latents")
    call = {
        **plain,
        "prompts": [request.prompts for request in requests],
        "num_frames": first.num_frames,
        "width": first.width,
        "height": first.height,
        "num_inference_steps": first.num_inference_steps,
        "guidance_scale": first.guidance_scale,
        "image": image if isinstance(image, str) or image is None else _digest(np.asarray(image).tobytes()),
        "audio": [_audio(request) for request in requests],
        "chunks": asdict(chunks),
        "tiles": asdict(tiles),
        "scheduler": {k: v for k, v in pipeline.scheduler.config.items() if not k.startswith("_")},
        "transformer": _weights(pipeline.transformer),
        "vae": _weights(pipeline.vae),
    }
    plain_call: dict[str, Any] = json.loads(json.dumps(call))
    return plain_call


def _audio(request: VideoRequest) -> Any:
    track = request.audio
    if track is None:
        return None
    return [_bytes_of(track.tokens), track.start_s, track.tokens_per_second]


def _weights(model: nn.Module) -> str:
    """Names, shapes, dtypes and sums of all weights: another model, adapter or LoRA shows, sooner than by a
    hash of all their bytes."""
    total = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        total.update(
            f"{name} {tuple(weight.shape)} {weight.dtype} {float(weight.double().sum())!r}\n".encode()
        )
    return total.hexdigest()[:16]


def _bytes_of(tensor: Tensor) -> str:
    return _digest(tensor.detach().float().cpu().contiguous().numpy().tobytes())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
