"""Numbers that a caller gives: any kind of number is taken, anything else is told at once."""

from numbers import Integral, Real
from typing import Any

from ltx_ray.config import SamplingConfig
from ltx_ray.errors import UserError


def as_number(name: str, value: Any) -> float:
    """``value`` as a float. Raises UserError, naming the argument, for what is no number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise UserError(f"{name} must be a number, got {value!r}")
    return float(value)


def as_whole(name: str, value: Any) -> int:
    """``value`` as an int. Raises UserError, naming the argument, for what is no whole number."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise UserError(f"{name} must be a whole number, got {value!r}")
    return int(value)


def checked_shape(
    total_frames: Any, width: Any, height: Any, num_inference_steps: Any, guidance_scale: Any
) -> dict[str, Any]:
    """The guide's own numbers by the names of a ``VideoRequest``. Raises UserError for impossible ones."""
    steps = {
        "num_inference_steps": as_whole("num_inference_steps", num_inference_steps),
        "guidance_scale": as_number("guidance_scale", guidance_scale),
    }
    SamplingConfig.checked(**steps)
    return {
        "num_frames": as_whole("total_frames", total_frames),
        "width": as_whole("width", width),
        "height": as_whole("height", height),
        **steps,
    }
