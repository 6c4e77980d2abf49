"""The three features together: sound, large frames and long videos, in one process.

    python examples/integration_example.py                      the built-in checkpoint, small, on a CPU
    python examples/integration_example.py --model Lightricks/LTX-Video --height 2160 --width 3840 \\
        --frames 360 --steps 50 --chunk-size 121 --overlap-frames 24

Writes the video, with its sound, to --output. Without --adapter the audio layers are untrained: their gates
are at zero, and the sound does not move the picture.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from ltx_ray.config import EncodingConfig
from ltx_ray.media.audio import read_audio
from ltx_ray.media.join import join_segments
from ltx_ray.media.segment import SegmentWriter
from ltx_ray.models.audio.audio_encoder import AudioEncoder
from ltx_ray.models.autoencoders.adaptive_vae_decoder import create_adaptive_decoder
from ltx_ray.models.autoencoders.vae_hierarchical import HierarchicalVAEEncoder
from ltx_ray.models.transformers.audio_adapter import AudioAdapter
from ltx_ray.models.transformers.audio_cross_attention import add_audio_cross_attention_to_transformer
from ltx_ray.pipelines.autoregressive_pipeline import (
    AutoregressiveVideoOutput,
    create_autoregressive_pipeline,
)
from ltx_ray.pipelines.pipeline_ltx_video import LTXVideoPipeline

BEAT = Path(__file__).parent / "assets" / "beat.flac"
FPS = 24.0


def main() -> None:
    options = parse()
    pipeline, audio_encoder = build(options)
    output = generate(pipeline, audio_encoder, options)
    save(output, options.audio, options.output)
    print(f"Generated {len(output.chunk_boundaries)} chunks")  # noqa: T201
    print(f"Boundaries at frames: {output.chunk_boundaries}")  # noqa: T201
    print(f"{len(output.frames[0])} frames in {options.output}")  # noqa: T201


def parse() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="tiny", help="tiny, a folder, or a hub id")
    parser.add_argument("--adapter", help="a trained audio adapter: file, folder or URL")
    parser.add_argument("--prompt", default="A cinematic journey through a futuristic city at night")
    parser.add_argument("--audio", default=str(BEAT), help="any file with sound")
    parser.add_argument("--frames", type=int, default=60, help="at 24 per second")
    parser.add_argument("--height", type=int, default=160)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--chunk-size", type=int, default=33)
    parser.add_argument("--overlap-frames", type=int, default=8)
    parser.add_argument("--output", type=Path, default=Path("out/integration_example.mp4"))
    return parser.parse_args()


def build(options: argparse.Namespace) -> tuple[LTXVideoPipeline, AudioEncoder]:
    """The pipeline that hears and decodes in tiles, and the encoder of its sound."""
    # 1. Load the base pipeline.
    pipeline = LTXVideoPipeline.from_pretrained(options.model)
    if torch.cuda.is_available():
        pipeline.to("cuda", torch.bfloat16)

    # 2. Let the transformer hear: layers 8 to 12.
    if options.adapter:
        adapter = AudioAdapter.from_pretrained(options.adapter)
        pipeline.transformer = adapter.attach(pipeline.transformer)
        audio_encoder = adapter.encoder
    else:
        pipeline.transformer = add_audio_cross_attention_to_transformer(
            pipeline.transformer, audio_latent_dim=128, start_layer=8, end_layer=12
        )
        audio_encoder = AudioEncoder(latent_channels=128)

    # 3. Decode large frames in tiles, within a budget of memory.
    hierarchical_encoder = HierarchicalVAEEncoder(
        in_channels=3,
        latent_channels=pipeline.vae.config.latent_channels,
        compression_levels=2,
        use_wavelet=True,
    )
    pipeline.vae.decoder = create_adaptive_decoder(
        vae=pipeline.vae, hierarchical_encoder=hierarchical_encoder, use_tiling=True
    )
    return pipeline, audio_encoder


def generate(
    pipeline: LTXVideoPipeline, audio_encoder: AudioEncoder, options: argparse.Namespace
) -> AutoregressiveVideoOutput:
    """A long video that hears ``options.audio``."""
    # 4. Long videos, chunk by chunk.
    autoregressive_pipeline = create_autoregressive_pipeline(
        base_pipeline=pipeline, chunk_size=options.chunk_size, overlap_frames=options.overlap_frames
    )

    # 5. The sound, encoded once for the whole video.
    seconds = options.frames / FPS
    waveform = torch.from_numpy(read_audio(options.audio, 0.0, seconds, audio_encoder.sample_rate))
    with torch.no_grad():
        audio_latents = audio_encoder(waveform)

    # 6. Generate.
    return autoregressive_pipeline.generate_long_video(
        prompt=options.prompt,
        total_frames=options.frames,
        height=options.height,
        width=options.width,
        num_inference_steps=options.steps,
        guidance_scale=3.0,
        audio_latents=audio_latents,
        seed=7,
    )


def save(output: AutoregressiveVideoOutput, audio: str, path: Path) -> None:
    """Write the first video of ``output`` with its sound."""
    encoding = EncodingConfig()
    frames = output.frames[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    segment = path.with_suffix(".segment.mp4")
    with SegmentWriter(segment, *frames[0].size, FPS, 0, encoding) as writer:
        for frame in frames:
            writer.write(np.asarray(frame))
    sound = read_audio(audio, 0.0, len(frames) / FPS, encoding.audio_rate)
    join_segments([segment], [len(frames)], path, FPS, sound, encoding)
    segment.unlink()


if __name__ == "__main__":
    main()
