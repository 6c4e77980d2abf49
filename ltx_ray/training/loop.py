"""The training loop: any objective, on a CPU, a GPU or several, and again from where it stopped.

Batches and noise are functions of the step alone, so a resumed training sees what an unbroken one would.
State is in ``OUTPUT/state`` (accelerate's format), figures are in ``OUTPUT/log.csv`` and, where tensorboard
is installed, ``OUTPUT/tensorboard``; pictures in ``OUTPUT/previews``; weights as they are used in
``OUTPUT/export``.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset

from ltx_ray.errors import UserError
from ltx_ray.training.log import TrainingLog

Batch = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings:
    """How long and how an objective is trained."""

    output: Path  # a folder of this training alone
    steps: int  # optimizer steps, those of earlier calls included
    learning_rate: float
    minutes: float | None = None  # stop, able to go on, after so long; None: no limit
    warmup_steps: int = 50  # in which the learning rate rises from 0
    decay: float = 0.5  # last part of the steps, in which the learning rate falls linearly to 1/50
    ema: float = 0.998  # of the weights that are exported and shown in previews
    max_gradient_norm: float = 1.0
    precision: Literal["no", "bf16"] = "no"  # autocast; weights and optimizer stay float32
    seed: int = 0
    log_every: int = 25
    save_every: int = 500  # steps
    preview_every: int = 500  # steps
    workers: int = 0  # processes that make batches; 0: this one

    def __post_init__(self) -> None:
        if self.steps < 1 or self.learning_rate <= 0:
            raise UserError(
                f"training needs at least one step and a learning rate above 0, "
                f"got {self.steps} and {self.learning_rate}"
            )

    def rate(self, step: int) -> float:
        """The learning rate of step 0, 1, ...: linear warm-up, constant, linear decay."""
        rising = min(1.0, (step + 1) / self.warmup_steps)
        left = (self.steps - step) / max(self.decay * self.steps, 1)
        return self.learning_rate * rising * max(0.02, min(1.0, left))


class Objective(Protocol):
    """What is trained and how good it is."""

    trained: nn.Module  # the weights that change; the rest of the objective is frozen
    skips: bool  # whether a batch may leave some of them out

    def __call__(self, batch: Batch, step: int, draw: torch.Generator) -> dict[str, Tensor]:
        """Figures of a batch, each a scalar; ``loss`` is what is minimised. ``draw``: all that is random."""
        ...

    def optimizers(self, rate: float) -> list[torch.optim.Optimizer]:
        """Optimizers of all trained weights."""
        ...

    def preview(self, trained: nn.Module, path: Path) -> dict[str, float]:
        """Draws what ``trained`` (averaged weights) can do, and measures it."""
        ...

    def export(self, trained: nn.Module, folder: Path) -> None:
        """Saves the weights as they are used."""
        ...


def fit(
    objective: Any,
    data: Dataset[Batch],
    settings: LoopSettings,
    say: Callable[[str], None],
    *,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Train ``objective`` (a Module that is an Objective) up to ``settings.steps``.

    ``data[step]`` is the batch of a step. A GPU is used where there is one. The export is written to
    ``OUTPUT/export`` at each save, with averaged weights. ``stop`` is asked after each step: where it is true
    all is saved, to be gone on from. Returns whether this process is the main one.
    """
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        project_dir=str(settings.output),
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=objective.skips)],
    )
    torch.manual_seed(settings.seed + accelerator.process_index)
    objective.to(accelerator.device)
    optimizers = objective.optimizers(settings.learning_rate)
    average = _Average(objective.trained, settings.ema)
    model, *optimizers = accelerator.prepare(objective, *optimizers)
    accelerator.register_for_checkpointing(average)
    state = settings.output / "state"
    if state.exists():
        accelerator.load_state(str(state))
        say(f"going on from step {average.steps} of {settings.steps}")
    loop = _Loop(accelerator, model, objective, optimizers, average, settings, say)
    loop.run(data, stop)
    return bool(accelerator.is_main_process)


class _Average(nn.Module):
    """The moving average of the trained weights, with a short memory at first; counts the steps."""

    def __init__(self, trained: nn.Module, decay: float) -> None:
        super().__init__()
        self._model = AveragedModel(trained, multi_avg_fn=self._averaged)
        self._decay = decay

    @property
    def module(self) -> nn.Module:
        return self._model.module

    @property
    def steps(self) -> int:
        return int(self._model.n_averaged)

    def update(self, trained: nn.Module) -> None:
        self._model.update_parameters(trained)

    @torch.no_grad()
    def _averaged(self, averaged: Any, current: Any, count: Any) -> None:
        decay = min(self._decay, (1 + float(count)) / (10 + float(count)))
        torch._foreach_lerp_(averaged, current, 1 - decay)


