"""How long tasks take on one kind of machine: a few coefficients for each stage, and what follows from them.

    seconds = base + rate x cost + quadratic x cost x tokens

``cost`` is the task's own (tokens x passes x steps of a chunk, cells of a tile, pixels of a segment, frames
of a video). The last term is the transformer's attention, whose work grows with the square of the tokens;
other stages have none.
"""

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ltx_ray.errors import ConfigError
from ltx_ray.types import Chunk, Frame, ShotPlan, Stage, Task


class StageTime(BaseModel):
    """What a task of one stage takes. All numbers are at least 0."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: float = Field(0.0, ge=0, allow_inf_nan=False)  # seconds of any task
    rate: float = Field(0.0, ge=0, allow_inf_nan=False)  # seconds for each unit of cost
    quadratic: float = Field(0.0, ge=0, allow_inf_nan=False)  # seconds for each unit of cost, and token
    error: float = Field(0.0, ge=0, allow_inf_nan=False)  # how far off half of what was measured is: 0.1: 10%
    samples: int = Field(0, ge=0)  # that it was fitted to


class Profile(BaseModel):
    """What all stages take on one kind of machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str  # as receipts name it: "cpu", or the GPU's name
    model: str
    stages: dict[Stage, StageTime]

    def seconds(self, task: Task, frame: Frame) -> float:
        """Wall seconds of ``task``, of a shot of this ``frame``."""
        time = self.stages[task.key.stage]
        return time.base + task.cost * (time.rate + time.quadratic * tokens(task, frame))

    def chain(self, plan: ShotPlan) -> float:
        """Seconds that a shot takes at least, with as many actors as it can use: its longest path."""
        ends: dict[Any, float] = {}
        for task in plan.tasks:  # every need comes before its user
            begin = max((ends[need.key] for need in task.needs), default=0.0)
            ends[task.key] = begin + self.seconds(task, plan.frame)
        return max(ends.values())

    @classmethod
    def parse(cls, data: bytes, name: str) -> "Profile":
        """A profile's JSON. Raises ConfigError, which calls it ``name``."""
        try:
            profile = cls.model_validate(json.loads(data))
        except (ValueError, ValidationError) as error:
            raise ConfigError(
                f"{name} should be a profile as `ltx-ray profile OUT` writes it, got {error}"
            ) from error
        if missing := [stage.value for stage in Stage if stage not in profile.stages]:
            raise ConfigError(f"{name} should have a time for every stage, but lacks {', '.join(missing)}")
        return profile


def tokens(task: Task, frame: Frame) -> int:
    """Tokens that the transformer sees at once in ``task``; 0 for other stages."""
    chunk = task.work
    return (chunk.length + chunk.tail) * frame.rows * frame.columns if isinstance(chunk, Chunk) else 0
