"""The recipe of the built-in checkpoint: ``make train-tiny``, or ``python -m ltx_ray.training.tiny FOLDER``.

Each stage is one of the trainings that ``ltx-ray train`` offers, and begins with what the one before left:
untrained weights and the text encoder; the VAE; its decoder alone; the transformer; the audio adapter; both
together; and the shipped form. The same command goes on after an interruption. All of it takes some six hours
of a core; for two, give each stage apart to ``torchrun --nproc-per-node 2 -m ltx_ray.training.tiny``.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from ltx_ray.models.assembly import with_adapter, with_part
from ltx_ray.models.build_tiny import parameters_of, ship, start
from ltx_ray.models.checkpoint import resolve
from ltx_ray.models.tiny_text import make_text_encoder, make_tokenizer
from ltx_ray.models.transformers.audio_adapter import AudioAdapter
from ltx_ray.training.flow import Trained
from ltx_ray.training.loop import LoopSettings
from ltx_ray.training.run import AdapterShape, train_flow, train_vae, world_onsets, world_sources
from ltx_ray.training.text import train_text_encoder
from ltx_ray.training.tiny_card import card
from ltx_ray.training.window_data import WindowSettings

# Layers 8 to 12 hear, as in any adapter; the encoder is a quarter as wide as a real one's.
SHAPE = AdapterShape(start_layer=8, end_layer=12, heads=4, latent_channels=64, hidden_channels=96)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Steps of each stage."""

    text_steps: int = 300
    vae_warm_steps: int = 400
    vae_steps: int = 3_400
    decoder_steps: int = 2_400
    transformer_steps: int = 4_400
    adapter_steps: int = 1_500
    together_steps: int = 2_700
    world_scale: float = 1.0

    def scaled(self, scale: float) -> "Recipe":
        """``scale`` times as many steps and scenes: a fraction shows that the recipe runs."""
        return Recipe(
            **{name: max(2, round(getattr(self, name) * scale)) for name in _STEPS}, world_scale=scale
        )


_STEPS = tuple(field.name for field in fields(Recipe) if field.name.endswith("_steps"))
# What both trainings of the VAE have in common, and those of the transformer and the adapter.
_VAE: dict[str, Any] = {"warmup_steps": 30, "ema": 0.995, "precision": "bf16"}
_FLOW: dict[str, Any] = {"warmup_steps": 60, "decay": 0.5}
_STAGES = ("start", "vae", "decoder", "transformer", "adapter", "together", "ship")


