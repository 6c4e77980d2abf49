"""What is written under OUT is whole, complete, and read by datasets, pandas and DuckDB."""

import json
import os
import subprocess
import sys
from pathlib import Path

import av
import duckdb
import fsspec
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from ltx_ray.errors import StorageError
from ltx_ray.manifest.output import (
    compact,
    next_part,
    write_dataset_card,
    write_part,
    write_video_folder,
)
from ltx_ray.manifest.schema import from_table
from ltx_ray.types import ChunkResult, ShotResult, Status

IDS = {"00000": ["train-1", "the-test", "dev_3", "validation", "plain"], "0003-00000": ["test-at-dusk"]}


def result(name: str, folder: str = "00000", **changes: object) -> ShotResult:
    values = {
        "id": name,
        "generation": 1,
        "status": Status.DONE,
        "row": 1,
        "fingerprint": "f",
        "input": json.dumps({"prompt": f"prompt of {name}", "note": "犬"}),
        "attempts": 1,
        "file_name": f"videos/{folder}/{name}-1.mp4",
        "sha256": "0" * 64,
        "bytes": 10,
        "num_frames": 2,
        "fps": 24.0,
        "width": 32,
        "height": 32,
        "seconds": 2 / 24,
        "seed": 2**53 - 1,
        "chunks": (ChunkResult(index=0, start_frame=0, num_frames=2, seed=5, seconds=0.5, attempts=1),),
        "queued_at": 1_700_000_000.25,
        "stage_seconds": {"denoise": 1.5, "decode": 0.5},
        **changes,
    }
    return ShotResult(**values)


def write_video(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(2):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def parts(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "manifest").iterdir())


def read(out: Path) -> list[ShotResult]:
    return [
        row
        for path in sorted((out / "manifest").glob("part-*.parquet"))
        for row in from_table(pq.read_table(path))
    ]


def test_parts_are_whole_files_and_nothing_else_is_left(tmp_path):
    assert next_part(str(tmp_path)) == 1
    path = write_part(str(tmp_path), 1, [result("a"), result("b")])
    write_part(str(tmp_path), 2, [result("c")])
    assert path == str(tmp_path / "manifest/part-000001.parquet")
    assert parts(tmp_path) == ["part-000001.parquet", "part-000002.parquet"]
    assert read(tmp_path) == [result("a"), result("b"), result("c")]
    assert next_part(str(tmp_path)) == 3


def test_compaction_never_hides_a_row(tmp_path):
    for number, name in enumerate("abcde", 1):
        write_part(str(tmp_path), number, [result(name)])
    seen = []

    def stream():
        for name in "abcdefg":
            seen.append({row.id for row in read(tmp_path)})
            yield result(name)

    written = compact(str(tmp_path), stream(), rows_per_file=3)
    assert all(set("abcde") <= ids for ids in seen)
    assert [Path(path).name for path in written] == [f"part-00000{n}.parquet" for n in (6, 7, 8)]
    assert parts(tmp_path) == [Path(path).name for path in written]
    assert [row.id for row in read(tmp_path)] == list("abcdefg")
    compact(str(tmp_path), map(result, "abcdefg"))
    assert parts(tmp_path) == ["part-000009.parquet"]


def test_shards_have_parts_of_their_own_and_leave_those_of_others(tmp_path):
    out = str(tmp_path)
    write_part(out, 1, [result("a")], "0001")
    write_part(out, 1, [result("b")], "0002")
    write_part(out, 2, [result("c")], "0002")
    assert [next_part(out, shard) for shard in ("0001", "0002", "0003")] == [2, 3, 1]
    compact(out, [result("b"), result("c")], shard="0002")
    assert parts(tmp_path) == ["part-0001-000001.parquet", "part-0002-000003.parquet"]
    compact(out, [result("a")], shard="0001")
    assert [row.id for row in read(tmp_path)] == list("abc")


def test_an_interrupted_compaction_is_mended_by_the_next(tmp_path):
    write_part(str(tmp_path), 1, [result("a"), result("b")])

    def broken():
        yield result("a")
        yield result("b")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compact(str(tmp_path), broken(), rows_per_file=1)
    assert {row.id for row in read(tmp_path)} == {"a", "b"}
    compact(str(tmp_path), [result("a"), result("b")])
    assert [row.id for row in read(tmp_path)] == ["a", "b"]


def test_an_empty_output_manifest_still_has_its_columns(tmp_path):
    [path] = compact(str(tmp_path), [])
    assert pq.read_table(path).num_rows == 0
    assert pq.read_schema(path).names[0] == "id"


def test_stores_get_the_same_files():
    out = "memory://manifest-output/run"
    write_part(out, 1, [result("a")])
    write_part(out, 2, [result("b")])
    assert next_part(out) == 3
    compact(out, [result("a"), result("b")])
    write_video_folder(out, "00000", [result("a")])
    write_dataset_card(out)
    names = fsspec.filesystem("memory").find("/manifest-output/run")
    assert [name.removeprefix("/manifest-output/run/") for name in names] == [
        "manifest/part-000003.parquet",
        "videos/00000/metadata.parquet",
        "videos/README.md",
    ]


