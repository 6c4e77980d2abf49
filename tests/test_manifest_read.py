"""Manifests are read as streams; a broken row costs itself only, a broken file is told clearly."""

import gzip
import json
import tracemalloc
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from ltx_ray.errors import ManifestError
from ltx_ray.manifest.content import RawRow
from ltx_ray.manifest.read import folder_of, read_rows
from ltx_ray.manifest.text_rows import MAX_LINE

ROWS = [{"prompt": "a cat", "seed": 1}, {"prompt": "ein Hündchen, 犬", "seed": 2}]
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
CSV = 'prompt,seed\na cat,1\n"ein Hündchen, 犬",2\n'.encode()
CSV_ROWS = [{"prompt": row["prompt"], "seed": str(row["seed"])} for row in ROWS]


def parquet(rows: list[dict]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue().to_pybytes()


def values(url: object) -> list[dict | None]:
    rows = list(read_rows(str(url)))
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    return [row.values for row in rows]


PACK = {"": bytes, ".gz": gzip.compress, ".zst": lambda data: pa.compress(data, "zstd", asbytes=True)}


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("m.jsonl", JSONL, ROWS),
        ("m.NDJSON", JSONL, ROWS),
        ("m.csv", CSV, CSV_ROWS),
        ("m.tsv", CSV.replace(b",s", b"\ts").replace(b",1", b"\t1").replace(b",2", b"\t2"), CSV_ROWS),
        ("m.parquet", parquet(ROWS), ROWS),
    ],
)
def test_every_format_gives_its_rows_also_compressed(tmp_path, name, data, expected, suffix):
    (tmp_path / (name + suffix)).write_bytes(PACK[suffix](data))
    assert values(tmp_path / (name + suffix)) == expected


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_files_of_several_compressed_members_are_read_to_the_end(tmp_path, suffix):
    path = tmp_path / f"m.jsonl{suffix}"
    path.write_bytes(PACK[suffix](JSONL) + PACK[suffix](JSONL))
    assert values(path) == ROWS + ROWS


def test_urls_of_stores_and_file_urls_are_read(tmp_path):
    (tmp_path / "m.jsonl").write_bytes(JSONL)
    assert values(f"file://{tmp_path}/m.jsonl") == ROWS
    fsspec.filesystem("memory").pipe_file("/read-urls/sets/m.jsonl", JSONL)
    assert values("memory://read-urls/sets/m.jsonl") == ROWS
    assert folder_of("memory://read-urls/sets/m.jsonl") == "memory:///read-urls/sets"
    assert folder_of(str(tmp_path / "m.jsonl")) == str(tmp_path)


def test_a_folder_of_parquet_files_is_read_in_the_order_of_names(tmp_path):
    for name, seed in {"b.parquet": 2, "a.parquet": 1, "c.parquet": 3}.items():
        (tmp_path / name).write_bytes(parquet([{"prompt": name, "seed": seed}]))
    (tmp_path / "_SUCCESS").write_bytes(b"")
    (tmp_path / ".a.parquet").write_bytes(b"half written")
    assert [row["seed"] for row in values(tmp_path)] == [1, 2, 3]
    assert folder_of(str(tmp_path)) == str(tmp_path)


def test_csv_from_a_spreadsheet_is_understood(tmp_path):
    text = '\ufeffprompt , seed,note\r\n"a\nb ""c""",,x\r\n\r\nd\r\n'
    (tmp_path / "m.csv").write_text(text, encoding="utf-8", newline="")
    assert values(tmp_path / "m.csv") == [{"prompt": 'a\nb "c"', "note": "x"}, {"prompt": "d"}]


