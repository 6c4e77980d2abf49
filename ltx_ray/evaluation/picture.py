"""A video's curves over time as one picture: brightness, sound, differences, edges, colour, and its seams."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ltx_ray.evaluation.evaluate import Evaluation
from ltx_ray.evaluation.flashes import calm_runs

_WIDTH, _LEFT, _RIGHT = 1200, 164, 24
_PANEL, _GAP, _TOP = 104, 18, 78
_THUMBNAIL = 72  # pixels of height
_CURVE = 2  # pixels, drawn at twice the size and averaged down

Colour = tuple[int, int, int]
_INK, _DIM, _RULE = (35, 35, 38), (115, 115, 120), (222, 222, 226)
_SEAM, _FLASH = (255, 226, 178), (238, 238, 241)
_BRIGHTNESS, _SOUND, _DIFFERENCE, _EDGES = (40, 40, 44), (32, 96, 176), (188, 62, 40), (110, 70, 150)
_RED, _GREEN, _BLUE = (205, 55, 45), (40, 145, 70), (45, 90, 200)

Series = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Curve:
    values: Series
    colour: Colour
    rate: float  # values in a second


@dataclass(frozen=True, slots=True, kw_only=True)
class _Panel:
    title: str
    lines: tuple[str, ...]  # what is said below the title
    curves: tuple[_Curve, ...]
    marks: Series  # seconds that are marked
    mark: Colour
    from_zero: bool = True


def draw_evaluation(evaluation: Evaluation, title: str, subtitle: str = "") -> Image.Image:
    """An RGB picture, 1200 pixels wide. Seams of chunks are orange bands, flashes grey ones."""
    panels = _panels(evaluation)
    seconds = max(len(evaluation.curves) / evaluation.curves.fps, 1e-6)
    strip = _TOP + _THUMBNAIL + _GAP
    height = strip + len(panels) * (_PANEL + _GAP) + 44
    image = Image.new("RGB", (_WIDTH, height), "white")
    draw = ImageDraw.Draw(image)
    fonts = {size: ImageFont.load_default(size) for size in (22, 15, 13)}

    def x_of(second: float) -> float:
        return _LEFT + min(max(second / seconds, 0), 1) * (_WIDTH - _LEFT - _RIGHT)

    draw.text((24, 16), _fitting(title, fonts[22], _WIDTH - 48), _INK, fonts[22])
    draw.text((24, 48), _fitting(subtitle, fonts[15], _WIDTH - 48), _DIM, fonts[15])
    _paste_thumbnails(image, evaluation.curves.thumbnails)
    for index, panel in enumerate(panels):
        top = strip + index * (_PANEL + _GAP)
        draw.text((24, top + 2), panel.title, _INK, fonts[15])
        for row, line in enumerate(panel.lines):
            draw.text((24, top + 24 + 17 * row), line, _DIM, fonts[13])
        image.paste(_plot(panel, evaluation, seconds), (_LEFT, top))
    _draw_axis(draw, x_of, seconds, height - 40, fonts[13])
    _draw_legend(draw, evaluation, height - 20, fonts[13])
    return image


def _panels(evaluation: Evaluation) -> list[_Panel]:
    curves, fps, none = evaluation.curves, evaluation.curves.fps, np.zeros(0)
    sync, seams = evaluation.sync, evaluation.seams
    shown = len(evaluation.picture.times)
    found = [
        _Panel(
            title="brightness",
            lines=("mean, 0 to 1", f"{shown} onset" + "s" * (shown != 1)),
            curves=(_Curve(curves.brightness, _BRIGHTNESS, fps),),
            marks=evaluation.picture.times + 0.5 / fps,
            mark=_DIFFERENCE,
        )
    ]
    if evaluation.sound is not None and sync is not None:
        offset = "no pair" if sync.offset_ms is None else f"offset {sync.offset_ms:+.0f} ms"
        found.append(
            _Panel(
                title="sound",
                lines=("onset strength", f"{sync.matched} of {sync.matched + sync.missed} shown", offset),
                curves=(_Curve(evaluation.sound.strength, _SOUND, evaluation.sound.rate),),
                marks=evaluation.sound.times,
                mark=_SOUND,
            )
        )
    ratio = () if seams is None or seams.difference is None else (f"seams x {seams.difference:.2f}",)
    edges = () if seams is None or seams.edges is None else (f"seams x {seams.edges:.2f}",)
    calm = np.where(calm_runs(evaluation.calm, 3), curves.compensated, np.nan)
    found += [
        _Panel(
            title="difference",
            lines=("beyond even motion", "and flashes", *ratio),
            curves=(_Curve(calm, _DIFFERENCE, fps),),
            marks=none,
            mark=_INK,
        ),
        _Panel(
            title="edges",
            lines=("energy of the", "strongest 4%", *edges),
            curves=(_Curve(np.where(evaluation.calm, curves.edges, np.nan), _EDGES, fps),),
            marks=none,
            mark=_INK,
        ),
        _Panel(
            title="colour",
            lines=("mean red, green,", "blue, 0 to 1"),
            curves=tuple(
                _Curve(curves.colour[:, channel], colour, fps)
                for channel, colour in enumerate((_RED, _GREEN, _BLUE))
            ),
            marks=none,
            mark=_INK,
        ),
    ]
    return found


def _plot(panel: _Panel, evaluation: Evaluation, seconds: float) -> Image.Image:
    """The panel's frame, bands, marks and curves, drawn at twice its size."""
    width, height = 2 * (_WIDTH - _LEFT - _RIGHT), 2 * _PANEL
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    fps = evaluation.curves.fps

    def x_of(second: float) -> float:
        return second / seconds * (width - 1)

    edges = np.flatnonzero(np.diff(np.concatenate([[True], evaluation.calm, [True]]).astype(np.int8)))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        draw.rectangle((x_of(start / fps), 0, x_of(stop / fps), height), fill=_FLASH)
    for seam in evaluation.zones.seams or ():
        left, right = x_of(seam.start / fps), x_of(seam.stop / fps)
        draw.rectangle((left - 1, 0, max(right, left + 3), height), fill=_SEAM)
    top = max(
        (float(np.nanmax(each.values)) for each in panel.curves if np.isfinite(each.values).any()), default=1
    )
    scale = 1.1 * top or 1.0
    for part in (0.25, 0.5, 0.75):
        draw.line((0, height * part, width, height * part), _RULE)
    for second in panel.marks:
        x = x_of(float(second))
        draw.line((x, 0, x, height), panel.mark, 2)
        draw.polygon([(x - 7, 0), (x + 7, 0), (x, 12)], fill=panel.mark)
    for curve in panel.curves:
        for run in _polylines(curve, seconds, width):
            points = [(x, height - 2 - value / scale * (height - 6)) for x, value in run]
            if len(points) == 1:
                points.append((points[0][0] + 1, points[0][1]))
            draw.line(points, curve.colour, 2 * _CURVE - 1, joint="curve")
    draw.rectangle((0, 0, width - 1, height - 1), outline=_DIM)
    label = ImageFont.load_default(24)
    draw.text((10, 4), f"{scale:.2g}", _DIM, label)
    return image.resize((width // 2, height // 2), Image.Resampling.BOX)


def _polylines(curve: _Curve, seconds: float, width: int) -> list[list[tuple[float, float]]]:
    """Points (x in pixels, value) of ``curve``, broken where it has none; of many to a pixel the largest."""
    values = curve.values
    step = max(int(len(values) / width), 1)
    runs: list[list[tuple[float, float]]] = [[]]
    for start in range(0, len(values), step):
        block = values[start : start + step]
        block = block[np.isfinite(block)]
        if len(block):
            runs[-1].append((start / curve.rate / seconds * (width - 1), float(block.max())))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _paste_thumbnails(image: Image.Image, thumbnails: Sequence[NDArray[np.uint8]]) -> None:
    """As many as fit side by side, evenly apart, from the first to the last."""
    if not thumbnails:
        return
    rows, columns = thumbnails[0].shape[:2]
    width = max(round(_THUMBNAIL * columns / rows), 1)
    room = _WIDTH - _LEFT - _RIGHT
    count = min(max((room + 4) // (width + 4), 1), len(thumbnails))
    for slot in range(count):
        chosen = round(slot / max(count - 1, 1) * (len(thumbnails) - 1))
        left = _LEFT + round(slot / max(count - 1, 1) * (room - width))
        image.paste(Image.fromarray(thumbnails[chosen]).resize((width, _THUMBNAIL)), (left, _TOP))


def _draw_axis(
    draw: ImageDraw.ImageDraw,
    x_of: Callable[[float], float],
    seconds: float,
    y: int,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
) -> None:
    step = next((each for each in (0.5, 1, 2, 5, 10, 30, 60, 300) if seconds / each <= 16), 600)
    for index in range(int(seconds / step) + 1):
        x = x_of(index * step)
        draw.line((x, y - 14, x, y - 8), _DIM)
        draw.text((x, y - 6), f"{index * step:g} s", _DIM, font, anchor="ma")


def _draw_legend(
    draw: ImageDraw.ImageDraw,
    evaluation: Evaluation,
    y: int,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
) -> None:
    x = _LEFT
    bands = [("a flash", _FLASH)] if not evaluation.calm.all() else []
    if evaluation.zones.seams:
        bands.append(("where one chunk passes into the next", _SEAM))
    for text, colour in bands:
        draw.rectangle((x, y + 1, x + 22, y + 12), fill=colour, outline=_RULE)
        draw.text((x + 30, y - 1), text, _DIM, font)
        x += 60 + round(font.getlength(text))


def _fitting(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> str:
    """``text``, cut where it is wider than ``width`` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + " ...") > width:
        text = text[:-1]
    return text + " ..."
