"""A training as it is asked for: by ``ltx-ray train``, here or on a Ray cluster."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ltx_ray.errors import UserError

Say = Callable[[str], None]
Stop = Callable[[], bool]
Kind = Literal["vae", "transformer", "audio-adapter"]
KINDS: tuple[Kind, ...] = ("vae", "transformer", "audio-adapter")
WORLD = "world"
# What may differ when a training goes on.
_MAY_CHANGE = ("output", "model", "steps", "minutes", "save_every", "preview_every", "data_workers")
_SIZE = re.compile(r"(\d+)x(\d+)x(\d+)")
# AdamW's and Muon's, from the built-in checkpoint's recipe; a real model that is only refined wants less.
_RATES: dict[Kind, float] = {"vae": 2e-3, "transformer": 3e-3, "audio-adapter": 3e-3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Width, height in pixels and length in frames of the clips of one set."""

    width: int
    height: int
    frames: int

    @classmethod
    def parse(cls, text: str) -> "Size":
        """``512x768x121``: width x height x frames. Raises UserError."""
        match = _SIZE.fullmatch(text)
        if match is None:
            raise UserError(f"a size must be WIDTHxHEIGHTxFRAMES, such as 768x512x121, got {text!r}")
        width, height, frames = (int(part) for part in match.groups())
        return cls(width=width, height=height, frames=frames)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """What ``ltx-ray train`` was told. All paths are absolute."""

    kind: Kind
    data: str  # "world", or a folder of videos with metadata.jsonl
    output: str
    model: str = "tiny"  # what is trained, or what the adapter is for
    steps: int = 1000
    minutes: float | None = None  # stop after so long; the same command goes on
    learning_rate: float | None = None  # None: by the kind
    sizes: tuple[Size, ...] = ()  # of a folder's clips
    tokens: int = 1200  # of a batch, about (transformer and adapter)
    batch: int = 4  # clips of a batch (VAE)
    precision: Literal["no", "bf16"] = "no"
    gradient_checkpointing: bool = False
    decoder_only: bool = False  # VAE: leave the encoder, and so all latents, as they are
    warm_steps: int = 0  # VAE: of a warm start from untrained weights
    # Go on from this adapter (None: a new one); a transformer with one is trained together with it.
    audio_adapter: str | None = None
    audio_dropout: float = 0.3  # where both are trained: part of the batches in which nothing is heard
    start_layer: int = 8
    end_layer: int = 12
    data_workers: int = 0  # processes that make batches; 0: the training's own
    seed: int = 0
    preview_every: int = 500
    save_every: int = 500
    fps: float = 24.0  # of a folder's clips

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"what is trained must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if self.precision not in ("no", "bf16"):
            raise UserError(f"precision must be no or bf16, got {self.precision!r}")
        if self.data != WORLD and not self.sizes:
            raise UserError(
                "clips of a folder need a size: add --size WIDTHxHEIGHTxFRAMES, such as --size 768x512x121"
            )
        if self.steps < 1:
            raise UserError(f"steps must be at least 1, got {self.steps}")
        if not 0 <= self.audio_dropout <= 1:
            raise UserError(f"audio_dropout must be within 0 and 1, got {self.audio_dropout}")

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for another process."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainRequest":
        """What ``to_dict`` made."""
        return cls(**values | {"sizes": tuple(Size(**size) for size in values["sizes"])})


def run(request: TrainRequest, say: Say, stop: Stop = lambda: False) -> dict[str, Any]:
    """Train what is asked for, in this process or as one of several; what was done and where it lies.

    OUTPUT/checkpoint is a whole checkpoint with the trained part, OUTPUT/export/audio_adapter.safetensors the
    adapter. ``stop``: as in ``fit``. Raises UserError and ModelError for what cannot be trained.
    """
    # Heavy imports after the request is known to be sound.
    from ltx_ray.models.checkpoint import resolve
    from ltx_ray.training.loop import LoopSettings

    checkpoint, output = resolve(request.model), Path(request.output)
    _claim(output, request, checkpoint.weights_hash())
    settings = LoopSettings(
        output=output,
        steps=request.steps,
        learning_rate=request.learning_rate or _RATES[request.kind],
        minutes=request.minutes,
        precision=request.precision,
        seed=request.seed,
        workers=request.data_workers,
        preview_every=request.preview_every,
        save_every=request.save_every,
    )
    train = _train_vae if request.kind == "vae" else _train_flow
    train(request, checkpoint, settings, say, stop)
    return done_by(request)


