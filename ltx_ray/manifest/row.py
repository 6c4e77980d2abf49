"""A manifest row as a pydantic model: which columns are known, of which type, within which bounds.

Values come from JSON, CSV (all text) and Parquet alike, so that numbers are taken as text too; ``true``
is no number, ``12.5`` no whole one, and NaN none at all. Unknown columns are no error; they are kept in
the row's ``input``. What involves several columns, or the config, is checked in shot.py.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ltx_ray.errors import UserError
from ltx_ray.manifest.content import is_unicode, shorten
from ltx_ray.manifest.identity import ID_RULE, check_id
from ltx_ray.visible import STEERING

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_WHOLE = re.compile(r"[+-]?[0-9]{1,40}")
_MAX_SPANS = 1000
_MAX_TAGS = 100
_SHOWN_PROBLEMS = 20  # of one column; a list of a thousand wrong entries must not make an endless message
_PYDANTIC = {  # error type -> our words
    "missing": "is required",
    "extra_forbidden": "is not known here",
    "model_type": "must be an object with at_s and text",
    "tuple_type": "must be a list",
}


class RowError(UserError):
    """A row is rejected. The message lists every problem of the row."""

    kind = "rejected"

    def __init__(
        self, message: str, row: int = 0, fields: tuple[str, ...] = (), id: str = "", input: str = "{}"
    ) -> None:
        super().__init__(message)
        self.row = row  # 1-based row number
        self.fields = fields  # the columns that are wrong
        self.id = id  # the row's own id, or one that was made for it; unique in the manifest
        self.input = input  # the row as it came, as JSON


class Problem(Exception):
    """One thing that is wrong with a row."""

    def __init__(self, fields: tuple[str, ...], text: str) -> None:
        super().__init__(text)
        self.fields = fields


def _optional(check: Callable[[Any], Any]) -> BeforeValidator:
    return BeforeValidator(lambda value: None if value is None else check(value))


def _number(value: Any) -> float:
    if isinstance(value, str) and len(value) <= 64 and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a number")
    if not abs(value) < math.inf or abs(value) > 1e300:
        raise ValueError("must be a finite number")
    return float(value)


def _whole_number(value: Any) -> int:
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    number = _number(value)
    if not number.is_integer():
        raise ValueError("must be a whole number")
    return int(number)


def _whole(low: int, high: int | None = None, *, even: bool = False) -> BeforeValidator:
    def check(value: Any) -> int:
        number = _whole_number(value)
        if number < low or (high is not None and number > high):
            raise ValueError(f"must be at least {low}" if number < low else f"must be at most {high}")
        if even and number % 2:
            raise ValueError("must be even")
        return number

    return _optional(check)


def _real(low: float, high: float = 1e300, *, above: bool = False) -> BeforeValidator:
    def check(value: Any) -> float:
        number = _number(value)
        if number < low or number > high:
            raise ValueError(f"must be at least {low:g}" if number < low else f"must be at most {high:g}")
        if above and number == low:
            raise ValueError(f"must be more than {low:g}")
        return number

    return _optional(check)


def _text(max_length: int, *, blank: bool = False, control: bool = True) -> BeforeValidator:
    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError("must be text")
        if not blank and not value.strip():
            raise ValueError("must not be empty")
        if len(value) > max_length:
            raise ValueError(f"must have at most {max_length:,} characters, has {len(value):,}")
        if not is_unicode(value):
            raise ValueError("must be valid Unicode")
        if not control and STEERING.search(value):
            raise ValueError("must not have characters that control lines or the direction of text")
        return value

    return _optional(check)


def _list(value: Any, max_length: int) -> Any:
    """A list, also as the JSON text that stands in a CSV cell."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError("must be a list in JSON") from error
    if isinstance(value, list) and len(value) > max_length:
        raise ValueError(f"must have at most {max_length} entries, has {len(value):,}")
    return value


def _span_list(value: Any) -> Any:
    value = _list(value, _MAX_SPANS)
    if value == []:
        raise ValueError("must have at least one entry")
    return value


def _tag_list(value: Any) -> Any:
    if isinstance(value, str) and not value.lstrip().startswith("["):
        value = [tag.strip() for tag in value.split(",") if tag.strip()]
    return _list(value, _MAX_TAGS)


