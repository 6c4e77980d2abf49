"""The corpus of bad input: rows that no shot can be made of, each with words that its reason must have.

The files that rows name are made by bad_files.py. ``GOOD`` are rows that look as bad, and are rendered.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SMALL = {"prompt": "a red circle", "width": 64, "height": 64, "num_frames": 9}
RIGHT_TO_LEFT = chr(0x202E)  # what follows reads backwards
FILE = "file" + "://"

GOOD: list[dict[str, Any]] = [
    {**SMALL, "id": "first"},
    {**SMALL, "id": "html", "prompt": "<script>alert(1)</script><img src=x onerror=alert(2)>&lt;"},
    {**SMALL, "id": "formula", "prompt": '=HYPERLINK("https://x.org","y")', "tags": ["+1", "@SUM(A1)", "-2"]},
    {**SMALL, "id": "markup", "prompt": "[bold]a[/bold] [link=https://x.org]b[/link] [/] **c** {d} %s"},
    {**SMALL, "id": "escapes", "prompt": f"\x1b]0;title\x07\x1b[2J\r\n\t\0 {RIGHT_TO_LEFT} \u2028 end"},
    {**SMALL, "id": "secret-in-a-prompt", "prompt": "a sign that says https://x.org/?token=abc"},
    {**SMALL, "id": "last"},
]


@dataclass(frozen=True, slots=True)
class Bad:
    """One bad row."""

    name: str
    values: dict[str, Any]  # None: the column is left out
    words: str  # the reason has them
    write: Callable[[Path], None] | None = None  # makes the row's file in the manifest's folder
    raw: bytes | None = None  # the line, where it is no JSON of ``values``
    validated: bool = True  # whether ``validate`` sees it too, which does not decode what it opens

    def line(self) -> bytes:
        """The row as a line of JSON."""
        if self.raw is not None:
            return self.raw
        values = {**SMALL, "case": self.name, **self.values}
        return json.dumps({name: value for name, value in values.items() if value is not None}).encode()


def _each(column: str, cases: dict[str, tuple[Any, str]]) -> list[Bad]:
    return [Bad(f"{column}-{name}", {column: value}, words) for name, (value, words) in cases.items()]


def _numbers(column: str, low: int, high: int | None, *, whole: bool = True) -> list[Bad]:
    """Kinds of values that no column of numbers takes."""
    kind = "must be a whole number" if whole else "must be a number"
    found = {
        "below": (low - 1, f"must be at least {low}, got {low - 1}"),
        "text": ("many", "must be a number, got 'many'"),
        "true": (True, "must be a number, got True"),
        "list": ([low], f"must be a number, got [{low}]"),
        "object": ({"a": 1}, "must be a number, got {'a': 1}"),
        "nan": (float("nan"), "must be a finite number, got nan"),
        "infinite": (float("-inf"), "must be a finite number, got -inf"),
    }
    if high is not None:
        found["above"] = (high + 1, f"must be at most {high}, got {high + 1}")
    if whole:
        found["fraction"] = (low + 1.5, f"{kind}, got {low + 1.5}")
    return _each(column, found)


_SAFE = "id: must be safe as a file name, got"
IDS = _each(
    "id",
    {
        "empty": ("", f"{_SAFE} ''"),
        "path": ("a/b", f"{_SAFE} 'a/b'"),
        "windows-path": ("a\\b", f"{_SAFE} 'a\\\\b'"),
        "absolute": ("/etc/passwd", _SAFE),
        "traversal": ("../../etc/passwd", _SAFE),
        "dot": (".", _SAFE),
        "dots": ("..", _SAFE),
        "hidden": (".ssh", _SAFE),
        "space": ("a b", _SAFE),
        "line": ("a\n", f"{_SAFE} 'a\\n'"),
        "nul": ("a\0b", f"{_SAFE} 'a\\x00b'"),
        "escape": ("\x1b[31mred", f"{_SAFE} '\\x1b[31mred'"),
        "right-to-left": (f"a{RIGHT_TO_LEFT}gpm", f"{_SAFE} 'a\\u202egpm'"),
        "letters-that-look-alike": ("сircle", _SAFE),  # noqa: RUF001
        "surrogate": ("\ud800", f"{_SAFE} '\\ud800'"),
        "markup": ("[red]a[/red]", _SAFE),
        "formula": ("=1+1", _SAFE),
        "shell": ("$(reboot)", _SAFE),
        "too-long": ("x" * 101, "(allowed: 1 to 100 of A-Z"),
        "number": (1.5, "id: must be text, got 1.5"),
        "huge-number": (2**64, "id: must be text, got 18446744073709551616"),
        "true": (True, "id: must be text, got True"),
        "list": (["a"], "id: must be text, got ['a']"),
        "reserved": ("row-0123456789abcdef0123-1", "the form that is kept for rejected rows"),
        "duplicate": ("first", "id: must be unique, also in lower case, got 'first', which row 1 has"),
        "duplicate-in-case": ("FIRST", "id: must be unique, also in lower case, got 'FIRST', which row 1"),
    },
)

PROMPTS = [
    Bad("no-prompt", {"prompt": None}, "prompt: is required, or prompts"),
    Bad("two-prompts", {"prompts": [{"at_s": 0, "text": "a"}]}, "prompts: give one of them, got both"),
    *_each(
        "prompt",
        {
            "empty": ("", "prompt: must not be empty, got ''"),
            "blank": (" \t\n", "prompt: must not be empty, got ' \\t\\n'"),
            "number": (5, "prompt: must be text, got 5"),
            "list": (["a"], "prompt: must be text, got ['a']"),
            "surrogate": ("a \udcff", "prompt: must be valid Unicode, got 'a \\udcff'"),
            "too-long": ("x" * 10_001, "prompt: must have at most 10,000 characters, has 10,001"),
        },
    ),
    *_each(
        "negative_prompt",
        {
            "number": (0.5, "negative_prompt: must be text, got 0.5"),
            "surrogate": ("\ud83d", "negative_prompt: must be valid Unicode"),
            "too-long": ("y" * 20_000, "negative_prompt: must have at most 10,000 characters, has 20,000"),
        },
    ),
]


def _schedule(name: str, prompts: Any, words: str) -> Bad:
    return Bad(f"prompts-{name}", {"prompt": None, "prompts": prompts}, words)


SCHEDULES = [
    _schedule("empty", [], "prompts: must have at least one entry"),
    _schedule("text", "a circle, then a square", "prompts: must be a list in JSON"),
    _schedule("broken-json", '[{"at_s": 0', "prompts: must be a list in JSON"),
    _schedule("object", {"at_s": 0, "text": "a"}, "prompts: must be a list"),
    _schedule("texts", ["a"], "prompts[0]: must be an object with at_s and text, got 'a'"),
    _schedule("late", [{"at_s": 0.1, "text": "a"}], "prompts: must begin with an entry at_s 0"),
    _schedule("negative", [{"at_s": -1, "text": "a"}], "prompts[0].at_s: must be at least 0, got -1"),
    _schedule("nan", [{"at_s": float("nan"), "text": "a"}], "prompts[0].at_s: must be a finite number"),
    _schedule("no-text", [{"at_s": 0}], "prompts[0].text: is required"),
    _schedule("no-time", [{"text": "a"}], "prompts[0].at_s: is required"),
    _schedule("blank", [{"at_s": 0, "text": " "}], "prompts[0].text: must not be empty"),
    _schedule("unknown", [{"at_s": 0, "text": "a", "seed": 1}], "prompts[0].seed: is not known here"),
    _schedule("same", [{"at_s": 0, "text": "a"}] * 2, "prompts: must have rising at_s, 0 follows 0"),
    _schedule(
        "beyond-the-end",
        [{"at_s": 0, "text": "a"}, {"at_s": 9, "text": "b"}],
        "prompts: at_s must be below the video's 0.375 seconds, got 9",
    ),
    _schedule("too-many", [{"at_s": n, "text": "a"} for n in range(1001)], "must have at most 1000 entries"),
]

SIZES = [
    *_numbers("width", 32, None),
    *_numbers("height", 32, None),
    *_each("width", {"odd": (65, "width: must be even, got 65"), "blank": ("", "must be a number, got ''")}),
    *_each("height", {"hexadecimal": ("0x40", "must be a number, got '0x40'"), "zero": (0, "at least 32")}),
    Bad("frame-too-large", {"width": 10**6, "height": 10**6}, "width, height: must be at most 67,108,864 p"),
    Bad("width-beyond-all-numbers", {"width": 10**400}, "width"),
    *_numbers("num_frames", 1, None),
    *_each(
        "num_frames",
        {
            "too-many": (100_001, "num_frames: must be at most 100,000 frames (limits.max_frames"),
            "as-a-power": (1e40, "num_frames: must be at most 100,000 frames"),
        },
    ),
    Bad("seconds-and-frames", {"seconds": 1}, "seconds, num_frames: give one, got 1 and 9"),
    *(
        Bad(f"seconds-{name}", {"num_frames": None, "seconds": value}, f"seconds: {words}")
        for name, value, words in [
            ("zero", 0, "must be more than 0"),
            ("negative", -2.5, "must be at least 0"),
            ("text", "2s", "must be a number, got '2s'"),
            ("clock", "00:02", "must be a number, got '00:02'"),
            ("infinite", float("inf"), "must be a finite number"),
            ("too-long", 1e9, "must be at most 100,000 frames"),
        ]
    ),
    *_numbers("fps", 1, 240, whole=False),
    *_each("fps", {"fraction-in-words": ("30000/1001", "must be a number, got '30000/1001'")}),
]

SETTINGS = [
    *_numbers("seed", 0, 2**53 - 1),
    *_numbers("num_inference_steps", 1, 1000),
    *_numbers("guidance_scale", 0, 100, whole=False),
    *_numbers("audio_guidance_scale", 0, 100, whole=False),
    *_numbers("coherence_guidance", 0, 10, whole=False),
    *_numbers("chunk_size", 9, 2049),
    *_numbers("overlap_frames", 0, 1024),
    *_numbers("audio_start_s", 0, None, whole=False),
    *_numbers("priority", -1000, 1000),
    Bad("overlap-fills-the-chunk", {"chunk_size": 33, "overlap_frames": 25}, "at least 9 new frames"),
    *_each(
        "tags",
        {
            "number": (5, "tags: must be a list"),
            "of-numbers": ([1], "tags[0]: must be text, got 1"),
            "blank": ([" "], "tags[0]: must not be empty"),
            "too-long": (["x" * 101], "tags[0]: must have at most 100 characters"),
            "too-many": (["x"] * 101, "tags: must have at most 100 entries, has 101"),
            "broken-json": ("[1,", "tags: must be a list in JSON"),
        },
    ),
    Bad("unknown-and-deep", {"note": json.loads("[" * 60 + "]" * 60)}, "column 'note': must not nest lists"),
]

LINES = [
    Bad("cut-line", {}, "must be a JSON object on one line", raw=b'{"prompt": "a red cir'),
    Bad("two-on-a-line", {}, "Extra data", raw=b'{"prompt": "a"}{"prompt": "b"}'),
    Bad("python", {}, "must be a JSON object on one line", raw=b"{'prompt': 'a'}"),
    Bad("array", {}, 'must be a JSON object such as {"prompt": ...}, got [1, 2]', raw=b"[1, 2]"),
    Bad("number", {}, 'must be a JSON object such as {"prompt": ...}, got 7', raw=b"7"),
    Bad("text", {}, "must be a JSON object such as {\"prompt\": ...}, got 'a cat'", raw=b'"a cat"'),
    Bad("null", {}, 'must be a JSON object such as {"prompt": ...}, got None', raw=b"null"),
    Bad("deep", {}, "must be JSON that is not nested so deeply", raw=b'{"a":' * 100_000),
    Bad("long", {}, "a line must have at most 1,048,576 char", raw=b'{"prompt": "' + b"x" * 2**20 + b'"}'),
    Bad(
        "digits",
        {},
        "a number has more than 4,300 digits",
        raw=b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}",
    ),
    Bad("bytes", {}, "must be text in UTF-8", raw=b'{"prompt": "caf\xe9"}'),
    Bad("nul", {}, "must be a JSON object on one line", raw=b"\0\0\0"),
    Bad("power", {}, "width: must be a finite number, got inf", raw=b'{"prompt": "a", "width": 1e400}'),
    Bad("escape", {}, "\\x1b[2J", raw=b"\x1b[2J{}"),
]

ROWS = [*IDS, *PROMPTS, *SCHEDULES, *SIZES, *SETTINGS, *LINES]
