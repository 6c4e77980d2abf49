"""Pictures of the synthetic world: frames of a scene at any size and rate."""

import numpy as np
import numpy.typing as npt

from ltx_ray.training.world import COLOURS, Scene

# Pixels over which an edge goes from the shape to the background.
_EDGE = 2.0
# What a flash adds to the background: the shape itself turns white.
_FLASHED_BACKGROUND = 0.30


def render(
    scene: Scene, frames: int, height: int, width: int, *, fps: float = 24.0, start: float = 0.0
) -> npt.NDArray[np.float32]:
    """Frames [frames, height, width, 3], RGB in 0..1, of ``scene`` from ``start`` seconds on."""
    times = start + np.arange(frames) / fps
    cover = coverage(scene, times, height, width)[..., None]
    flash = scene.flash(times).astype(np.float32)[:, None, None, None]
    colour = np.array(COLOURS[scene.colour], dtype=np.float32)
    behind = _background(scene, height, width)[None] + _FLASHED_BACKGROUND * flash
    shown = behind * (1 - cover) + (colour * (1 - flash) + flash) * cover
    return np.asarray(np.clip(shown, 0, 1), dtype=np.float32)


def coverage(
    scene: Scene, times: npt.NDArray[np.float64], height: int, width: int
) -> npt.NDArray[np.float32]:
    """How much of each pixel the shape covers at ``times`` [n] seconds: [n, height, width], 0..1."""
    centres = scene.positions(times, height, width).astype(np.float32)
    period_x, period_y = scene.period(height, width)
    radius = scene.radius * min(height, width)
    dx = _wrapped(np.arange(width, dtype=np.float32) + 0.5 - centres[:, :1], period_x)[:, None, :]
    dy = _wrapped(np.arange(height, dtype=np.float32) + 0.5 - centres[:, 1:], period_y)[:, :, None]
    outside = _distance(scene.shape, dx, dy, np.float32(radius))
    return np.asarray(np.clip(0.5 - outside / _EDGE, 0, 1), dtype=np.float32)


def _wrapped(offset: npt.NDArray[np.float32], period: float) -> npt.NDArray[np.float32]:
    """The nearest of the copies that stand ``period`` apart."""
    return np.asarray(np.mod(offset + period / 2, period) - period / 2, dtype=np.float32)


def _distance(
    shape: str, dx: npt.NDArray[np.float32], dy: npt.NDArray[np.float32], radius: np.float32
) -> npt.NDArray[np.float32]:
    """Pixels from the shape's edge, negative inside (exact near the edge's middle)."""
    if shape == "circle":
        return np.sqrt(dx * dx + dy * dy) - radius
    if shape == "square":
        return np.maximum(np.abs(dx), np.abs(dy)) - np.float32(0.86) * radius
    below = dy - np.float32(0.62) * radius
    beside = np.float32(0.866) * np.abs(dx) - np.float32(0.5) * dy - np.float32(0.55) * radius
    return np.asarray(np.maximum(below, beside), dtype=np.float32)


def _background(scene: Scene, height: int, width: int) -> npt.NDArray[np.float32]:
    """[height, width, 3] in 0..1: a gradient from one tone to the other."""
    first, last = (np.array(tone, dtype=np.float32) for tone in scene.background)
    length = height if scene.vertical else width
    along = (np.arange(length, dtype=np.float32) / max(length - 1, 1))[:, None]
    ramp = first * (1 - along) + last * along
    shown = ramp[:, None, :] if scene.vertical else ramp[None, :, :]
    return np.broadcast_to(shown, (height, width, 3))
