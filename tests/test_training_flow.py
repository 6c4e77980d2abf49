"""Flow matching: it learns, the adapter alone changes where it alone is trained, dropout is what it says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import LTXVideoTransformer3DModel
from small_transformer import AUDIO, CHANNELS, RATIOS, hearing_transformer, random, small_transformer

from ltx_ray.models.audio.audio_encoder import AudioEncoder
from ltx_ray.models.transformers.audio_adapter import AudioAdapter
from ltx_ray.training.flow import FlowObjective
from ltx_ray.training.latents import LatentClips, TextTable
from ltx_ray.training.loop import LoopSettings, fit
from ltx_ray.training.window_data import WindowBatches, WindowSettings

COUNT, LATENTS, ROWS, COLUMNS = 6, 6, 2, 3
PROMPTS = [f"clip {index}" for index in range(COUNT)]


def clips() -> LatentClips:
    sounds = (8000 * random(9, COUNT, 27_334)).clamp(-32767, 32767).to(torch.int16)
    return LatentClips(
        latents=random(8, COUNT, CHANNELS, LATENTS, ROWS, COLUMNS).half(),
        sounds=sounds,
        sample_rate=16_000,
        fps=24.0,
        prompts=PROMPTS,
    )


def texts() -> TextTable:
    names = ["", *PROMPTS]
    return TextTable(
        index={name: row for row, name in enumerate(names)},
        embeds=random(4, len(names), 5, 16),
        masks=torch.ones(len(names), 5, dtype=torch.bool),
    )


def data(**changes: Any) -> WindowBatches:
    return WindowBatches([clips()], [1.0], texts(), 10_000, WindowSettings(tokens=200, **changes))


def objective(what: Any, **changes: Any) -> FlowObjective:
    transformer: Any = small_transformer()
    adapter = None
    if what != "transformer":
        transformer = hearing_transformer(opened=False, dropout=0.0)
        encoder = AudioEncoder(latent_channels=AUDIO, hidden_channels=16)
        adapter = AudioAdapter.of(transformer, encoder)
    return FlowObjective(
        transformer, adapter, what, rope="causal", ratios=RATIOS, preview=lambda *_: {}, **changes
    )


def settings(output: Path, steps: int, rate: float = 5e-3) -> LoopSettings:
    return LoopSettings(output=output, steps=steps, learning_rate=rate, warmup_steps=5, log_every=steps)


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_it_learns_what_it_is_shown(tmp_path: Path) -> None:
    made = objective("transformer")
    shown = data(text_dropout=0.0)
    batches = [shown[step] for step in range(20)]
    with torch.no_grad():
        before = np.mean([float(made(batch, 0, draw(i))["loss"]) for i, batch in enumerate(batches)])
    fit(made, shown, settings(tmp_path, 60), lambda _: None)
    with torch.no_grad():
        after = np.mean([float(made(batch, 0, draw(i))["loss"]) for i, batch in enumerate(batches)])
    assert after < 0.8 * before


def test_an_adapter_is_trained_alone_and_becomes_one_file(tmp_path: Path) -> None:
    made = objective("audio-adapter")
    base = {
        name: weight.clone()
        for name, weight in made.transformer.state_dict().items()
        if "audio_attn" not in name
    }
    first = {name: weight.clone() for name, weight in made.trained.state_dict().items()}
    fit(made, data(), settings(tmp_path, 8), lambda _: None)
    for name, weight in base.items():
        assert torch.equal(weight, made.transformer.state_dict()[name]), name
    changed = [
        name for name, weight in made.trained.state_dict().items() if not torch.equal(weight, first[name])
    ]
    assert any(name.endswith(".gate") for name in changed)
    assert any("encoder.conv_in" in name for name in changed)  # from the second step on, when gates are open
    saved = AudioAdapter.from_pretrained(tmp_path / "export")
    assert [path.name for path in (tmp_path / "export").iterdir()] == ["audio_adapter.safetensors"]
    adapted = saved.attach(small_transformer())
    assert max(float(block.gate.abs().max()) for block in adapted.audio_blocks().values()) > 0


def test_both_are_trained_together_and_written_apart(tmp_path: Path) -> None:
    made = objective("both", audio_dropout=0.5)
    first = {name: weight.clone() for name, weight in made.transformer.state_dict().items()}
    fit(made, data(), settings(tmp_path, 8), lambda _: None)
    changed = {
        name for name, weight in made.transformer.state_dict().items() if (weight != first[name]).any()
    }
    assert any("audio_attn" in name for name in changed)
    assert any("audio_attn" not in name for name in changed)
    alone = LTXVideoTransformer3DModel.from_pretrained(tmp_path / "export" / "transformer")
    assert "audio_layers" not in alone.config
    assert AudioAdapter.from_pretrained(tmp_path / "export").attach(alone).audio_blocks()


def test_silence_by_dropout_is_the_base_model() -> None:
    batch = data()[0]
    with torch.no_grad():
        hears = objective("both")
        for block in hears.adapter.blocks.values():  # type: ignore[union-attr]
            block.gate.fill_(1.0)
        deaf = objective("both", audio_dropout=1.0)
        alone = objective("transformer")
        losses = [float(each(batch, 0, draw())["loss"]) for each in (hears, deaf)]
        assert losses[0] != losses[1]
        # Equal noise: whether something is heard is drawn after it.
        assert losses[1] == pytest.approx(float(alone(batch, 0, draw())["loss"]), abs=1e-6)


def test_text_dropout_shows_the_empty_prompt() -> None:
    table = texts()
    shown = torch.cat([data(text_dropout=0.25)[step]["embeds"] for step in range(60)])
    empty = (shown == table.embeds[0]).flatten(1).all(1)
    assert 0.15 < float(empty.float().mean()) < 0.35
    never = torch.cat([data(text_dropout=0.0)[step]["embeds"] for step in range(10)])
    assert not (never == table.embeds[0]).flatten(1).all(1).any()


def test_processes_of_one_step_have_windows_of_one_layout_with_clips_of_their_own() -> None:
    shown = data(processes=2)
    steps = [(shown[2 * step], shown[2 * step + 1]) for step in range(12)]
    assert all(one["layout"] == other["layout"] for one, other in steps)
    assert len({repr(one["layout"]) for one, _ in steps}) > 1
    assert not any(torch.equal(one["sound"], other["sound"]) for one, other in steps)


def test_batches_are_a_function_of_their_step() -> None:
    for step in (0, 7):
        one, other = data()[step], data()[step]
        assert one["layout"] == other["layout"]
        assert torch.equal(one["latents"], other["latents"])
        assert torch.equal(one["sound"], other["sound"])
    assert not torch.equal(data()[0]["embeds"][:1], data(seed=1)[0]["embeds"][:1])
