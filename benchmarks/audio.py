"""What the audio layers cost: ``python benchmarks/audio.py [--json]``.

Work is counted with torch's FlopCounterMode on meta tensors, for the real 2B configuration (five layers, 121
frames); time is measured side by side on the built-in checkpoint, on this machine.
"""

import argparse
import json
import statistics
import sys
import time
from typing import Any

import torch
from diffusers import LTXVideoTransformer3DModel
from torch.utils.flop_counter import FlopCounterMode

from ltx_ray.models.audio.alignment import AudioContext, AudioTrack, audio_context, latent_span, window_size
from ltx_ray.models.checkpoint import resolve
from ltx_ray.models.transformers.audio_cross_attention import add_audio_cross_attention_to_transformer
from ltx_ray.planning.geometry import Ratios, latents_of

FPS, FRAMES, RATIOS = 24.0, 121, Ratios()
SIZES = {"512x768": (16, 24), "1088x1920": (34, 60), "2176x3840": (68, 120)}  # cells
ROUNDS = 7


def context(latents: int, tokens: torch.Tensor) -> AudioContext:
    """The windows of a video of ``latents`` latents."""
    spans = [latent_span(latent, FPS, RATIOS) for latent in range(latents)]
    return audio_context(AudioTrack.of(tokens), spans, window_size(FPS, RATIOS, 25.0))


def inputs(transformer: Any, rows: int, columns: int, device: str) -> dict[str, Any]:
    """Arguments of one forward at batch 1."""
    latents, config = latents_of(FRAMES, RATIOS), transformer.config
    with torch.device(device):
        return {
            "hidden_states": torch.zeros(1, latents * rows * columns, config.in_channels),
            "encoder_hidden_states": torch.zeros(1, 128, config.caption_channels),
            "timestep": torch.zeros(1),
            "encoder_attention_mask": torch.ones(1, 128),
            "num_frames": latents,
            "height": rows,
            "width": columns,
            "return_dict": False,
        }


def work() -> list[dict[str, Any]]:
    """TFLOP of one pass of the 2B transformer, without and with audio."""
    with torch.device("meta"):
        transformer = LTXVideoTransformer3DModel().eval()
        add_audio_cross_attention_to_transformer(transformer)
    heard = context(latents_of(FRAMES, RATIOS), torch.zeros(1, 140, 128))
    heard = AudioContext(*(part.to("meta") for part in heard))
    rows = []
    for size, cells in SIZES.items():
        counts = []
        for audio in (None, heard):
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                transformer(**inputs(transformer, *cells, "meta"), audio=audio)
            counts.append(counter.get_total_flops() / 1e12)
        rows.append({"size": size, "tflop": counts[0], "more": counts[1] / counts[0] - 1})
    return rows


@torch.inference_mode()
def seconds(size: int) -> dict[str, Any]:
    """Seconds of one pass of the built-in transformer at ``size`` x ``size`` pixels, in turns."""
    transformer = resolve("tiny").load_transformer(torch.float32, "cpu")
    add_audio_cross_attention_to_transformer(transformer)
    given = inputs(transformer, size // 32, size // 32, "cpu")
    heard = context(latents_of(FRAMES, RATIOS), torch.zeros(1, 140, 128))
    taken: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(ROUNDS):
        for hears in taken:
            start = time.perf_counter()
            transformer(**given, audio=heard if hears else None)
            taken[hears].append(time.perf_counter() - start)
    deaf, hearing = (statistics.median(taken[hears]) for hears in (False, True))
    return {"size": f"{size}x{size}", "seconds": deaf, "more": hearing / deaf - 1}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    options = parser.parse_args()
    counted, timed = work(), [seconds(size) for size in (256, 512)]
    if options.json:
        sys.stdout.write(json.dumps({"work": counted, "time": timed}, indent=1) + "\n")
        return
    lines = [f"2B, {row['size']:>9}: {row['tflop']:7.1f} TFLOP, audio {row['more']:+.2%}" for row in counted]
    lines += [f"tiny, {row['size']:>7}: {row['seconds']:7.3f} s, audio {row['more']:+.1%}" for row in timed]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
