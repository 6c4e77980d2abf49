"""OUT may be an object store: the same files, the same bytes, the same continuing."""

from pathlib import Path

import fsspec
from runs import render_here, write_manifest

ROWS = [
    {"id": "a", "prompt": "a red circle", "width": 64, "height": 96, "num_frames": 41},
    {"id": "b", "prompt": "a blue square", "width": 64, "height": 64, "num_frames": 9},
]


def files_of(out: str, ending: str) -> dict[str, bytes]:
    """Content of all files below ``out`` that end so, by their names below it."""
    fs, root = fsspec.core.url_to_fs(out)
    fs.invalidate_cache()
    return {path.removeprefix(root): fs.cat_file(path) for path in fs.find(root) if path.endswith(ending)}


def test_s3_holds_what_a_folder_holds(tmp_path: Path, s3_out: str) -> None:
    manifest = write_manifest(tmp_path / "shots.jsonl", ROWS)
    render_here(manifest, tmp_path / "out")
    first = render_here(manifest, s3_out, limit=1)
    second = render_here(manifest, s3_out)
    assert (first.progress.done, second.progress.done, second.progress.skipped) == (1, 2, 1)
    there, here = files_of(s3_out, ".mp4"), files_of(str(tmp_path / "out"), ".mp4")
    assert sorted(there.values()) == sorted(here.values())
    assert len(there) == 2
    assert files_of(s3_out, ".safetensors") == {}, "chunks of finished shots are removed"
    assert len(files_of(s3_out, ".parquet")) == 2
    assert files_of(s3_out, "run.json") == files_of(str(tmp_path / "out"), "run.json")
