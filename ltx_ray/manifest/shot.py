"""From a manifest row to the shot that is rendered: defaults filled in, every problem of the row told."""

import hashlib
import json
import posixpath
from pathlib import Path

from ltx_ray.config import RenderConfig
from ltx_ray.errors import MediaError
from ltx_ray.manifest.content import RawRow, is_too_deep, shorten
from ltx_ray.manifest.identity import Assigned, alone, default_seed, identify
from ltx_ray.manifest.row import COLUMNS, Problem, Row, RowError, allowed, check_columns
from ltx_ray.media.access import Access
from ltx_ray.redact import redacted
from ltx_ray.types import PromptSpan, Shot

_CONTENT = (  # the fields that decide what the video shows
    "negative_prompt",
    "num_frames",
    "fps",
    "width",
    "height",
    "seed",
    "num_inference_steps",
    "guidance_scale",
    "audio_guidance_scale",
    "coherence_guidance",
    "chunk_size",
    "overlap_frames",
    "audio",
    "audio_start_s",
    "image",
)


def parse_row(
    raw: RawRow,
    config: RenderConfig,
    base: str,
    assigned: Assigned | None = None,
    access: Access | None = None,
) -> Shot:
    """The shot of a row.

    ``base`` is the folder (absolute path or URL) of relative ``audio`` and ``image`` paths. ``assigned``
    is the row's id among all rows of the manifest; None: as if there were no others. ``access``: what may be
    named; None: what lies below ``base``, and what the config allows.
    Raises RowError, and nothing else whatever the row holds, with all problems of the row.
    """
    assigned = assigned or alone(identify(raw))
    if raw.values is None:
        text = redacted(f"row {raw.number}: {raw.error}")
        raise RowError(text, raw.number, (), assigned.id, raw.as_json())
    defaults = _defaults(raw, config)
    row, problems = check_columns({**raw.values, **defaults})
    wrong = {name for problem in problems for name in problem.fields}
    problems += _cross_check(row, config, wrong) + _row_problems(raw, assigned)
    paths = {}
    access = access or Access.of_rows(base, config.inputs)
    for name in ("audio", "image"):
        try:
            paths[name] = _resolve(base, name, getattr(row, name), access)
        except Problem as problem:
            problems.append(problem)
    if problems:
        raise _row_error(raw, assigned, problems, defaults)
    return _shot(row, raw, assigned.id, paths)


def num_frames_of(row: Row) -> int | None:
    """Frames that the row asks for; None where it does not say, or beyond all measure."""
    if row.seconds is None or row.fps is None:
        return row.num_frames
    frames = row.seconds * row.fps
    return max(1, round(frames)) if frames < 1e18 else None


def spans_of(row: Row) -> tuple[PromptSpan, ...]:
    """The row's prompts, a single one too."""
    if row.prompts is not None:
        return tuple(PromptSpan(span.at_s, span.text) for span in row.prompts)
    return (PromptSpan(0.0, row.prompt),) if row.prompt is not None else ()


def _defaults(raw: RawRow, config: RenderConfig) -> dict[str, object]:
    """The config's values for the columns that the row leaves out (or gives as null)."""
    values = raw.values or {}
    defaults = config.defaults.model_dump()
    if values.get("seconds") is not None:
        del defaults["num_frames"]
    return {name: value for name, value in defaults.items() if values.get(name) is None}


def _cross_check(row: Row, config: RenderConfig, wrong: set[str]) -> list[Problem]:
    """What is wrong with columns taken together, as far as each of them is right."""
    problems = []
    if not wrong & {"prompt", "prompts"}:
        if row.prompt is None and row.prompts is None:
            problems.append(Problem(("prompt",), f"prompt: is required, or prompts {allowed('prompt')}"))
        elif row.prompt is not None and row.prompts is not None:
            problems.append(Problem(("prompt", "prompts"), "prompt, prompts: give one of them, got both"))
    if row.seconds is not None and row.num_frames is not None:
        got = f"{row.seconds:g} and {shorten(row.num_frames)}"
        problems.append(Problem(("seconds", "num_frames"), f"seconds, num_frames: give one, got {got}"))
    elif not wrong & {"seconds", "num_frames", "fps"}:
        problems += _check_length(row, config.limits.max_frames)
        problems += _check_volume(row, config.limits.max_pixels_per_shot)
    if row.width and row.height and row.width * row.height > config.limits.max_pixels:
        got = f"{shorten(row.width)} x {shorten(row.height)}"
        allowed_pixels = f"{config.limits.max_pixels:,} pixels together (limits.max_pixels of the config)"
        text = f"width, height: must be at most {allowed_pixels}, got {got}"
        problems.append(Problem(("width", "height"), text))
    if not wrong & {"chunk_size", "overlap_frames"}:
        problems += _check_chunks(row, config)
    return problems