class Span(BaseModel):
    """An entry of ``prompts``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at_s: Annotated[float, _real(0)]
    text: Annotated[str, _text(10_000)]


def _in_order(spans: tuple[Span, ...] | None) -> tuple[Span, ...] | None:
    if spans and spans[0].at_s != 0:
        raise ValueError("must begin with an entry at_s 0")
    for before, after in zip(spans or (), (spans or ())[1:], strict=False):
        if after.at_s <= before.at_s:
            raise ValueError(f"must have rising at_s, {after.at_s:g} follows {before.at_s:g}")
    return spans


_PATH = "the path or URL of a file, relative to the manifest's folder"
_SPANS = 'a list of {"at_s": seconds, "text": prompt}, at_s rising from 0, below the video\'s seconds'
_SIZE = "an even number of pixels, 32 or more"


class Row(BaseModel):
    """The known columns. None: the row leaves it out. ``description`` is what is allowed."""

    model_config = ConfigDict(frozen=True, extra="allow")

    id: Annotated[str | None, _optional(check_id)] = Field(None, description=ID_RULE)
    prompt: Annotated[str | None, _text(10_000)] = Field(None, description="text of 1 to 10,000 characters")
    prompts: Annotated[
        tuple[Span, ...] | None,
        _optional(_span_list),
        AfterValidator(_in_order),
    ] = Field(None, description=_SPANS)
    negative_prompt: Annotated[str | None, _text(10_000, blank=True)] = Field(
        None, description="text of at most 10,000 characters"
    )
    seconds: Annotated[float | None, _real(0, above=True)] = Field(None, description="a number above 0")
    num_frames: Annotated[int | None, _whole(1)] = Field(None, description="a whole number, 1 or more")
    fps: Annotated[float | None, _real(1, 240)] = Field(None, description="a number from 1 to 240")
    width: Annotated[int | None, _whole(32, even=True)] = Field(None, description=_SIZE)
    height: Annotated[int | None, _whole(32, even=True)] = Field(None, description=_SIZE)
    seed: Annotated[int | None, _whole(0, 2**53 - 1)] = Field(
        None, description="a whole number from 0 to 9007199254740991"
    )
    num_inference_steps: Annotated[int | None, _whole(1, 1000)] = Field(
        None, description="a whole number from 1 to 1000"
    )
    guidance_scale: Annotated[float | None, _real(0, 100)] = Field(None, description="a number from 0 to 100")
    audio_guidance_scale: Annotated[float | None, _real(0, 100)] = Field(
        None, description="a number from 0 to 100"
    )
    coherence_guidance: Annotated[float | None, _real(0, 10)] = Field(
        None, description="a number from 0 to 10"
    )
    chunk_size: Annotated[int | None, _whole(9, 2049)] = Field(
        None, description="a whole number of frames from 9 to 2049"
    )
    overlap_frames: Annotated[int | None, _whole(0, 1024)] = Field(
        None, description="a whole number of frames from 0 to 1024, leaving 9 new ones in a chunk"
    )
    audio: Annotated[str | None, _text(4096, control=False)] = Field(None, description=_PATH)
    audio_start_s: Annotated[float | None, _real(0)] = Field(
        None, description="a number of seconds, 0 or more"
    )
    image: Annotated[str | None, _text(4096, control=False)] = Field(None, description=_PATH)
    priority: Annotated[int | None, _whole(-1000, 1000)] = Field(
        None, description="a whole number from -1000 to 1000"
    )
    tags: Annotated[tuple[Annotated[str, _text(100)], ...] | None, _optional(_tag_list)] = Field(
        None, description="at most 100 tags, a list or between commas, each of 1 to 100 characters"
    )


COLUMNS = tuple(Row.model_fields)


def check_columns(values: Mapping[str, Any]) -> tuple[Row, list[Problem]]:
    """The row with its wrong columns left out, and what is wrong with those. Unknown columns are skipped."""
    known = {name: values[name] for name in COLUMNS if values.get(name) is not None}
    try:
        return Row.model_validate(known), []
    except ValidationError as error:
        problems = _problems(error)
    wrong = {name for problem in problems for name in problem.fields}
    return Row.model_validate({name: known[name] for name in known if name not in wrong}), problems


def allowed(name: str) -> str:
    """What a column may hold, for an error message."""
    return f"(allowed: {Row.model_fields[name].description})"


def _problems(error: ValidationError) -> list[Problem]:
    count: Counter[str] = Counter()
    problems = []
    for item in error.errors(include_url=False):
        name = str(item["loc"][0])
        count[name] += 1
        if count[name] <= _SHOWN_PROBLEMS:
            problem = _problem(item)
            problems.append(Problem((name,), f"{problem} {allowed(name)}") if count[name] == 1 else problem)
    hidden = {name: number - _SHOWN_PROBLEMS for name, number in count.items() if number > _SHOWN_PROBLEMS}
    return problems + [Problem((name,), f"{name}: {number} more") for name, number in hidden.items()]


def _problem(item: Any) -> Problem:
    name, *inner = item["loc"]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{shorten(part)[1:-1]}" for part in inner)
    cause = item.get("ctx", {}).get("error")
    what = str(cause) if cause is not None else _PYDANTIC.get(item["type"], item["msg"])
    return Problem((name,), f"{name}{place}: {what}, got {shorten(item['input'])}")
