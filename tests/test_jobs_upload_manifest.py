"""A manifest that was uploaded means what it meant here: same shots, same rejections, no file more."""

import json
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bad_corpus import CORPUS, LINES, NUMBERS, write_corpus
from bad_files import SECRET
from bad_rows import Bad
from runs import write_beeps, write_manifest

from jobs.upload_manifest import Upload, upload_manifest
from jobs.uploads import INPUTS, Uploads
from ltx_ray.config import RenderConfig
from ltx_ray.errors import ManifestError, StorageError
from ltx_ray.manifest.index import index_manifest, shots
from ltx_ray.manifest.row import RowError
from ltx_ray.media.probe import sha256_file
from ltx_ray.storage import Store
from ltx_ray.types import Shot

SMALL = {"prompt": "a red circle", "width": 64, "height": 64, "num_frames": 9}


def uploaded(manifest: Path, out: Path | str, *settings: str) -> tuple[Upload, Uploads]:
    uploads = Uploads(Store(str(out)))
    return upload_manifest(str(manifest), RenderConfig.load(None, settings), uploads), uploads


def rows_of(manifest: Path | str, *settings: str) -> dict[int, Shot | RowError]:
    config = RenderConfig.load(None, settings)
    index = index_manifest(str(manifest), config)
    return {row.row: row for row in shots(str(manifest), config, index)}


def names(out: Path) -> set[str]:
    return {path.name for path in (out / INPUTS).iterdir()}


def test_every_row_of_the_corpus_is_rejected_or_not_as_it_was_here(tmp_path: Path) -> None:
    manifest, out = write_corpus(tmp_path / "shots"), tmp_path / "out"
    here = rows_of(manifest)
    found, _ = uploaded(manifest, out)
    there = rows_of(out / found.name)
    assert list(here) == list(there) == list(range(1, len(LINES) + 1))
    for number, row in here.items():
        other = there[number]
        assert type(other) is type(row), other
        assert other.id == row.id or _is_unreadable(LINES[number - 1])
        if isinstance(row, Shot) and isinstance(other, Shot):
            same = {name: getattr(row, name) for name in ("audio", "image", "fingerprint", "input")}
            assert replace(other, **same) == row
    told = [(case, there[NUMBERS[case.name]]) for case in CORPUS]
    assert all(case.words in str(row) for case, row in told if isinstance(row, RowError))
    data = (tmp_path / SECRET).read_bytes()
    assert all(path.read_bytes() != data for path in (out / INPUTS).iterdir())


def _is_unreadable(line: Bad | dict[str, Any]) -> bool:
    """Whether a line's own bytes cannot stand in a manifest in UTF-8, so that a reason stands for it."""
    return isinstance(line, Bad) and line.name in ("bytes", "long")


