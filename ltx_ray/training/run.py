"""The trainings that ``ltx-ray train`` runs: each loads a checkpoint, prepares data, trains, and exports."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from ltx_ray.models.audio.audio_encoder import AudioEncoder
from ltx_ray.models.checkpoint import Checkpoint
from ltx_ray.models.presets import find_preset
from ltx_ray.models.transformers.audio_adapter import AudioAdapter
from ltx_ray.models.transformers.audio_cross_attention import add_audio_cross_attention_to_transformer
from ltx_ray.training.clips import ClipSource
from ltx_ray.training.flow import FlowObjective, Trained
from ltx_ray.training.latents import encode_clips, encode_texts
from ltx_ray.training.loop import LoopSettings, fit
from ltx_ray.training.preview import Preview
from ltx_ray.training.vae import VaeObjective
from ltx_ray.training.window_data import WindowBatches, WindowSettings
from ltx_ray.training.world import scene
from ltx_ray.training.world_data import FPS, Bucket, ClipBatches, WorldClips, WorldSource, example_clips

Say = Callable[[str], None]
Stop = Callable[[], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterShape:
    """A new audio adapter: which layers hear, and how large its encoder is."""

    start_layer: int = 8
    end_layer: int = 12
    heads: int = 8
    latent_channels: int = 128
    hidden_channels: int = 256


@dataclass(frozen=True, slots=True)
class SizedSource:
    """Clips of one size, and how often they are drawn."""

    source: ClipSource
    share: float
    alike: int = 1  # clips in a row whose prompts differ in one word, and whose pictures in what it means


# Clips that a VAE's previews show and are measured on, and those by which a warm start is scaled.
_EXAMPLES = ((6, Bucket(1, 17, 96, 96)), (4, Bucket(1, 17, 128, 128)), (2, Bucket(1, 17, 192, 192)))
_WARM = Bucket(48, 17, 64, 64)

_FIRST_SCENE = 2_000_000  # behind those of the VAE's previews and batches
# Scenes of the world by size: about three hours of video. By the shares, windows of all sizes are common;
# large frames are short, so that they cost no more than small ones. Half of the windows are of short clips
# that come in pairs, alike but for their shapes, of sizes at which the VAE keeps corners: a square is but a
# little of a picture away from a circle, and without its pair that is lost in the noise of all else.
_WORLD = (
    # count, frames, height, width, share, alike
    (1600, 57, 96, 96, 0.11, 1),
    (300, 121, 96, 96, 0.05, 1),
    (300, 161, 96, 96, 0.07, 1),
    (450, 57, 128, 128, 0.06, 1),
    (100, 121, 128, 128, 0.04, 1),
    (350, 57, 96, 160, 0.03, 1),
    (200, 57, 160, 96, 0.03, 1),
    (200, 41, 192, 192, 0.04, 1),
    (80, 41, 192, 320, 0.02, 1),
    (80, 121, 160, 256, 0.02, 1),
    (120, 9, 384, 640, 0.02, 1),
    (30, 9, 704, 1280, 0.01, 1),
    (1200, 17, 128, 128, 0.16, 2),
    (400, 17, 128, 192, 0.08, 2),
    (400, 17, 192, 128, 0.08, 2),
    (800, 17, 192, 192, 0.15, 2),
    (160, 17, 192, 320, 0.03, 2),
)


def world_sources(scale: float = 1.0) -> list[SizedSource]:
    """The world's scenes for the transformer; ``scale`` times as many."""
    first, made = _FIRST_SCENE, []
    for count, frames, height, width, share, alike in _WORLD:
        number = max(8, round(count * scale))
        number -= number % alike
        source = WorldSource(number, frames, height, width, first, paired=alike == 2)
        made.append(SizedSource(source, share, alike))
        first += 100_000
    return made


