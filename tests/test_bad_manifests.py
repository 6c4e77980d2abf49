"""Files that are no manifests are told by what they are; what is broken in one row costs that row."""

import gzip
import io
import json
import os
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.validate import validate
from ltx_ray.config import RenderConfig
from ltx_ray.errors import ManifestError
from ltx_ray.manifest.content import RawRow
from ltx_ray.manifest.read import read_rows
from ltx_ray.manifest.row import RowError
from ltx_ray.manifest.shot import parse_row

ROWS = [{"prompt": "a"}, {"prompt": "b"}]
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS)
CSV = "prompt\na\nb\n"


def parquet(table: pa.Table | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(ROWS) if table is None else table, sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def zipped() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr("xl/workbook.xml", "<workbook/>")
    return data.getvalue()


def told(path: Path) -> str:
    with pytest.raises(ManifestError) as caught:
        validate(str(path), RenderConfig())
    assert str(caught.value).startswith(f"manifest {path}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("m.jsonl", b"", "must have at least one row, got none"),
        ("m.jsonl", b"\n \n\r\n", "must have at least one row, got none"),
        ("m.jsonl", b"\xef\xbb\xbf", "must have at least one row, got none"),
        ("m.jsonl", JSONL.encode("utf-16"), "must be text in UTF-8, got UTF-16; save it as UTF-8"),
        ("m.jsonl", b"\xfe\xff" + JSONL.encode("utf-16-be"), "must be text in UTF-8, got UTF-16"),
        ("m.jsonl", gzip.compress(JSONL.encode(), mtime=0), "got a gzip file; end its name in .gz"),
        (
            "m.jsonl",
            pa.compress(JSONL.encode(), "zstd", asbytes=True),
            "got a zstd file; end its name in .zst",
        ),
        ("m.jsonl", parquet(), "got a Parquet file; end its name in .parquet"),
        ("m.jsonl", b"\xff\xfb\x90\x44" * 99, "must be text in UTF-8, got other bytes: "),
        ("m.csv", b"", "must have at least one row, got none"),
        ("m.csv", b"prompt\n", "must have at least one row, got none"),
        ("m.csv", CSV.encode("utf-16"), "must be text in UTF-8, got UTF-16; save it as UTF-8"),
        ("m.csv", gzip.compress(CSV.encode(), mtime=0), "got a gzip file; end its name in .gz"),
        ("m.csv", parquet(), "got a Parquet file; end its name in .parquet"),
        ("m.csv", zipped(), "got a zip file or a spreadsheet; unpack it, or save it as CSV"),
        ("m.csv", b'"prompt\na\n', "must begin with a line that names the columns: "),
        ("m.csv", b'"prompt"x,seed\na,1\n', "must begin with a line that names the columns: "),
        (
            "m.csv",
            b"text;seed\na;1\n",
            "must have a column 'prompt' or 'prompts', got the columns ['text;seed']",
        ),
        ("m.csv", "größe\n1\n".encode("latin-1"), "must be text in UTF-8, got other bytes"),
        ("m.tsv", b"prompt\tprompt\na\tb\n", "must name each column once"),
        ("m.parquet", b"", "broken or truncated at its start"),
        ("m.parquet", b"PAR1", "broken or truncated at its start"),
        ("m.parquet", parquet()[:-20], "broken or truncated at its start"),
        ("m.parquet", parquet()[:40] + b"\0" * 40 + parquet()[80:], "broken or truncated"),
        ("m.parquet", JSONL.encode(), "broken or truncated at its start"),
        ("m.parquet", parquet(pa.table({"text": ["a"]})), "must have a column 'prompt' or 'prompts'"),
        ("m.jsonl.gz", JSONL.encode(), "broken or truncated at its start"),
        ("m.jsonl.gz", gzip.compress(JSONL.encode(), mtime=0)[:-9], "broken or truncated"),
        (
            "m.jsonl.gz",
            gzip.compress(gzip.compress(JSONL.encode(), mtime=0), mtime=0),
            "got a gzip file; end its name in .gz",
        ),
        ("m.jsonl.zst", gzip.compress(JSONL.encode(), mtime=0), "broken or truncated at its start"),
        ("m.xlsx", zipped(), "unknown file type '.xlsx'; known are .jsonl, .ndjson, .csv, .tsv, .parquet"),
        ("m.json", json.dumps(ROWS).encode(), "unknown file type '.json'"),
        ("m", JSONL.encode(), "unknown file type 'none'"),
    ],
)
def test_a_file_that_is_no_manifest_is_told(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(data)
    assert words in told(tmp_path / name)


def test_folders_links_pipes_and_devices_are_told(tmp_path: Path) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "folder.jsonl" / "a.jsonl").write_text(JSONL)
    (tmp_path / "gone.jsonl").symlink_to("nowhere.jsonl")
    (tmp_path / "loop.jsonl").symlink_to("loop.jsonl")
    (tmp_path / "zero.jsonl").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.jsonl")
    for name, words in {
        "folder.jsonl": "a folder must hold .parquet files, got 1 other entries",
        "gone.jsonl": "no such file or folder; check the path",
        "loop.jsonl": "cannot be opened: ",
        "zero.jsonl": "must be a file, which is read more than once, got a pipe or a device",
        "pipe.jsonl": "must be a file, which is read more than once, got a pipe or a device",
    }.items():
        assert words in told(tmp_path / name)


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path) -> None:
    for name, text in {"m.jsonl": JSONL, "m.csv": CSV}.items():
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert [row.values for row in read_rows(str(tmp_path / name))] == ROWS


