"""``ltx-ray validate``: reads every row as ``render`` would, opens what they name, and renders nothing."""

from dataclasses import dataclass

from ltx_ray.config import RenderConfig
from ltx_ray.errors import LtxRayError
from ltx_ray.manifest.index import index_manifest, shots
from ltx_ray.manifest.read import folder_of
from ltx_ray.media.access import Access
from ltx_ray.media.audio import probe_audio
from ltx_ray.media.image import probe_image
from ltx_ray.media.source import of_column
from ltx_ray.types import Shot

_PROBLEMS_TOLD = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """What ``validate`` found."""

    rows: int
    valid: int
    frames: int  # of all valid rows
    seconds: float  # of video
    problems: tuple[str, ...]  # the first thousand

    @property
    def is_valid(self) -> bool:
        """Whether every row can be rendered."""
        return self.valid == self.rows


def validate(manifest: str, config: RenderConfig) -> Validation:
    """Check all rows of ``manifest``. Raises ManifestError where it cannot be read at all."""
    rows = valid = frames = 0
    seconds = 0.0
    problems: list[str] = []
    access = Access.of_rows(folder_of(manifest), config.inputs)
    index = index_manifest(manifest, config)
    for row in shots(manifest, config, index):
        rows += 1
        problem = check_files(row, access) if isinstance(row, Shot) else str(row)
        if problem is None and isinstance(row, Shot):
            valid += 1
            frames += row.num_frames
            seconds += row.seconds
        elif problem is not None and len(problems) < _PROBLEMS_TOLD:
            problems.append(problem)
    return Validation(rows=rows, valid=valid, frames=frames, seconds=seconds, problems=tuple(problems))


def check_files(shot: Shot, access: Access) -> str | None:
    """What is wrong with the files that ``shot`` names; None where nothing is."""
    try:
        if shot.audio:
            with of_column("audio"):
                probe_audio(shot.audio, access)
        if shot.image:
            with of_column("image"):
                probe_image(shot.image, access)
    except LtxRayError as error:
        return f"row {shot.row}: {error}"
    return None