def test_an_output_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "manifest").write_text("a file where a folder must be")
    with pytest.raises(StorageError, match=r"cannot write .*part-000001\.parquet"):
        write_part(str(tmp_path), 1, [result("a")])


def test_a_full_disk_is_told_and_leaves_the_old_file(tmp_path):
    # The limit on file sizes stands for the full disk: both fail in the middle of a write.
    write_part(str(tmp_path), 1, [result("a")])
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from ltx_ray.errors import StorageError\n"
        "from ltx_ray.manifest.output import write_part\n"
        "try:\n    write_part(sys.argv[1], 1, [])\n"
        "except StorageError as error:\n    sys.stdout.write(str(error))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert "is the disk full" in done.stdout
    assert parts(tmp_path) == ["part-000001.parquet"]
    assert read(tmp_path) == [result("a")]


def test_metadata_has_the_finished_videos_of_its_folder_with_their_prompts(tmp_path):
    spans = json.dumps(
        {"prompts": [{"at_s": 0, "text": "a"}, {"at_s": 1, "text": "b"}], "negative_prompt": "c"}
    )
    rows = [
        result("a", input=spans),
        result("b", status=Status.FAILED, file_name=None),
        result("c", folder="00001"),
        result("d", input="{}"),
    ]
    table = pq.read_table(write_video_folder(str(tmp_path), "00000", rows))
    assert table.column_names[:2] == ["file_name", "id"]
    assert table["file_name"].to_pylist() == ["a-1.mp4", "d-1.mp4"]
    assert table["prompt"].to_pylist() == ["a\nb", None]
    assert table["negative_prompt"].to_pylist() == ["c", None]
    assert json.loads(table["input"][0].as_py()) == json.loads(spans)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An OUT with finished videos, under a path that datasets could take for a split."""
    out = tmp_path_factory.mktemp("train-run") / ".hidden" / "test"
    rows = [result(name, folder) for folder, names in IDS.items() for name in names]
    for row in rows:
        write_video(out / str(row.file_name))
    write_video(out / "videos/00000/no-record-1.mp4")
    for folder in IDS:
        write_video_folder(str(out), folder, rows)
    write_dataset_card(str(out))
    rows.append(result("bad", status=Status.REJECTED, file_name=None, chunks=(), stage_seconds={}, fps=None))
    write_part(str(out), 1, rows)
    return out


def test_datasets_loads_every_video_with_its_metadata_as_one_split(finished, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    loaded = datasets.load_dataset(str(finished / "videos"), cache_dir=str(tmp_path))
    assert list(loaded) == ["train"]
    assert isinstance(loaded["train"].features["video"], datasets.Video)
    rows = list(loaded["train"].cast_column("video", datasets.Video(decode=False)))
    assert {row["id"] for row in rows} == {name for names in IDS.values() for name in names}
    for row in rows:
        assert Path(row["video"]["path"]).name == f"{row['id']}-1.mp4"
        assert Path(row["video"]["path"]).is_file()
        assert row["prompt"] == f"prompt of {row['id']}"
        assert (row["num_frames"], row["seed"]) == (2, 2**53 - 1)


def test_datasets_reads_the_output_manifest(finished, tmp_path):
    datasets = pytest.importorskip("datasets")
    files = str(finished / "manifest/part-*.parquet")
    loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path))["train"]
    assert loaded[0]["chunks"][0]["seconds"] == 0.5
    assert loaded[0]["stage_seconds"]["denoise"] == 1.5
    assert loaded[6]["status"] == "rejected"


def test_pandas_reads_manifest_and_metadata(finished):
    manifest = pd.read_parquet(finished / "manifest")
    assert list(manifest["status"]) == ["done"] * 6 + ["rejected"]
    assert manifest["seed"].iloc[0] == 2**53 - 1
    assert manifest["stage_seconds"].iloc[0]["decode"] == 0.5
    assert str(manifest["queued_at"].iloc[0]) == "2023-11-14 22:13:20.250000+00:00"
    assert json.loads(manifest["input"].iloc[0])["note"] == "犬"
    assert list(pd.read_parquet(finished / "videos/0003-00000/metadata.parquet")["file_name"]) == [
        "test-at-dusk-1.mp4"
    ]


def test_duckdb_reads_manifest_and_metadata(finished):
    query = """
        select count(*), sum(stage_seconds.denoise), max(chunks[1].seconds), max(epoch(queued_at))
        from read_parquet(?) where status = 'done' and json_extract_string(input, '$.note') = '犬'
    """
    rows = duckdb.execute(query, [str(finished / "manifest/part-*.parquet")]).fetchall()
    assert rows == [(6, 9.0, 0.5, 1_700_000_000.25)]
    ids = duckdb.execute(
        "select id from read_parquet(?)", [str(finished / "videos/*/metadata.parquet")]
    ).fetchall()
    assert {name for (name,) in ids} == {name for names in IDS.values() for name in names}
