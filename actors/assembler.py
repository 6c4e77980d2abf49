"""The assemble stage: adds a slab's tiles up and encodes the frames as a segment, a durable file."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from actors.work import Made, StageActor
from ltx_ray.decoding.blend import Canvas, blend_slab
from ltx_ray.media.probe import sha256_file
from ltx_ray.media.segment import SegmentWriter
from ltx_ray.types import Artefact, Job, Slab


class Assembler(StageActor):
    """Holds nothing; needs no device."""

    def work(self, job: Job, inputs: Sequence[Any]) -> Made:
        """Inputs: the bodies of this slab's tiles, then the tails of the slab before."""
        slab = job.task.work
        assert isinstance(slab, Slab)
        shot, count = job.shot, len(slab.tiles)
        canvas = Canvas.of(job.frame, shot)
        frames = blend_slab(inputs[:count], inputs[count:], slab, canvas)
        with tempfile.TemporaryDirectory(prefix="ltx-ray-") as folder:
            path = Path(folder) / "segment.mp4"
            encoding = self._run.config.encoding
            with SegmentWriter(path, shot.width, shot.height, shot.fps, slab.first_frame, encoding) as writer:
                for pixels in frames:
                    writer.write(pixels)
            artefact = Artefact(name=job.output, sha256=sha256_file(path), bytes=path.stat().st_size)
            self._store.put(path, job.output)
        return Made(artefact=artefact, facts={"num_frames": slab.num_frames})