def test_broken_lines_of_json_cost_themselves_only(tmp_path):
    lines = ['{"prompt": "a"}', "{oops", "[1]", "", '{"a":' * 100_000, f'"{"x" * 2 * MAX_LINE}"', "1" * 5000]
    (tmp_path / "m.jsonl").write_text("\n".join([*lines, '{"prompt": "b"}']))
    rows = list(read_rows(str(tmp_path / "m.jsonl")))
    assert [row.number for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert [row.values for row in rows if row.values] == [{"prompt": "a"}, {"prompt": "b"}]
    wrong = [row.error for row in rows if row.error]
    for error, words in zip(wrong, ["JSON object", "[1]", "deeply", "at most 1,048,576", ""], strict=True):
        assert words in error
        assert len(error) < 300
    assert json.loads(rows[1].as_json()) == {"unreadable": "{oops"}


def test_broken_records_of_csv_cost_themselves_only(tmp_path):
    (tmp_path / "m.csv").write_text('prompt,seed\na,1\nb,2,3\n"c"x,3\nd,4\n"open,5\ne,6\n')
    rows = list(read_rows(str(tmp_path / "m.csv")))
    assert [row.values and row.values["prompt"] for row in rows] == ["a", None, None, "d", None]
    assert "2 fields, got 3" in rows[1].error
    # The quote that never closes takes the rows behind it along; that must not pass silently.
    assert "quote" in rows[4].error


def test_parquet_values_become_plain_python(tmp_path):
    row = {
        "prompt": "a",
        "prompts": [{"at_s": 0.0, "text": "x"}],
        "seed": None,
        "fps": float("nan"),
        "made": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        "price": Decimal("1.50"),
    }
    table = pa.Table.from_pylist([row]).append_column("exact", pa.array([1_000_000_001], pa.timestamp("ns")))
    pq.write_table(table, tmp_path / "m.parquet")
    [got] = values(tmp_path / "m.parquet")
    assert got["prompts"] == row["prompts"]
    assert "seed" not in got
    assert got["fps"] != got["fps"]
    assert (got["made"], got["price"]) == ("2026-01-02T03:04:05.000006+00:00", "1.50")
    assert got["exact"] == "1970-01-01T00:00:01"


def test_bytes_in_parquet_reject_their_row_only(tmp_path):
    pq.write_table(pa.table({"prompt": ["a", "b"], "blob": [b"\0", None]}), tmp_path / "m.parquet")
    first, second = read_rows(str(tmp_path / "m.parquet"))
    assert "column 'blob'" in first.error
    assert "bytes" in first.error
    assert second == RawRow(2, {"prompt": "b"})


def truncated_parquet() -> bytes:
    return parquet(ROWS)[:-20]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("m.txt", b"a", "unknown file type '.txt'; known are .jsonl"),
        ("m", b"a", "unknown file type 'none'"),
        ("m.jsonl", b"\n\n", "at least one row"),
        ("m.csv", b"", "at least one row"),
        ("m.csv", b"prompt,seed\n", "at least one row"),
        ("m.csv", b"a cat,1\na dog,2\n", "header"),
        ("m.csv", b"prompt,seed,seed\na,1,2\n", "each column once"),
        ("m.parquet", parquet([{"text": "a"}]), "'prompt' or 'prompts'"),
        ("m.parquet", b"prompt,seed\na,1\n", "broken or truncated at its start"),
        ("m.parquet", truncated_parquet(), "broken or truncated at its start"),
        ("m.parquet.gz", parquet(ROWS), "broken or truncated at its start"),
        ("m.jsonl.gz", JSONL, "broken or truncated at its start"),
        ("m.jsonl.gz", gzip.compress(JSONL, mtime=0)[:-12], "broken or truncated"),
        ("m.csv.zst", PACK[".zst"](CSV)[:-3], "broken or truncated"),
        ("m.jsonl", '{"prompt": "ä"}'.encode("latin-1"), "UTF-8"),
        ("m.csv", "prompt\nä\n".encode("utf-16"), "UTF-8"),
    ],
)
def test_broken_files_are_told(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ManifestError) as caught:
        list(read_rows(str(tmp_path / name)))
    assert words in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


def test_missing_empty_folder_and_unknown_protocol_are_told(tmp_path):
    for url, words in {
        str(tmp_path / "no.jsonl"): "no such file",
        str(tmp_path): "folder must hold .parquet files, got 0",
        "nosuchstore://b/m.jsonl": "cannot be opened",
    }.items():
        with pytest.raises(ManifestError, match=words):
            list(read_rows(url))


class LockedStore(MemoryFileSystem):
    """A store that lists its files and lets nobody read them."""

    protocol = "locked"

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + path.removeprefix("locked://").strip("/")

    def _open(self, path, mode="rb", **options):
        if mode == "rb":
            raise PermissionError(13, "Access Denied", path)
        return super()._open(path, mode, **options)


def test_a_file_without_permission_is_told():
    fsspec.register_implementation("locked", LockedStore, clobber=True)
    fsspec.filesystem("locked").pipe_file("/sets/m.jsonl", JSONL)
    with pytest.raises(ManifestError, match="no permission to read it"):
        list(read_rows("locked://sets/m.jsonl"))


def peak_bytes(path: Path) -> int:
    tracemalloc.start()
    for _ in read_rows(str(path)):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("name", ["m.jsonl.gz", "m.csv", "m.parquet"])
def test_memory_does_not_grow_with_the_number_of_rows(tmp_path, name):
    peaks = []
    for count in (2_000, 20_000):
        rows = [{"prompt": f"prompt number {n} " + "w" * 100, "seed": n} for n in range(count)]
        path = tmp_path / str(count) / name
        path.parent.mkdir()
        if name == "m.parquet":
            pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=1000)
        elif name == "m.csv":
            path.write_text("prompt,seed\n" + "".join(f"{row['prompt']},{row['seed']}\n" for row in rows))
        else:
            path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
        peaks.append(peak_bytes(path))
    # 18,000 rows more are 3 MB of text; parquet's footer has some bytes per row group.
    assert peaks[1] < peaks[0] + 300_000
