"""What a training tells: figures as CSV and, where it is installed, in TensorBoard."""

import csv
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


class TrainingLog:
    """Appends to ``OUTPUT/log.csv``: one row per figure (time, step, name, value), so that any training can
    have its own figures and a resumed one goes on in the same file."""

    def __init__(self, output: Path) -> None:
        output.mkdir(parents=True, exist_ok=True)
        self._path = output / "log.csv"
        self._board: Any = _board(output / "tensorboard")

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the figures of ``step``; every call is on disk when it returns."""
        new = not self._path.exists()
        with self._path.open("a", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            if new:
                rows.writerow(("time", "step", "figure", "value"))
            now = f"{time.time():.1f}"
            rows.writerows((now, step, name, f"{value:.6g}") for name, value in figures.items())
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(name, value, step)
            self._board.flush()

    def add_preview(self, step: int, figures: Mapping[str, float], picture: Path) -> None:
        """Write the figures that were measured with a preview, and show its picture where one can."""
        self.add(step, {f"preview/{name}": value for name, value in figures.items()})
        if self._board is not None and picture.exists():
            self._board.add_image("preview", np.asarray(Image.open(picture)), step, dataformats="HWC")
            self._board.flush()


def _board(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # tensorboard is optional: `pip install "ltx-ray[train]"`
        return None
    return SummaryWriter(str(folder))
