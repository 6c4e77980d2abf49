"""Contact sheets: clips as rows of frames, to be looked at."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

_GAP = 2  # pixels between frames


def contact_sheet(
    clips: Sequence[torch.Tensor],
    path: Path,
    *,
    columns: int = 12,
    marks: Sequence[Sequence[int]] | None = None,
) -> None:
    """Write ``clips`` (each [3, F, H, W] in -1..1) as one PNG, a row each, ``columns`` frames evenly apart.

    ``marks`` are frames of each clip at which something was heard: the first frame shown from each on has a
    bar below it.
    """
    rows = [
        _row(clip, columns, marks[index] if marks is not None else ()) for index, clip in enumerate(clips)
    ]
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, _GAP), (0, width - row.shape[1]), (0, 0))) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(padded)).save(path)


def _row(clip: torch.Tensor, columns: int, marks: Sequence[int]) -> npt.NDArray[np.uint8]:
    count = clip.shape[1]
    shown = np.unique(np.linspace(0, count - 1, min(columns, count)).round().astype(int))
    pixels = clip.detach().float().clamp(-1, 1).add(1).mul(127.5).byte().permute(1, 2, 3, 0).cpu().numpy()
    cells = []
    for before, frame in zip((-1, *shown[:-1]), shown, strict=True):
        cell = np.pad(pixels[frame], ((0, 6), (0, _GAP), (0, 0)))
        if any(before < mark <= frame for mark in marks):
            cell[-5:-1] = (255, 220, 0)
        cells.append(cell)
    return np.concatenate(cells, axis=1)
