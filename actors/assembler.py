"""The assemble stage: adds a slab's tiles up and encodes the frames as a segment, a durable file."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from actors.work import Made, StageActor
from ltx_ray.decoding.blend import Canvas, Pixels, blend_slab
from ltx_ray.errors import BadResultError
from ltx_ray.media.probe import sha256_file
from ltx_ray.media.segment import SegmentWriter
from ltx_ray.types import Artefact, Job, Slab

_BLACK = 2  # of 255: no pixel of a black frame is brighter
_FEWEST = 9  # frames of a segment that can be judged


class Assembler(StageActor):
    """Holds nothing; needs no device."""

    def work(self, job: Job, inputs: Sequence[Any]) -> Made:
        """Inputs: the bodies of this slab's tiles, then the tails of the slab before."""
        slab = job.task.work
        assert isinstance(slab, Slab)
        shot, count = job.shot, len(slab.tiles)
        canvas = Canvas.of(job.frame, shot)
        frames = blend_slab(inputs[:count], inputs[count:], slab, canvas)
        seen = _Seen()
        with tempfile.TemporaryDirectory(prefix="ltx-ray-") as folder:
            path = Path(folder) / "segment.mp4"
            encoding = self._run.config.encoding
            with SegmentWriter(path, shot.width, shot.height, shot.fps, slab.first_frame, encoding) as writer:
                for pixels in seen.through(frames):
                    writer.write(pixels)
            if self._run.config.limits.check_pictures:
                seen.check(slab)
            artefact = Artefact(name=job.output, sha256=sha256_file(path), bytes=path.stat().st_size)
            self._store.put(path, job.output)
        facts: dict[str, Any] = {"num_frames": slab.num_frames}
        if job.adapted:
            facts["adapted"] = list(job.adapted)
        return Made(artefact=artefact, facts=facts)


class _Seen:
    """Whether a picture was ever there, and whether it ever changed."""

    def __init__(self) -> None:
        self._frames = 0
        self._bright = self._changed = False

    def through(self, frames: Iterable[Pixels]) -> Iterator[Pixels]:
        """The same frames, looked at as they pass."""
        first: Pixels | None = None
        for pixels in frames:
            self._frames += 1
            self._bright = self._bright or int(pixels.max()) > _BLACK
            if first is None:
                first = pixels.copy()
            elif not self._changed:
                self._changed = not np.array_equal(pixels, first)
            yield pixels

    def check(self, slab: Slab) -> None:
        """Raise BadResultError for a segment that no model means: black, or the same frame throughout."""
        wrong = "black" if not self._bright else "frozen" if not self._changed else None
        if wrong and self._frames >= _FEWEST:
            last = slab.first_frame + slab.num_frames - 1
            raise BadResultError(
                f"frames {slab.first_frame} to {last} are {wrong} throughout; if that is meant, set "
                "limits.check_pictures to false"
            )