def train_vae(
    checkpoint: Checkpoint,
    settings: LoopSettings,
    say: Say,
    *,
    warm_steps: int = 0,
    decoder_only: bool = False,
    sources: Sequence[ClipSource] | None = None,
    batch: int = 4,
    stop: Stop = lambda: False,
) -> bool:
    """Train the checkpoint's VAE on the world, or on batches of ``sources``.

    Returns whether this process is the main one.
    """
    device = _device()
    vae = checkpoint.load_vae(torch.float32, device).to(memory_format=torch.channels_last_3d)
    vae.requires_grad_(True).train()
    if sources is None:
        data: Any = WorldClips(_data_steps(settings), settings.seed)
        examples = [clip for count, size in _EXAMPLES for clip in example_clips(count, size)]
        warm = WorldClips(1, settings.seed + 1, (_WARM,))[0]["clips"] if warm_steps else None
    else:
        data = ClipBatches(sources, batch, _data_steps(settings), settings.seed)
        examples = [source[index].pixels for source in sources for index in range(min(4, len(source)))]
        warm = torch.cat([data[step]["clips"] for step in range(8)]) if warm_steps else None
    objective = VaeObjective(
        vae,
        [clip.to(device) for clip in examples],
        warm_clips=warm,
        warm_steps=warm_steps,
        decoder_only=decoder_only,
    )
    return fit(objective, data, settings, say, stop=stop)


def train_flow(
    checkpoint: Checkpoint,
    sources: Sequence[SizedSource],
    what: Trained,
    settings: LoopSettings,
    windows: WindowSettings,
    say: Say,
    *,
    latents: Path,
    shape: AdapterShape | None = None,
    adapter_path: str | None = None,
    audio_dropout: float = 0.0,
    onsets: Sequence[Sequence[float]] = (),
    gradient_checkpointing: bool = False,
    half: bool = False,
    stop: Stop = lambda: False,
) -> bool:
    """Train the transformer, an audio adapter on a frozen one (new, or begun at ``adapter_path``), or both.

    Returns whether this process is the main one.

    ``latents``: a folder for what the VAE makes of the clips. ``half``: the text encoder and a frozen
    transformer are kept in bfloat16. ``audio_dropout``: as in ``FlowObjective``.
    """
    device = _device()
    # Of several processes the first one makes the files, the others read them.
    with PartialState(cpu=device.type == "cpu").main_process_first():
        encoded = encode_clips(checkpoint, [each.source for each in sources], latents, device, say)
    prompts = sorted({prompt for clips in encoded for prompt in clips.prompts})
    texts = encode_texts(checkpoint, prompts, device, torch.bfloat16 if half else torch.float32)
    dtype = torch.bfloat16 if half and what == "audio-adapter" else torch.float32
    transformer: Any = checkpoint.load_transformer(dtype, device)
    adapter = None
    if what != "transformer":
        transformer, adapter = _with_adapter(transformer, shape or AdapterShape(), adapter_path)
        adapter.requires_grad_(True).float().train()
    transformer.train(what != "audio-adapter")
    if gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    preview = Preview(checkpoint=checkpoint, clips=encoded[0], texts=texts, onsets=onsets)
    objective = FlowObjective(
        transformer,
        adapter,
        what,
        rope=find_preset(checkpoint).rope,
        ratios=checkpoint.ratios(),
        preview=preview,
        audio_dropout=audio_dropout,
    )
    shares = [each.share for each in sources]
    windows = replace(windows, processes=PartialState().num_processes)
    alike = [each.alike for each in sources]
    batches = WindowBatches(encoded, shares, texts, _data_steps(settings), windows, alike)
    return fit(objective, batches, settings, say, stop=stop)


def world_onsets(count: int = 8) -> list[list[float]]:
    """When the first scenes of ``world_sources`` sound, in seconds."""
    seconds = _WORLD[0][1] / FPS
    return [list(scene(_FIRST_SCENE + index, seconds).onsets) for index in range(count)]


def _with_adapter(transformer: Any, shape: AdapterShape, path: str | None) -> tuple[Any, AudioAdapter]:
    if path is not None:
        saved = AudioAdapter.from_pretrained(path)
        adapted = saved.attach(transformer)
        return adapted, AudioAdapter.of(adapted, saved.encoder)
    adapted = add_audio_cross_attention_to_transformer(
        transformer,
        shape.latent_channels,
        shape.start_layer,
        shape.end_layer,
        num_heads=shape.heads,
        dropout=0.0,
    )
    encoder = AudioEncoder(latent_channels=shape.latent_channels, hidden_channels=shape.hidden_channels)
    return adapted, AudioAdapter.of(adapted, encoder.to(next(transformer.parameters()).device))


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _data_steps(settings: LoopSettings) -> int:
    """Batches that there are to draw from: one for every step of every process."""
    return settings.steps * 1024
