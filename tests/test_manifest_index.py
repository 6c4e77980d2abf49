"""Every row of a manifest ends exactly once, under an id that is its alone, whatever the rows hold."""

import json
import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ltx_ray.config import RenderConfig
from ltx_ray.errors import ManifestError
from ltx_ray.manifest.content import RawRow
from ltx_ray.manifest.identity import identify
from ltx_ray.manifest.index import index_manifest, long_rows, shots
from ltx_ray.manifest.row import RowError
from ltx_ray.types import Shot

CONFIG = RenderConfig()


def write(path: Path, rows: list[object]) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def outcomes(url: str, **options: object) -> list[Shot | RowError]:
    return list(shots(url, CONFIG, index_manifest(url, CONFIG), **options))


def test_an_id_depends_on_content_and_occurrence_never_on_position(tmp_path):
    cat, dog = {"prompt": "cat"}, {"prompt": "dog"}
    before = {shot.id: shot for shot in outcomes(write(tmp_path / "a.jsonl", [cat, dog, cat]))}
    after = {
        shot.id: shot for shot in outcomes(write(tmp_path / "b.jsonl", [dog, {"prompt": "new"}, cat, cat]))
    }
    assert set(before) < set(after)
    assert len(after) == 4
    for name, shot in before.items():
        assert after[name].fingerprint == shot.fingerprint
        assert name.rpartition("-")[2] in ("1", "2")
    assert len({shot.seed for shot in before.values()}) == 3


def test_equal_ids_are_rejected_naming_the_first_row_also_in_another_case(tmp_path):
    rows = [
        {"id": "Shot", "prompt": "a"},
        {"id": "other", "prompt": "b"},
        {"id": "shot", "prompt": "c", "priority": 9},
        {"id": "SHOT", "prompt": "d", "width": 3},
    ]
    by_row = {outcome.row: outcome for outcome in outcomes(write(tmp_path / "m.jsonl", rows))}
    assert isinstance(by_row[1], Shot)
    assert isinstance(by_row[2], Shot)
    for row, fields in {3: ("id",), 4: ("width", "id")}.items():
        assert isinstance(by_row[row], RowError)
        assert by_row[row].fields == fields
        assert "which row 1 has" in str(by_row[row])
        assert by_row[row].id.startswith("row-")


def test_a_manifest_made_of_our_own_ids_is_rendered_under_them(tmp_path):
    plain = [{"prompt": "cat"}, {"prompt": "cat"}]
    ids = [shot.id for shot in outcomes(write(tmp_path / "a.jsonl", plain))]
    named = [{"prompt": "changed", "id": ids[1]}, *plain, {"prompt": "x", "id": ids[0]}]
    by_row = {outcome.row: outcome for outcome in outcomes(write(tmp_path / "b.jsonl", named))}
    assert by_row[1].id == ids[1]
    assert by_row[2].id == ids[0]
    assert by_row[3].id == ids[0].replace("-1", "-3")
    assert "which row 2 has" in str(by_row[4])


def test_rows_without_a_valid_id_have_made_ones(tmp_path):
    rows = [
        "{oops",
        "{oops",
        "{other",
        {"id": "a/b", "prompt": "x"},
        {"id": "ok", "prompt": ""},
        {"width": 1},
    ]
    results = outcomes(write(tmp_path / "m.jsonl", rows))
    assert all(isinstance(result, RowError) for result in results)
    ids = [result.id for result in results]
    assert ids[0].endswith("-1")
    assert ids[1] == ids[0][:-1] + "2"
    assert all(name.startswith("row-") for name in ids[:4])
    assert ids[4] == "ok"
    assert len(set(ids)) == 6


def test_rows_come_by_priority_then_in_order_and_the_first_ones_first(tmp_path):
    priorities = [0, 5, -1, 5, 0, 9]
    rows = [{"prompt": str(n), "priority": value} for n, value in enumerate(priorities)]
    url = write(tmp_path / "m.jsonl", rows)
    index = index_manifest(url, CONFIG)
    assert index.priorities == (9, 5, 0, -1)
    for buffer_rows in (0, 2, 1000):
        order = [shot.row for shot in shots(url, CONFIG, index, (3, 5), buffer_rows)]
        assert order == [3, 5, 6, 2, 4, 1]


