"""Hold finished videos against the manifest: ``python examples/check_videos.py MANIFEST OUT [CONFIG]``.

Every frame is decoded. Prints a line per shot, and exits with 1 where a
shot has no video or its frames, rate, size or sound are not exactly those that were asked.
"""

import sys
from pathlib import Path

import av
import pyarrow.dataset

from ltx_ray.config import RenderConfig
from ltx_ray.manifest.index import index_manifest, shots
from ltx_ray.manifest.row import RowError
from ltx_ray.media.probe import VideoFacts, probe_video
from ltx_ray.types import Shot, Status

_MILLISECOND = 0.001


def videos(out: Path) -> dict[str, Path]:
    """The finished video of each shot, by the shot's id, as OUT's manifest names it."""
    table = pyarrow.dataset.dataset(out / "manifest").to_table(columns=["id", "status", "file_name"])
    return {row["id"]: out / row["file_name"] for row in table.to_pylist() if row["status"] == Status.DONE}


def decoded_frames(path: Path) -> int:
    """Frames that come out of a decoder."""
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def differences(shot: Shot, facts: VideoFacts, decoded: int) -> list[str]:
    """What of the video is not as the shot asks."""
    wanted_sound = shot.seconds if shot.audio else None
    pairs = {
        "frames": (shot.num_frames, facts.num_frames),
        "decoded frames": (shot.num_frames, decoded),
        "size": ((shot.width, shot.height), (facts.width, facts.height)),
        "has sound": (wanted_sound is not None, facts.audio_seconds is not None),
    }
    found = [f"{name}: asked {asked}, got {got}" for name, (asked, got) in pairs.items() if asked != got]
    lengths = {
        "fps": (shot.fps, facts.fps),
        "seconds": (shot.seconds, facts.seconds),
        "sound seconds": (wanted_sound or 0.0, facts.audio_seconds or 0.0),
    }
    return found + [
        f"{name}: asked {asked:g}, got {got:g}"
        for name, (asked, got) in lengths.items()
        if abs(asked - got) > _MILLISECOND
    ]


def check(shot: Shot | RowError, path: Path | None) -> tuple[str, bool]:
    """A line for people, and whether all is well."""
    if not isinstance(shot, Shot) or path is None:
        return f"{shot.id}: no video", False
    facts = probe_video(path)
    wrong = differences(shot, facts, decoded_frames(path))
    sound = "no sound" if facts.audio_seconds is None else f"{facts.audio_seconds:.3f} s of sound"
    has = f"{facts.num_frames} frames at {facts.fps:g} fps, {facts.width}x{facts.height}, {sound}"
    return f"{path}: {has}: {'; '.join(wrong) or 'as asked'}", not wrong


def main() -> int:
    """Check what the command line names."""
    manifest, out, *rest = sys.argv[1:]
    config = RenderConfig.load(rest[0] if rest else None)
    finished = videos(Path(out))
    is_well = True
    for shot in shots(manifest, config, index_manifest(manifest, config)):
        line, is_right = check(shot, finished.get(shot.id))
        sys.stdout.write(f"{line}\n")
        is_well = is_well and is_right
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
