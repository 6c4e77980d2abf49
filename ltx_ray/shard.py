"""A part of a manifest that is rendered as a run of its own, in an OUT that it shares with the other parts.

Which part a row belongs to follows from its id alone: rows that are added, removed or moved take no other
row along. It is a hash, and not the row's place, also because manifests have a rhythm (the same prompt in
eight sizes, say), and with a number of shards that beats in time with it one shard would have all the work.

What a shard writes has its name in it, so that no two of them ever write one file:

    ledger/0003/  control/0003/  work/0003/  logs/0003/  metrics/0003.*
    manifest/part-0003-*.parquet  videos/0003-00000/

A manifest that is not divided is shard ``0000``, whose parts and folders of videos are named without it.
"""

import hashlib
import re
from dataclasses import dataclass

from ltx_ray.errors import UserError

_GIVEN = re.compile(r"([0-9]{1,5})/([0-9]{1,5})", re.ASCII)
_MOST = 9999
_UNDIVIDED = "0000"
_PREFIX = re.compile(r"([0-9]{4})-.+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Shard:
    """Part ``number``, from 1 on, of ``count``."""

    number: int
    count: int

    def __post_init__(self) -> None:
        assert 1 <= self.number <= self.count <= _MOST, f"no shard: {self.number}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """``3/8``. Raises UserError."""
        match = _GIVEN.fullmatch(text.strip())
        number, count = (int(match[1]), int(match[2])) if match else (0, 0)
        if not 1 <= number <= count <= _MOST:
            raise UserError(
                f"--shard must be i/n, with i from 1 to n and n at most {_MOST:,}, got {text!r}: the third "
                "of eight parts is 3/8"
            )
        return cls(number, count)

    @classmethod
    def of(cls, shot_id: str, count: int) -> "Shard":
        """That of ``count`` to which a row belongs."""
        digest = hashlib.blake2b(shot_id.encode(), digest_size=8, person=b"shard").digest()
        return cls(1 + int.from_bytes(digest, "big") % count, count)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def name(self) -> str:
        """How it is called within OUT."""
        return f"{self.number:04d}" if self.count > 1 else _UNDIVIDED

    @property
    def all(self) -> "tuple[Shard, ...]":
        """This one and the others, in order."""
        return tuple(Shard(number, self.count) for number in range(1, self.count + 1))

    def has(self, shot_id: str) -> bool:
        """Whether a row belongs to it."""
        return self.count == 1 or Shard.of(shot_id, self.count) == self


WHOLE = Shard(1, 1)


def named(name: str, url: str) -> str:
    """How messages call the shard ``name`` of ``url``."""
    return url if name == _UNDIVIDED else f"shard {int(name)} of {url}"


def command_file(name: str) -> str:
    """Where the render command of a shard is kept, relative to OUT."""
    return "command.json" if name == _UNDIVIDED else f"ledger/{name}/command.json"


def part_prefix(name: str) -> str:
    """How the files of a shard in OUT/manifest begin; a number follows."""
    return "part-" if name == _UNDIVIDED else f"part-{name}-"


def video_folder(name: str, number: int) -> str:
    """A shard's folder of that number, within OUT/videos."""
    return f"{number:05d}" if name == _UNDIVIDED else f"{name}-{number:05d}"


def owner_of(folder: str) -> str:
    """The name of the shard whose a folder of OUT/videos is."""
    match = _PREFIX.fullmatch(folder)
    return match[1] if match else _UNDIVIDED
