"""One active shot: its frontier, its payloads, its tries, and the row that it becomes."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from actors.retry import Tries
from actors.shot_log import ShotLog
from actors.whereabouts import Whereabouts
from actors.work import PARTS, Done
from ltx_ray.ledger.records import ArtefactRecord
from ltx_ray.planning.chunks import final_frames
from ltx_ray.planning.frontier import Frontier
from ltx_ray.planning.geometry import Ratios
from ltx_ray.run import RunSpec
from ltx_ray.types import (
    ChunkResult,
    Job,
    Need,
    Receipt,
    ShotPlan,
    ShotResult,
    Stage,
    Status,
    Task,
    TaskKey,
)

_NAMES = {
    Stage.CONDITION: ("conditioning", "safetensors"),
    Stage.DENOISE: ("chunk", "safetensors"),
    Stage.ASSEMBLE: ("segment", "mp4"),
}


class ShotRun:
    """The state of a shot between its admission and its result. Holds handles of payloads, no tensors."""

    def __init__(
        self,
        plan: ShotPlan,
        records: Mapping[TaskKey, ArtefactRecord],
        *,
        sequence: int,
        generation: int,
        epoch: int,
        folder: str,
        work: str,
        cost: float,
    ) -> None:
        self.plan = plan
        self.shot = plan.shot
        self.sequence = sequence  # of admission
        self.generation = generation
        self.work = work  # folder of durable chunks and segments, relative to OUT
        self.closed = False  # ended: what still comes in is ignored
        self.records = dict(records)
        self.frontier = Frontier(plan, self.records)
        self.tries: dict[TaskKey, Tries] = {}
        self.whereabouts = Whereabouts(plan)
        self.log = ShotLog()
        self.log.say(f"begins, generation {generation}: {len(self.records)} results are there already")
        self.pending: set[asyncio.Future[Done]] = set()  # what the pools were asked for
        self._cost = cost
        self._chunks_left = len(plan.chunks) - len(self._denoised())
        self._epoch = epoch
        self._folder = folder
        self._payloads: dict[Need, Any] = {}
        self._stage_seconds: dict[str, float] = {}
        self._adapted: dict[TaskKey, str] = {}  # tiles that were decoded in parts
        self._queued = time.time()
        self._started: float | None = None
        for record in self.records.values():
            self._count_seconds(record.key.stage, record.seconds)

    @property
    def cost(self) -> float:
        """Work of the whole shot, in the manifest's unit."""
        return self._cost

    @property
    def remaining_cost(self) -> float:
        """Of it, what is left in the shot's chain of chunks."""
        return self._cost * self._chunks_left / len(self.plan.chunks)

    @property
    def chunks_left(self) -> int:
        """Chunks of the shot that are not there yet."""
        return self._chunks_left

    def is_encoded(self, slab: int) -> bool:
        """Whether the segment of ``slab`` is there."""
        return TaskKey(Stage.ASSEMBLE, slab) in self.records

    def has_inputs(self, task: Task) -> bool:
        """Whether all that ``task`` needs is still there."""
        return all(self._has(need) for need in task.needs)

    def place(self, key: TaskKey) -> tuple[str, str]:
        """Names a task among those of all shots."""
        return self.shot.id, str(key)

    def job(self, task: Task) -> Job:
        """``task`` as the next attempt of it."""
        tries = self.tries.setdefault(task.key, Tries())
        tries.attempts += 1
        self._started = self._started or time.time()
        key, token = task.key, f"{self._epoch}.{tries.attempts}"
        if key.stage is Stage.FINISH:
            output = f"videos/{self._folder}/{self.shot.id}-{token}.mp4"
        elif key.stage in _NAMES:
            name, ending = _NAMES[key.stage]
            output = f"{self.work}/{name}-{key.index:04d}-{token}.{ending}"
        else:
            output = ""
        first = task.needs[0].key.index if key.stage is Stage.DECODE else 0
        return Job(
            shot=self.shot,
            task=task,
            frame=self.plan.frame,
            attempt=tries.attempts,
            output=output,
            first_latent=self.plan.chunks[first].final_start if key.stage is Stage.DECODE else 0,
            halvings=tries.halvings,
            adapted=tuple(self._adapted[need.key] for need in task.needs if need.key in self._adapted),
            segment_frames=tuple(s.num_frames for s in self.plan.slabs) if key.stage is Stage.FINISH else (),
        )

    def inputs(self, task: Task) -> list[Any]:
        """What ``task`` needs: handles of payloads in memory, else the artefacts whose files hold them."""
        return [
            self._payloads[need] if need in self._payloads else self.records[need.key].artefact
            for need in task.needs
        ]

    def cost_of(self, key: TaskKey) -> float:
        """Work of a task, in its stage's unit."""
        return self.frontier.task(key).cost

    def complete(self, receipt: Receipt, done: Done, record: ArtefactRecord | None) -> None:
        """Take a committed result in, and drop the payloads that nobody needs any more."""
        key = receipt.key
        self.log.done(receipt)
        if record is not None:
            self._chunks_left -= key.stage is Stage.DENOISE
            self.records[key] = record
        if adapted := receipt.facts.get("adapted"):
            self._adapted[key] = adapted
        for part, handle in enumerate(done.parts[: PARTS[key.stage]]):
            self._payloads[Need(key, part)] = handle
        self.whereabouts.made(key, done.worker_node)
        self._count_seconds(key.stage, receipt.seconds)
        for need in self.frontier.complete(key):
            self._payloads.pop(need, None)

    def lose(self, task: Task, names: tuple[str, ...]) -> None:
        """Inputs of ``task`` are gone: read durable ones from their files, make the others again.

        ``names`` are files that are gone too; what they held is made again.
        """
        for need in task.needs:
            record = self.records.get(need.key)
            in_memory = self._payloads.pop(need, None) is not None
            if record is None and in_memory:
                self._payloads = {n: p for n, p in self._payloads.items() if n.key != need.key}
                self.frontier.lose(need.key)
            elif record is not None and record.artefact.name in names:
                self._chunks_left += need.key.stage is Stage.DENOISE
                del self.records[need.key]
                for source in self.frontier.needs(need.key):
                    if not self._has(source):  # it was let go of once this result was there
                        self.frontier.lose(source.key)
                self.frontier.lose(need.key)

    def close(self) -> None:
        """The shot has ended: let go of everything, also of what the pools are still asked for."""
        self.closed = True
        self._payloads.clear()
        for future in tuple(self.pending):
            future.cancel()

    def result(
        self, run: RunSpec, status: Status, kind: str | None = None, error: str | None = None
    ) -> ShotResult:
        """The shot's row of the output manifest."""
        shot = self.shot
        video = self.records.get(TaskKey(Stage.FINISH)) if status is Status.DONE else None
        last = [self.records[key] for key in self._denoised()][-1:]
        return ShotResult(
            id=shot.id,
            generation=self.generation,
            status=status,
            row=shot.row,
            fingerprint=shot.fingerprint,
            input=shot.input,
            error_kind=kind,
            error=error,
            attempts=1 + sum(tries.failures + tries.losses for tries in self.tries.values()),
            adapted=self._all_adapted(),
            file_name=video.artefact.name if video else None,
            sha256=video.artefact.sha256 if video else None,
            bytes=video.artefact.bytes if video else None,
            num_frames=shot.num_frames,
            fps=shot.fps,
            width=shot.width,
            height=shot.height,
            seconds=shot.seconds,
            seed=shot.seed,
            chunks=self._chunks(run.ratios),
            model=run.model,
            model_hash=run.model_hash,
            config_hash=run.hash,
            version=run.version,
            queued_at=self._queued,
            started_at=self._started,
            finished_at=time.time(),
            stage_seconds=self._stage_seconds,
            device=last[0].device if last else None,
            node=last[0].node if last else None,
            evaluation=video.facts.get("evaluation", {}) if video else {},
            evaluation_error=video.facts.get("evaluation_error") if video else None,
        )

    def _all_adapted(self) -> tuple[str, ...]:
        """What was done otherwise for the segments that are there, also in earlier calls. A tile is named by
        two segments where they are blended."""
        records = [record for key, record in sorted(self.records.items()) if key.stage is Stage.ASSEMBLE]
        return tuple(dict.fromkeys(text for record in records for text in record.facts.get("adapted", ())))

    def _has(self, need: Need) -> bool:
        return need in self._payloads or need.key in self.records

    def _denoised(self) -> list[TaskKey]:
        keys = [TaskKey(Stage.DENOISE, chunk.index) for chunk in self.plan.chunks]
        return [key for key in keys if key in self.records]

    def _chunks(self, ratios: Ratios) -> tuple[ChunkResult, ...]:
        """The chunks that are done, with the written frames that each made final."""
        found = []
        for key in self._denoised():
            chunk, record = self.plan.chunks[key.index], self.records[key]
            start, stop = final_frames(chunk, self.shot.num_frames, ratios)
            found.append(
                ChunkResult(
                    index=chunk.index,
                    start_frame=start,
                    num_frames=max(stop - start, 0),
                    seed=chunk.seed,
                    seconds=record.seconds,
                    attempts=record.attempt,
                )
            )
        return tuple(found)

    def _count_seconds(self, stage: Stage, seconds: float) -> None:
        self._stage_seconds[stage.value] = self._stage_seconds.get(stage.value, 0.0) + seconds