class _Loop:
    def __init__(
        self,
        accelerator: Accelerator,
        model: Any,
        objective: Any,
        optimizers: list[Any],
        average: _Average,
        settings: LoopSettings,
        say: Callable[[str], None],
    ) -> None:
        self._accelerator, self._model, self._objective = accelerator, model, objective
        self._optimizers, self._average, self._settings, self._say = optimizers, average, settings, say
        self._log = TrainingLog(settings.output) if accelerator.is_main_process else None

    def run(self, data: Dataset[Batch], stop: Callable[[], bool]) -> None:
        settings, began = self._settings, time.monotonic()
        sums: dict[str, list[float]] = {}  # values since the last report; not every batch has every figure
        lapped = began
        for step, batch in self._batches(data):
            figures = self._step(batch, step)
            for name, value in figures.items():
                sums.setdefault(name, []).append(value)
            done = step + 1
            if done % settings.log_every == 0:
                now = time.monotonic()
                row = {name: sum(values) / len(values) for name, values in sums.items()}
                self._report(done, row | {"seconds": (now - lapped) / settings.log_every})
                sums, lapped = {}, now
            late = stop() or (
                settings.minutes is not None and time.monotonic() - began > 60 * settings.minutes
            )
            ended = late or done == settings.steps
            if ended or done % settings.preview_every == 0:
                self._preview(done)
            if ended or done % settings.save_every == 0:
                self._save()
            if late:
                break

    def _batches(self, data: Dataset[Batch]) -> Iterator[tuple[int, Batch]]:
        """Steps that are left with their batches; each process has batches of its own."""
        accelerator = self._accelerator
        steps = range(self._average.steps, self._settings.steps)
        indices = [step * accelerator.num_processes + accelerator.process_index for step in steps]
        loader = DataLoader(data, batch_size=None, sampler=indices, num_workers=self._settings.workers)
        for step, batch in zip(steps, loader, strict=True):
            yield step, _moved(batch, accelerator.device)

    def _step(self, batch: Batch, step: int) -> dict[str, float]:
        accelerator, settings = self._accelerator, self._settings
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = settings.rate(step)
        # Not accelerate's: its precision is one for the whole process.
        half = settings.precision == "bf16"
        with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=half):
            figures = self._model(batch, step, self._draw(step))
        accelerator.backward(figures["loss"])
        weights = [weight for weight in self._objective.trained.parameters() if weight.requires_grad]
        norm = accelerator.clip_grad_norm_(weights, settings.max_gradient_norm)
        for optimizer in self._optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self._average.update(self._objective.trained)
        return {name: float(value.detach()) for name, value in figures.items()} | {"gradient": float(norm)}

    def _draw(self, step: int) -> torch.Generator:
        """Random numbers (drawn on the CPU) of a step and a process alone, whatever came before."""
        number = step * self._accelerator.num_processes + self._accelerator.process_index
        return torch.Generator().manual_seed(self._settings.seed << 40 | number)

    def _report(self, step: int, row: dict[str, float]) -> None:
        if self._log is not None:
            self._log.add(step, row | {"learning_rate": self._settings.rate(step - 1)})
            self._say(f"step {step}: " + "  ".join(f"{name} {value:.4g}" for name, value in row.items()))

    def _preview(self, step: int) -> None:
        if self._log is None:
            return
        path = self._settings.output / "previews" / f"{step:07d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        figures = self._objective.preview(self._average.module, path)
        self._log.add_preview(step, figures, path)
        self._say(f"step {step}: " + "  ".join(f"{name} {value:.4g}" for name, value in figures.items()))

    def _save(self) -> None:
        """Export and state. A training that is killed while it saves goes on from the state before."""
        output, accelerator = self._settings.output, self._accelerator
        accelerator.save_state(str(output / "state.new"))
        if accelerator.is_main_process:
            if (output / "state").exists():
                (output / "state").rename(output / "state.old")
            (output / "state.new").rename(output / "state")
            shutil.rmtree(output / "state.old", ignore_errors=True)
            self._objective.export(self._average.module, output / "export")
            progress = {"steps": self._average.steps, "of": self._settings.steps}
            (output / "progress.json").write_text(json.dumps(progress) + "\n", encoding="utf-8")
        accelerator.wait_for_everyone()


def _moved(batch: Batch, device: torch.device) -> Batch:
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}
