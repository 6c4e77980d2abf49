"""What cannot be right never becomes a chunk or a segment: NaN latents, black and frozen pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planned import shot_of

from actors.assembler import Assembler
from actors.conditioner import Conditioner
from actors.denoiser import Denoiser
from actors.work import Failure
from ltx_ray.config import RenderConfig
from ltx_ray.planning.plan import plan_shot
from ltx_ray.run import RunSpec
from ltx_ray.types import Artefact, Job, ShotPlan, Slab, Stage


def decided(out: Path, *settings: str) -> tuple[RunSpec, ShotPlan]:
    run = RunSpec.decide(
        RenderConfig.load(None, ("sampling.num_inference_steps=2", *settings)), str(out), "cpu"
    )
    return run, plan_shot(shot_of(17, 64, 64), run.plan_settings())


def outcome(actor: Any, plan: ShotPlan, stage: Stage, *inputs: Any) -> Any:
    """What the actor tells the coordinator of the stage's first task."""
    task = next(task for task in plan.tasks if task.key.stage is stage)
    job = Job(shot=plan.shot, task=task, frame=plan.frame, attempt=1, output=f"work/{stage}.bin")
    return actor.run(job, *inputs)


def test_nan_latents_are_no_chunk(tmp_path: Path) -> None:
    run, plan = decided(tmp_path)
    _, conditioning = outcome(Conditioner(run), plan, Stage.CONDITION)
    denoiser = Denoiser(run)
    receipt, blob = outcome(denoiser, plan, Stage.DENOISE, conditioning)
    assert receipt.artefact.bytes == len(blob)
    with torch.no_grad():
        next(iter(denoiser._transformer.parameters())).fill_(float("nan"))
    (tmp_path / "work/denoise.bin").unlink()
    failure, nothing = outcome(denoiser, plan, Stage.DENOISE, conditioning)
    assert isinstance(failure, Failure)
    assert failure.kind == "bad_result"
    assert "finite latents for chunk 0, got NaN or Inf" in failure.message
    assert nothing is None
    assert not (tmp_path / "work/denoise.bin").exists()


def tiles(plan: ShotPlan, kind: str) -> list[np.ndarray]:
    """Bodies of the first slab's tiles."""
    slab = plan.slabs[0]
    assert isinstance(slab, Slab)
    draw = np.random.default_rng(0)
    made = []
    for tile in slab.tiles:
        shape = (slab.t.size - slab.t.ramp_out, tile.y.size, tile.x.size, 3)
        if kind == "noise":
            made.append(draw.integers(0, 255, shape, dtype=np.uint8))
        else:
            level = 1 if kind == "black" else 90
            made.append(np.full(shape, level, np.uint8))
    return made


@pytest.mark.parametrize("kind", ["black", "frozen"])
def test_a_segment_without_a_picture_or_without_motion_is_a_bad_result(tmp_path: Path, kind: str) -> None:
    run, plan = decided(tmp_path)
    (failure,) = outcome(Assembler(run), plan, Stage.ASSEMBLE, *tiles(plan, kind))
    assert isinstance(failure, Failure), failure
    assert (failure.kind, failure.retryable) == ("bad_result", True)
    assert failure.message.startswith(f"frames 0 to 16 are {kind} throughout")
    assert not (tmp_path / "work").exists()
    run, plan = decided(tmp_path, "limits.check_pictures=false")
    (receipt,) = outcome(Assembler(run), plan, Stage.ASSEMBLE, *tiles(plan, kind))
    assert isinstance(receipt.artefact, Artefact)


def test_a_picture_that_moves_is_a_segment(tmp_path: Path) -> None:
    run, plan = decided(tmp_path)
    (receipt,) = outcome(Assembler(run), plan, Stage.ASSEMBLE, *tiles(plan, "noise"))
    assert receipt.artefact.bytes > 1000