def _train_vae(request: TrainRequest, checkpoint: Any, settings: Any, say: Say, stop: Stop) -> None:
    from ltx_ray.models.assembly import with_part
    from ltx_ray.training.run import train_vae

    is_main = train_vae(
        checkpoint,
        settings,
        say,
        warm_steps=request.warm_steps,
        decoder_only=request.decoder_only,
        sources=None if request.data == WORLD else [each.source for each in _sources(request)],
        batch=request.batch,
        stop=stop,
    )
    if is_main:
        with_part(checkpoint.path, "vae", settings.output / "export", settings.output / "checkpoint")


def _train_flow(request: TrainRequest, checkpoint: Any, settings: Any, say: Say, stop: Stop) -> None:
    from ltx_ray.models.assembly import with_adapter, with_part
    from ltx_ray.models.weight_files import ADAPTER_FILE
    from ltx_ray.training.run import AdapterShape, train_flow
    from ltx_ray.training.window_data import WindowSettings

    assert request.kind != "vae"
    export, made = settings.output / "export", settings.output / "checkpoint"
    both = request.kind == "transformer" and request.audio_adapter is not None
    is_main = train_flow(
        checkpoint,
        _sources(request),
        "both" if both else request.kind,
        settings,
        WindowSettings(tokens=request.tokens, seed=request.seed),
        say,
        latents=settings.output / "latents",
        shape=AdapterShape(start_layer=request.start_layer, end_layer=request.end_layer),
        adapter_path=request.audio_adapter,
        audio_dropout=request.audio_dropout if both else 0.0,
        gradient_checkpointing=request.gradient_checkpointing,
        half=request.precision == "bf16",
        stop=stop,
    )
    if not is_main:
        return
    base = checkpoint.path
    if request.kind == "transformer":
        with_part(base, "transformer", export / "transformer", made)
        base = made
    if (export / ADAPTER_FILE).exists():
        with_adapter(base, export, made)


def done_by(request: TrainRequest) -> dict[str, Any]:
    """What stands in OUTPUT after a training, or a part of it."""
    output = Path(request.output)
    steps = json.loads((output / "progress.json").read_text(encoding="utf-8"))["steps"]
    made = {
        "kind": request.kind,
        "steps": steps,
        "of": request.steps,
        "checkpoint": str(output / "checkpoint"),
    }
    if request.kind == "audio-adapter" or request.audio_adapter is not None:
        made["audio_adapter"] = str(output / "export" / "audio_adapter.safetensors")
    return made


def _claim(output: Path, request: TrainRequest, model_hash: str) -> None:
    """Make OUTPUT this training's, or find that it is. Raises UserError where it is another's."""
    asked = {name: value for name, value in request.to_dict().items() if name not in _MAY_CHANGE}
    asked = json.loads(json.dumps(asked | {"model_hash": model_hash}))
    path = output / "training.json"
    if not path.exists():
        output.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asked, indent=2) + "\n", encoding="utf-8")
        return
    began = json.loads(path.read_text(encoding="utf-8"))
    changed = [name for name in asked if began.get(name) != asked[name]]
    if changed:
        differences = "; ".join(f"{name} was {began.get(name)!r}, now {asked[name]!r}" for name in changed)
        raise UserError(
            f"{output} holds a training that was begun otherwise ({differences}): give the first values "
            "to go on, or another --output"
        )


def _sources(request: TrainRequest) -> "Sequence[Any]":
    from ltx_ray.training.folder_data import FolderClips
    from ltx_ray.training.run import SizedSource, world_sources

    if request.data == WORLD:
        return world_sources()
    return [
        SizedSource(
            FolderClips(
                request.data, frames=size.frames, height=size.height, width=size.width, fps=request.fps
            ),
            1.0,
        )
        for size in request.sizes
    ]
