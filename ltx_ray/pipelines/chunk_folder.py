"""Where ``enable_streaming`` keeps a long video's chunks and segments, so that a stopped call goes on.

FOLDER/call.json                        what was asked; another call on the same folder is refused
FOLDER/video-0000/chunk-0000.safetensors    final latents and tail of a finished chunk
FOLDER/video-0000/segment-0000.mp4          decoded frames
FOLDER/video-0000.mp4                       the finished video
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ltx_ray.config import EncodingConfig
from ltx_ray.decoding.blend import Pixels
from ltx_ray.errors import BadResultError, ConfigError
from ltx_ray.media.join import join_segments
from ltx_ray.media.segment import SegmentWriter
from ltx_ray.payload import pack, unpack
from ltx_ray.sampling.carriers import ChunkLatents
from ltx_ray.storage import Store
from ltx_ray.types import ShotPlan, Slab

_CALL = "call.json"
_ENCODING = EncodingConfig()


class ChunkFolder:
    """A folder (path or fsspec URL) of one call of ``generate_long_video``. Files appear whole."""

    def __init__(self, url: str) -> None:
        self._store = Store(url)

    def claim(self, call: dict[str, Any], seed: int, seed_given: bool) -> int:
        """Make the folder this call's, or find that it is; returns the seed of the call.

        A call that names no seed goes on with the folder's. Raises ConfigError where the folder belongs to
        another call, naming what differs.
        """
        encoding = _ENCODING.model_dump(mode="json")
        ours = json.loads(json.dumps({**call, "encoding": encoding, "seed": seed}))
        if self._store.create(_CALL, (json.dumps(ours, indent=2, sort_keys=True) + "\n").encode()):
            return seed
        theirs = json.loads(self._store.read(_CALL))
        if not seed_given:
            ours["seed"] = theirs.get("seed")
        differing = [name for name in sorted({*ours, *theirs}) if ours.get(name) != theirs.get(name)]
        if differing:
            told = "; ".join(_difference(name, theirs.get(name), ours.get(name)) for name in differing)
            raise ConfigError(
                f"the folder {self._store.url} holds chunks of another call ({told}): give the same "
                "arguments again, or another chunk_save_path"
            )
        return int(ours["seed"])

    def load(self, video: int, chunk: int) -> ChunkLatents | None:
        """A finished chunk; None where there is none, or what is there is not whole."""
        try:
            return ChunkLatents.from_tensors(unpack(self._store.read(_chunk(video, chunk))))
        except (FileNotFoundError, BadResultError):
            return None

    def save(self, video: int, chunk: int, latents: ChunkLatents) -> None:
        """Keep a finished chunk."""
        self._store.write(_chunk(video, chunk), pack(latents.to_tensors()))

    def segments(self, video: int, plan: ShotPlan) -> set[int]:
        """The slabs whose segments are there."""
        return {
            slab.index for slab in plan.slabs if self._store.size(_segment(video, slab.index)) is not None
        }

    def write_segment(self, video: int, plan: ShotPlan, slab: Slab, frames: Iterator[Pixels]) -> None:
        """Encode a slab's frames."""
        shot = plan.shot
        with tempfile.TemporaryDirectory(prefix="ltx-ray-") as folder:
            path = Path(folder) / "segment.mp4"
            with SegmentWriter(
                path, shot.width, shot.height, shot.fps, slab.first_frame, _ENCODING
            ) as writer:
                for pixels in frames:
                    writer.write(pixels)
            self._store.put(path, _segment(video, slab.index))

    def join(self, video: int, plan: ShotPlan) -> str:
        """Join the segments of a video whose slabs are all there; returns where the video is."""
        name = f"video-{video:04d}.mp4"
        with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="ltx-ray-") as folder:
            paths = [
                stack.enter_context(self._store.fetched(_segment(video, slab.index))) for slab in plan.slabs
            ]
            path = Path(folder) / name
            join_segments(
                paths, [slab.num_frames for slab in plan.slabs], path, plan.shot.fps, None, _ENCODING
            )
            self._store.put(path, name)
        store = self._store
        return store.path(name) if store.is_local else f"{store.url.rstrip('/')}/{name}"


def _chunk(video: int, chunk: int) -> str:
    return f"video-{video:04d}/chunk-{chunk:04d}.safetensors"


def _segment(video: int, slab: int) -> str:
    return f"video-{video:04d}/segment-{slab:04d}.mp4"


def _difference(name: str, theirs: Any, ours: Any) -> str:
    """In words. Two hashes tell nobody more than that they differ."""
    if _is_hashed(theirs) and _is_hashed(ours):
        return f"another {name.replace('_', ' ')}"
    was, now = ("given" if _is_hashed(value) else repr(value) for value in (theirs, ours))
    return f"{name} was {was}, now {now}"


def _is_hashed(value: Any) -> bool:
    """Whether a hash stands in the place of ``value``, or of a part of it."""
    if isinstance(value, list):
        return any(_is_hashed(part) for part in value)
    return isinstance(value, dict) and "sha256" in value