@pytest.mark.parametrize("place", ["folder", "s3"])
def test_files_go_once_each_and_only_where_a_row_may_name_them(
    place: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder, root = tmp_path / "shots", tmp_path / "root"
    out = str(tmp_path / "out") if place == "folder" else request.getfixturevalue("s3_out")
    for each in (folder, root):
        each.mkdir()
    write_beeps(folder / "one.wav", 1.0)
    write_beeps(folder / "Two.WAV", 1.0)  # the same sound
    write_beeps(root / "three.wav", 2.0)
    write_beeps(tmp_path / "secret.wav", 3.0)
    (folder / "link.wav").symlink_to(tmp_path / "secret.wav")
    sounds = ["one.wav", "Two.WAV", str(folder / "one.wav"), str(root / "three.wav"), "../root/three.wav"]
    refused = ["../secret.wav", str(tmp_path / "secret.wav"), "link.wav", "nowhere.wav"]
    manifest = write_manifest(folder / "shots.jsonl", [{**SMALL, "audio": name} for name in sounds + refused])
    allowed = f'inputs.roots=["{root}"]'
    found, uploads = uploaded(manifest, out, allowed)
    assert (uploads.files, found.num_missing) == (3, 2), found.missing
    assert "row 8: audio" in found.missing[0]
    assert "nowhere.wav" in found.missing[1]
    there = Store(out).sizes(INPUTS)
    kept = {f"{INPUTS}/{sha256_file(path)}.wav" for path in (folder / "one.wav", root / "three.wav")}
    assert set(there) == kept | {found.name}

    rows = rows_of(f"{out}/{found.name}")  # without the root, which only this machine has
    good = [rows[number] for number in range(1, 6)]
    assert all(isinstance(row, Shot) and row.audio in {f"{out}/{name}" for name in kept} for row in good)
    assert all(isinstance(rows[number], RowError) for number in (6, 7))
    # What could not be uploaded points to nothing there, and to nothing of a node.
    assert [rows[number].audio for number in (8, 9)] == [
        f"{out}/{INPUTS}/link.wav",
        f"{out}/{INPUTS}/nowhere.wav",
    ]
    assert json.loads(good[1].input)["uploaded_from"] == {"audio": "Two.WAV"}

    again, second = uploaded(manifest, out, allowed)
    assert again == found
    assert (second.files, second.new_files, second.new_bytes) == (3, 0, 0)


def test_ids_that_are_made_stay_and_seeds_with_them(tmp_path: Path) -> None:
    folder = tmp_path / "shots"
    folder.mkdir()
    write_beeps(folder / "beat.wav", 1.0)
    row = {**SMALL, "audio": "beat.wav"}
    manifest = write_manifest(folder / "shots.jsonl", [row, SMALL, row, {**row, "id": "own"}])
    found, _ = uploaded(manifest, tmp_path / "out")
    here, there = rows_of(manifest), rows_of(tmp_path / "out" / found.name)
    assert {(row.id, row.seed) for row in there.values()} == {(row.id, row.seed) for row in here.values()}
    assert len({row.id for row in there.values()}) == 4
    assert len(names(tmp_path / "out")) == 2


@pytest.mark.parametrize("kind", ["csv", "parquet", "folder"])
def test_any_manifest_becomes_one_of_the_same_rows(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "shots"
    folder.mkdir()
    write_beeps(folder / "beat.wav", 1.0)
    if kind == "csv":
        manifest = folder / "shots.csv"
        manifest.write_text('prompt,audio,tags\na cat,beat.wav,"x, y"\n"two,\nlines",,\nbroken,a,b,c\n')
    else:
        manifest = folder if kind == "folder" else folder / "shots.parquet"
        rows = [{**SMALL, "audio": "beat.wav", "mark": float("nan")}, {**SMALL, "audio": None, "mark": 1.5}]
        pq.write_table(pa.Table.from_pylist(rows), folder / "shots.parquet")
    found, uploads = uploaded(manifest, tmp_path / "out")
    assert uploads.files == 2
    here, there = rows_of(manifest), rows_of(tmp_path / "out" / found.name)
    assert [type(row) for row in there.values()] == [type(row) for row in here.values()]
    for row, other in zip(here.values(), there.values(), strict=True):
        if isinstance(row, Shot) and isinstance(other, Shot):
            assert (other.id, other.seed, other.prompts, other.tags) == (
                row.id,
                row.seed,
                row.prompts,
                row.tags,
            )
    if kind == "csv":
        assert "must have the header's 3 fields, got 4" in str(there[3])


def test_a_row_that_the_copy_could_not_hold_is_told(tmp_path: Path) -> None:
    spans = [{"at_s": float(second), "text": "x" * 9000} for second in range(150)]
    rows = [{"prompts": spans, "seconds": 150.0, "width": 64, "height": 64}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "shots.parquet")
    with pytest.raises(ManifestError, match=r"row 1 has 1,\d{3},\d{3}: .* --no-upload"):
        uploaded(tmp_path / "shots.parquet", tmp_path / "out")


def test_an_upload_that_was_interrupted_goes_on(tmp_path: Path, s3_out: str) -> None:
    folder = tmp_path / "shots"
    folder.mkdir()
    sounds = [write_beeps(folder / f"{seconds}.wav", float(seconds)) for seconds in range(1, 6)]
    manifest = write_manifest(folder / "shots.jsonl", [{**SMALL, "audio": path.name} for path in sounds])
    first = Uploads(Store(s3_out))
    with first:
        for path in sounds[:3]:
            first.add(path)
    _, uploads = uploaded(manifest, s3_out)
    assert (uploads.files, uploads.new_files) == (6, 3), "two sounds and the manifest were left"
    bucket = fsspec.filesystem("s3")
    cut = f"{s3_out.removeprefix('s3://')}/{INPUTS}/{sha256_file(sounds[0])}.wav"
    bucket.pipe_file(cut, b"cut off")  # as by a tool that is no put
    _, uploads = uploaded(manifest, s3_out)
    assert uploads.new_files == 1
    assert bucket.cat_file(cut) == sounds[0].read_bytes()


def test_what_killed_uploads_left_half_written_is_removed_when_it_is_old(tmp_path: Path) -> None:
    folder = tmp_path / INPUTS
    folder.mkdir()
    old, young = folder / ".a.wav.x1.part", folder / ".b.wav.x2.part"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    Uploads(Store(str(tmp_path)))
    assert (old.exists(), young.exists()) == (False, True)


def test_a_file_that_changes_while_it_is_uploaded_is_not_kept(tmp_path: Path) -> None:
    sound = write_beeps(tmp_path / "beat.wav", 1.0)
    changed = threading.Event()

    class Slow(Store):
        """A store whose copies take until somebody has written to the file."""

        def copy(self, source: Path, name: str) -> None:
            super().copy(source, name)
            assert changed.wait(60)

    uploads = Uploads(Slow(str(tmp_path / "out")))
    uploads.add(sound)
    write_beeps(sound, 2.0)
    changed.set()
    with pytest.raises(StorageError, match=r"beat\.wav changed while it was uploaded"), uploads:
        pass
    assert names(tmp_path / "out") == set()