class TinyTraining:
    """The stages, in a folder; each method is one, and goes on where it was interrupted."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self._folder, self._recipe = folder, recipe

    def run(self) -> Path:
        """All stages; the folder of the checkpoint as it is shipped."""
        self.start()
        self.vae()
        self.decoder()
        self.transformer()
        self.adapter()
        self.together()
        return self.ship()

    def start(self) -> None:
        """Untrained weights, and a text encoder that knows the world's words."""
        target = self._folder / "0-start"
        if target.exists():
            return
        making = self._folder / "0-making"
        shutil.rmtree(making, ignore_errors=True)
        start(making)
        tokenizer = make_tokenizer()
        encoder = make_text_encoder(len(tokenizer), seed=2)
        right = train_text_encoder(tokenizer, encoder, self._recipe.text_steps, _say)
        _say(f"text encoder: {right:.1%} of what prompts say is read from them")
        encoder.save_pretrained(making / "text_encoder")
        making.rename(target)

    def vae(self) -> None:
        """The VAE, from a warm start."""
        settings = self._loop("vae", self._recipe.vae_steps, 2e-3, decay=0.6, **_VAE)
        base = self._folder / "0-start"
        train_vae(resolve(str(base)), settings, _say, warm_steps=self._recipe.vae_warm_steps)
        _once(lambda: with_part(base, "vae", settings.output / "export", self._folder / "1-vae"))

    def decoder(self) -> None:
        """The VAE's decoder alone, on latents that stay as they are: another 2 dB."""
        settings = self._loop("decoder", self._recipe.decoder_steps, 1.2e-3, decay=0.8, seed=5, **_VAE)
        base = self._folder / "1-vae"
        train_vae(resolve(str(base)), settings, _say, decoder_only=True)
        _once(lambda: with_part(base, "vae", settings.output / "export", self._folder / "2-decoder"))

    def transformer(self) -> None:
        """The transformer, on the world's latents."""
        base = self._folder / "2-decoder"
        settings = self._loop("transformer", self._recipe.transformer_steps, 3e-3, **_FLOW)
        self._train_flow(base, "transformer", settings, WindowSettings())
        made = settings.output / "export" / "transformer"
        _once(lambda: with_part(base, "transformer", made, self._folder / "3-transformer"))

    def adapter(self) -> None:
        """The audio adapter, on the frozen transformer."""
        base = self._folder / "3-transformer"
        settings = self._loop("audio_adapter", self._recipe.adapter_steps, 3e-3, **_FLOW)
        self._train_flow(
            base, "audio-adapter", settings, WindowSettings(seed=1), shape=SHAPE, onsets=world_onsets()
        )
        _once(lambda: with_adapter(base, settings.output / "export", self._folder / "4-audio"))

    def together(self) -> None:
        """Transformer and adapter, which is heard in seven batches of ten."""
        base = self._folder / "4-audio"
        settings = self._loop("together", self._recipe.together_steps, 3e-3, warmup_steps=100, decay=0.8)
        self._train_flow(
            base,
            "both",
            settings,
            WindowSettings(seed=2),
            adapter_path=str(base),
            audio_dropout=0.3,
            onsets=world_onsets(),
        )
        made, target = settings.output / "export", self._folder / "5-together"
        _once(lambda: with_part(base, "transformer", made / "transformer", target))
        _once(lambda: with_adapter(target, made, target))

    def ship(self) -> Path:
        """The checkpoint as the package has it: bfloat16, one adapter, a card, and what it was trained on."""
        base, target = self._folder / "5-together", self._folder / "tiny"
        shutil.rmtree(target, ignore_errors=True)
        ship(resolve(str(base)), AudioAdapter.from_pretrained(base), card(parameters_of(base)), target)
        sources = world_sources(self._recipe.world_scale)
        facts = {
            "recipe": {name: getattr(self._recipe, name) for name in (*_STEPS, "world_scale")},
            "data": [each.source.fingerprint for each in sources],
            "torch": torch.__version__,
        }
        (target / "training.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        _say(f"{target}: {sum(path.stat().st_size for path in target.rglob('*') if path.is_file()):,} bytes")
        return target

    def _loop(self, name: str, steps: int, rate: float, **values: Any) -> LoopSettings:
        return LoopSettings(output=self._folder / name, steps=steps, learning_rate=rate, **values)

    def _train_flow(
        self,
        base: Path,
        what: Trained,
        settings: LoopSettings,
        windows: WindowSettings,
        **more: Any,
    ) -> None:
        """On the world's scenes, whose latents both trainings share."""
        sources = world_sources(self._recipe.world_scale)
        latents = self._folder / "latents"
        train_flow(resolve(str(base)), sources, what, settings, windows, _say, latents=latents, **more)


def _once(make: Callable[[], None]) -> None:
    """By the first of all processes, before any goes on."""
    state = PartialState()
    if state.is_main_process:
        make()
    state.wait_for_everyone()


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def main(arguments: Sequence[str] | None = None) -> None:
    """Train into the folder named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m ltx_ray.training.tiny", description=__doc__)
    parser.add_argument("folder", type=Path, help="where all stages are kept; the checkpoint is FOLDER/tiny")
    parser.add_argument("--scale", type=float, default=1.0, help="of all steps; 0.001 shows that it runs")
    parser.add_argument("--stage", choices=_STAGES, help="only this")
    asked = parser.parse_args(arguments)
    torch.set_flush_denormal(True)
    recipe = Recipe() if asked.scale == 1 else Recipe().scaled(asked.scale)
    training = TinyTraining(asked.folder, recipe)
    made = getattr(training, asked.stage)() if asked.stage else training.run()
    sys.stdout.write(f"{made or asked.folder}\n")


if __name__ == "__main__":
    main()