def test_lines_of_another_encoding_cost_themselves_only(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_bytes(b'{"prompt": "a"}\n{"prompt": "caf\xe9"}\n{"prompt": "b"}\n')
    first, bad, last = read_rows(str(tmp_path / "m.jsonl"))
    assert [first.values, last.values] == ROWS
    assert bad.error == 'must be text in UTF-8, got \'{"prompt": "caf\\\\xe9"}\\n\''
    assert json.loads(bad.as_json()) == {"unreadable": '{"prompt": "caf\\xe9"}\n'}
    (tmp_path / "m.csv").write_bytes(b"prompt\na\ncaf\xe9\nb\n")
    first, bad, last = read_rows(str(tmp_path / "m.csv"))
    assert [first.values, last.values] == ROWS
    assert bad.error == "must be text in UTF-8, got 'caf\\\\xe9\\n'"


def test_formulas_in_csv_are_text_and_no_numbers(tmp_path: Path) -> None:
    formula = "=cmd|' /C calc'!A0"
    (tmp_path / "m.csv").write_text(f"prompt,seed,tags\n{formula},1,@SUM(A1)\nb,=1+1,\n")
    config, (first, second) = RenderConfig(), read_rows(str(tmp_path / "m.csv"))
    shot = parse_row(first, config, str(tmp_path))
    assert (shot.prompts[0].text, shot.tags) == (formula, ("@SUM(A1)",))
    assert json.loads(shot.input) == {"prompt": formula, "seed": "1", "tags": "@SUM(A1)"}
    with pytest.raises(RowError, match=r"seed: must be a number, got '=1\+1'"):
        parse_row(second, config, str(tmp_path))


def test_a_cut_last_line_costs_itself_only(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text(JSONL + '{"prompt": "c')
    *good, cut = read_rows(str(tmp_path / "m.jsonl"))
    assert [row.values for row in good] == ROWS
    assert "Unterminated string" in (cut.error or "")


def test_cells_of_parquet_that_python_cannot_hold_cost_their_row_only(tmp_path: Path) -> None:
    bad_text = pa.Array.from_buffers(
        pa.string(), 3, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\5\0\0\0\6\0\0\0"), pa.py_buffer(b"acaf\xe9b")]
    )
    pq.write_table(pa.table({"prompt": bad_text}), tmp_path / "m.parquet")
    first, bad, last = read_rows(str(tmp_path / "m.parquet"))
    assert [first, last] == [RawRow(1, {"prompt": "a"}), RawRow(3, {"prompt": "b"})]
    assert "column 'prompt' must hold text, numbers or lists of them" in (bad.error or "")
    assert "got what cannot be read: 'utf-8' codec can't decode byte 0xe9" in (bad.error or "")
    days = pa.array([0, 10**8, 1], pa.int32()).cast(pa.date32())
    pq.write_table(pa.table({"prompt": ["a", "x", "b"], "made": days}), tmp_path / "m.parquet")
    first, bad, last = read_rows(str(tmp_path / "m.parquet"))
    assert first.values == {"prompt": "a", "made": "1970-01-01"}
    assert last.values == {"prompt": "b", "made": "1970-01-02"}
    assert "column 'made' must hold text" in (bad.error or "")