def test_few_rows_of_several_priorities_need_one_pass(tmp_path):
    url = write(tmp_path / "m.jsonl", [{"prompt": str(n), "priority": n} for n in range(20)])
    index = index_manifest(url, CONFIG)
    stream = shots(url, CONFIG, index)
    assert next(stream).priority == 19
    Path(url).unlink()  # the open file is read to its end, and not opened again
    assert [shot.priority for shot in stream] == list(range(18, -1, -1))


def test_costs_name_the_long_rows(tmp_path):
    rows = [{"prompt": "a", "num_frames": 9, "num_inference_steps": 10, "width": 64, "height": 32}] * 9
    rows += [
        {"prompt": "b", "num_frames": 900, "num_inference_steps": 10, "width": 64, "height": 32},
        {"width": 1},
    ]
    index = index_manifest(write(tmp_path / "m.jsonl", rows), CONFIG)
    assert index.num_rows == 11
    assert index.cost(1) == 9 * 10 * 64 * 32
    assert index.cost(11) == 0
    assert index.total_cost == pytest.approx((81 + 900) * 10 * 64 * 32)
    assert long_rows(index, 4) == {10}
    assert long_rows(index, 1) == set()


def test_what_is_kept_per_row_is_at_most_16_bytes(tmp_path):
    rows = [{"prompt": str(n % 500), "id": f"shot-{n}"} for n in range(3000)]
    index = index_manifest(write(tmp_path / "m.jsonl", rows), CONFIG)
    parts = (index.keys, index.costs, index.levels)
    assert sum(part.itemsize * len(part) for part in parts) <= 16 * 3000
    assert index.duplicates == frozenset()


def test_rows_that_are_added_meanwhile_wait_and_changed_ones_are_told(tmp_path):
    rows = [{"prompt": "a"}, {"prompt": "b"}]
    url = write(tmp_path / "m.jsonl", rows)
    index = index_manifest(url, CONFIG)
    write(tmp_path / "m.jsonl", [*rows, {"prompt": "c"}])
    assert [shot.row for shot in shots(url, CONFIG, index)] == [1, 2]
    write(tmp_path / "m.jsonl", rows[:1])
    with pytest.raises(ManifestError, match="had 2 rows, now it has 1"):
        list(shots(url, CONFIG, index))
    write(tmp_path / "m.jsonl", [rows[1], rows[0]])
    with pytest.raises(ManifestError, match="row 1 changed"):
        list(shots(url, CONFIG, index))


def test_relative_media_count_from_the_manifests_folder(tmp_path):
    [shot] = outcomes(write(tmp_path / "m.jsonl", [{"prompt": "a", "audio": "a.wav"}]))
    assert shot.audio == str(tmp_path / "a.wav")


CAT = identify(RawRow(1, {"prompt": "a"})).base
SPARE = identify(RawRow(1, {"prompt": "a", "id": "/"})).base
IDS = st.sampled_from(
    ["a", "A", "b", "/", "", None, 7, f"{CAT}-1", f"{CAT}-2", f"{CAT.upper()}-3", f"{CAT}-02", f"{SPARE}-1"]
)
ROW = st.fixed_dictionaries(
    {"prompt": st.sampled_from(["a", "a", "b", ""])},
    optional={
        "id": IDS,
        "priority": st.sampled_from([0, 1, 5, "x"]),
        "width": st.sampled_from([64, 63]),
        "x": st.text(string.printable, max_size=2),
    },
)
BROKEN = st.sampled_from(["{oops", "[]", "{", "nul"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    rows=st.lists(ROW | BROKEN, min_size=1, max_size=14),
    first=st.sets(st.integers(0, 15)),
    buffer_rows=st.sampled_from([0, 3, 1000]),
)
def test_every_row_ends_once_under_an_id_of_its_own(tmp_path, rows, first, buffer_rows):
    url = write(tmp_path / "m.jsonl", rows)
    results = outcomes(url, first=first, buffer_rows=buffer_rows)
    assert sorted(result.row for result in results) == list(range(1, len(rows) + 1))
    assert len({result.id.lower() for result in results}) == len(rows)
    # The id of a row does not depend on the order in which rows are rendered.
    assert {result.row: result.id for result in results} == {
        result.row: result.id for result in outcomes(url)
    }
    ahead = [result.row for result in results[: len(first & set(range(1, len(rows) + 1)))]]
    assert ahead == sorted(first & set(range(1, len(rows) + 1)))
    for result in results:
        own = rows[result.row - 1].get("id") if isinstance(rows[result.row - 1], dict) else None
        if own is not None and isinstance(result, Shot):
            assert result.id == str(own)
