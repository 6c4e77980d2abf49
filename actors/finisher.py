"""The finish stage: joins the segments, adds the sound, and looks at the result before it counts.

With ``evaluate = true`` it measures the finished video too. The figures stand beside the video: they change
no byte of it, and a measurement that fails costs its figures only.
"""

import tempfile
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from actors.work import Made, StageActor
from ltx_ray.errors import BadResultError, InputLostError
from ltx_ray.media.audio import read_audio
from ltx_ray.media.join import join_segments
from ltx_ray.media.probe import VideoFacts, probe_video, sha256_file
from ltx_ray.media.source import of_column
from ltx_ray.planning.plan import plan_shot
from ltx_ray.types import Artefact, Job, Shot


class Finisher(StageActor):
    """Holds nothing; needs no device."""

    def work(self, job: Job, inputs: Sequence[Any]) -> Made:
        """Inputs: the segments, in order."""
        shot, encoding = job.shot, self._run.config.encoding
        audio = None
        if shot.audio:
            rate = encoding.audio_rate
            with of_column("audio"):
                audio = read_audio(shot.audio, shot.audio_start_s, shot.seconds, rate, self._run.access)
        with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="ltx-ray-") as folder:
            segments = [self._segment(stack, source) for source in inputs]
            path = Path(folder) / "video.mp4"
            join_segments(segments, list(job.segment_frames), path, shot.fps, audio, encoding)
            facts = probe_video(path)
            _check(shot, facts)
            artefact = Artefact(name=job.output, sha256=sha256_file(path), bytes=facts.bytes)
            told: dict[str, Any] = {"num_frames": facts.num_frames, "audio_seconds": facts.audio_seconds}
            if self._run.config.evaluate:
                told |= self._evaluated(shot, path)
            self._store.put(path, job.output)
        return Made(artefact=artefact, facts=told)

    def _evaluated(self, shot: Shot, path: Path) -> dict[str, Any]:
        """The figures of the video, or why there are none."""
        # Only here: a run that measures nothing loads neither torch nor torchaudio in this stage.
        import torch

        from ltx_ray.evaluation.evaluate import evaluate_video, figures
        from ltx_ray.evaluation.finished import only_prompt
        from ltx_ray.evaluation.zones import Zones

        torch.set_num_threads(self._run.config.device.threads)
        zones = Zones.of(plan_shot(shot, self._run.plan_settings()), self._run.ratios)
        try:
            return {"evaluation": figures(evaluate_video(str(path), prompt=only_prompt(shot), zones=zones))}
        except Exception as error:  # whatever it is, the video is good: its row says what happened
            return {"evaluation_error": "".join(traceback.format_exception(error))}

    def _segment(self, stack: ExitStack, source: Artefact) -> Path:
        try:
            path = stack.enter_context(self._store.fetched(source.name))
            digest = sha256_file(path)
        except FileNotFoundError as error:
            raise InputLostError(f"segment {source.name} is gone", source.name) from error
        if digest != source.sha256:
            raise InputLostError(f"segment {source.name} is not what was committed", source.name)
        return path


def _check(shot: Shot, facts: VideoFacts) -> None:
    wanted = (shot.num_frames, shot.width, shot.height)
    got = (facts.num_frames, facts.width, facts.height)
    if wanted != got:
        raise BadResultError(f"the finished video should have (frames, width, height) = {wanted}, got {got}")