def _check_volume(row: Row, most: int | None) -> list[Problem]:
    """The whole video's pixels: what a shot costs, whatever its shape."""
    frames = num_frames_of(row)
    if most is None or not (frames and row.width and row.height) or row.width * row.height * frames <= most:
        return []
    length = "num_frames" if row.seconds is None else "seconds"
    text = (
        f"width, height, {length}: must be at most {most:,} pixels in all frames together "
        f"(limits.max_pixels_per_shot of the config), got {shorten(row.width * row.height * frames)}"
    )
    return [Problem(("width", "height", length), text)]


def _check_chunks(row: Row, config: RenderConfig) -> list[Problem]:
    given = tuple(name for name in ("chunk_size", "overlap_frames") if getattr(row, name) is not None)
    size = config.sampling.chunk_size if row.chunk_size is None else row.chunk_size
    overlap = config.sampling.overlap_frames if row.overlap_frames is None else row.overlap_frames
    if not given or overlap < size - 8:
        return []
    text = f"must leave at least 9 new frames in a chunk, got {overlap} of {size}"
    return [Problem(given, f"{', '.join(given)}: overlap_frames {text} {allowed(given[-1])}")]


def _check_length(row: Row, max_frames: int) -> list[Problem]:
    frames = num_frames_of(row)
    if frames is None or frames > max_frames:
        name = "num_frames" if row.seconds is None else "seconds"
        got = shorten(row.num_frames) if row.seconds is None else f"{row.seconds:g} s at {row.fps:g} fps"
        text = f"{name}: must be at most {max_frames:,} frames (limits.max_frames of the config), got {got}"
        return [Problem((name,), text)]
    seconds = frames / (row.fps or 1.0)
    last = row.prompts[-1].at_s if row.prompts else 0.0
    if last >= seconds:
        text = f"prompts: at_s must be below the video's {seconds:g} seconds, got {last:g}"
        return [Problem(("prompts",), f"{text} {allowed('prompts')}")]
    return []


def _row_problems(raw: RawRow, assigned: Assigned) -> list[Problem]:
    values = raw.values or {}
    problems = []
    if assigned.taken_by is not None:
        text = f"id: must be unique, also in lower case, got {shorten(values['id'])}, which row"
        problems.append(Problem(("id",), f"{text} {assigned.taken_by} has"))
    for name, value in values.items():
        if name not in COLUMNS and is_too_deep(value):
            text = f"column {shorten(name)}: must not nest lists and objects so deeply"
            problems.append(Problem((str(name),), text))
    return problems


def _resolve(base: str, name: str, path: str | None, access: Access) -> str | None:
    """``path`` as a URL or an absolute path. Raises Problem where it must not be read."""
    if path is None:
        return None
    try:
        found = _joined(base, path)
        access.check(found)
    except MediaError as error:
        raise Problem((name,), f"{name}: {error}") from error
    return found


def _joined(base: str, path: str) -> str:
    if "://" in path or "::" in path or path.startswith("/"):
        return path
    if "://" not in base:
        return str(Path(base).absolute() / path)
    protocol, _, root = base.partition("://")
    joined = posixpath.normpath(posixpath.join(root, path))
    if joined.startswith(".."):
        raise MediaError(f"a file must not lie above {protocol}://, got {shorten(path)}")
    return f"{protocol}://{joined}"


def _row_error(
    raw: RawRow, assigned: Assigned, problems: list[Problem], defaults: dict[str, object]
) -> RowError:
    texts = []
    for problem in problems:
        is_default = all(name in defaults for name in problem.fields)
        texts.append(f"{problem} - a default of the config" if is_default else str(problem))
    fields = tuple(dict.fromkeys(name for problem in problems for name in problem.fields))
    text = redacted(f"row {raw.number}: {'; '.join(texts)}")
    return RowError(text, raw.number, fields, assigned.id, raw.as_json())


def _shot(row: Row, raw: RawRow, row_id: str, paths: dict[str, str | None]) -> Shot:
    num_frames = num_frames_of(row)
    assert num_frames is not None
    assert row.fps is not None
    assert row.width is not None
    assert row.height is not None
    prompts = spans_of(row)
    content = row.model_dump(include=set(_CONTENT))
    content |= paths
    content |= {"num_frames": num_frames, "audio_start_s": row.audio_start_s or 0.0}
    content["negative_prompt"] = row.negative_prompt or ""
    content["seed"] = default_seed(row_id) if row.seed is None else row.seed
    hashed = json.dumps([content, [(span.at_s, span.text) for span in prompts]], sort_keys=True)
    return Shot(
        id=row_id,
        prompts=prompts,
        **content,
        priority=row.priority or 0,
        tags=row.tags or (),
        row=raw.number,
        input=raw.as_json(),
        fingerprint=hashlib.sha256(hashed.encode()).hexdigest()[:16],
    )
