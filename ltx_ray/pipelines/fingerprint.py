"""What a call of ``generate_long_video`` is made of: a stopped one goes on with its own chunks only."""

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

import diffusers
import torch
import transformers

from ltx_ray.models.conditioning import tokenized
from ltx_ray.pipelines.long_video import VideoRequest
from ltx_ray.pipelines.model_hash import bytes_hash, model_hash
from ltx_ray.planning.chunks import ChunkSettings
from ltx_ray.planning.tiles import TileSettings
from ltx_ray.version import __version__

# They change what is told or returned, not what is made; the seed is kept apart.
_APART = {"seed", "generator", "output_type", "callback_on_step_end", "callback_on_chunk_end", "prompt_per"}
# Of the options as they were given; here as they are used.
_WORKED_OUT = {"image", "audio_latents"}


def describe_call(
    requests: Sequence[VideoRequest], chunks: ChunkSettings, tiles: TileSettings, pipeline: Any
) -> dict[str, Any]:
    """All that decides the videos of a call but its seed and their encoding, as plain data.

    What would be long is its hash, as ``{"sha256": ..}``. Raises UserError for a model whose weights cannot
    be read.
    """
    first = requests[0]
    options = {field.name: getattr(first.options, field.name) for field in fields(first.options)}
    plain = {name: value for name, value in options.items() if name not in _APART | _WORKED_OUT}
    call = {
        **plain,
        "prompts": [request.prompts for request in requests],
        "num_frames": first.num_frames,
        "width": first.width,
        "height": first.height,
        "num_inference_steps": first.num_inference_steps,
        "guidance_scale": first.guidance_scale,
        "image": None if first.image is None else _hashed(torch.from_numpy(first.image)),
        "audio": [_audio(request) for request in requests],
        "chunks": asdict(chunks),
        "tiles": asdict(tiles),
        "scheduler": {k: v for k, v in pipeline.scheduler.config.items() if not k.startswith("_")},
        "tokens": _tokens(requests, pipeline.tokenizer),
        **{
            name: {"sha256": model_hash(getattr(pipeline, name))}
            for name in ("transformer", "vae", "text_encoder")
        },
        "decoder_noise_seed": getattr(pipeline.vae.decoder, "noise_seed", None),
        "device": _device(pipeline._execution_device),
        "versions": {
            "ltx_ray": __version__,
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "transformers": transformers.__version__,
        },
    }
    plain_call: dict[str, Any] = json.loads(json.dumps(call))
    return plain_call


def _audio(request: VideoRequest) -> Any:
    track = request.audio
    if track is None:
        return None
    times = {"start_s": track.start_s, "tokens_per_second": track.tokens_per_second}
    return {**_hashed(track.tokens), **times}


def _tokens(requests: Sequence[VideoRequest], tokenizer: Any) -> dict[str, Any]:
    """The tokenizer, by what it makes of the texts: its files may say the same in other words."""
    texts = [text for request in requests for text in (*request.prompts, request.options.negative_prompt)]
    made = [tokenized(tokenizer, text) for text in texts]
    return _hashed(torch.cat([torch.cat([one.input_ids, one.attention_mask]) for one in made]))


def _device(device: torch.device) -> dict[str, Any]:
    """Sums are made in another order by other kinds of device, and on a CPU by other numbers of threads."""
    return {"kind": device.type, "threads": torch.get_num_threads() if device.type == "cpu" else None}


def _hashed(tensor: torch.Tensor) -> dict[str, Any]:
    return {"sha256": bytes_hash(tensor), "shape": list(tensor.shape), "dtype": str(tensor.dtype)}
