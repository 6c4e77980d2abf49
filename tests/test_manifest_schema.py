"""Results survive the way into Parquet and into the ledger's JSON, and back."""

import json
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltx_ray.evaluation.figures import NAMES
from ltx_ray.manifest.schema import MANIFEST_SCHEMA, from_table, result_from_json, result_to_json, to_table
from ltx_ray.types import ChunkResult, ShotResult, Stage, Status

TEXT = st.text(max_size=20)
COUNT = st.integers(0, 2**31 - 1)
SEED = st.integers(0, 2**53 - 1)
REAL = st.floats(0, 1e12)
MOMENT = st.integers(0, 4_000_000_000_000_000).map(lambda us: us / 1_000_000)

CHUNKS = st.lists(
    st.builds(
        ChunkResult, index=COUNT, start_frame=COUNT, num_frames=COUNT, seed=SEED, seconds=REAL, attempts=COUNT
    ),
    max_size=3,
).map(tuple)
RESULTS = st.builds(
    ShotResult,
    id=TEXT,
    generation=COUNT,
    status=st.sampled_from(Status),
    row=COUNT,
    fingerprint=TEXT,
    input=TEXT,
    error=st.none() | TEXT,
    attempts=COUNT,
    file_name=st.none() | TEXT,
    bytes=st.none() | SEED,
    num_frames=st.none() | COUNT,
    fps=st.none() | REAL,
    width=st.none() | COUNT,
    seed=st.none() | SEED,
    chunks=CHUNKS,
    model=st.none() | TEXT,
    queued_at=st.none() | MOMENT,
    finished_at=st.none() | MOMENT,
    stage_seconds=st.dictionaries(st.sampled_from([stage.value for stage in Stage]), REAL),
    node=st.none() | TEXT,
    evaluation=st.fixed_dictionaries(
        {}, optional={"sync_offset_ms": REAL, "sync_missed": COUNT, "world_colour_right": st.booleans()}
    ),
    evaluation_error=st.none() | TEXT,
)


@given(st.lists(RESULTS, max_size=4))
def test_results_come_back_from_a_table(results):
    table = to_table(results)
    assert table.schema == MANIFEST_SCHEMA
    assert from_table(table) == results


@given(RESULTS)
def test_results_come_back_from_json(result):
    assert result_from_json(json.loads(json.dumps(result_to_json(result)))) == result


def test_every_field_of_a_result_has_a_column():
    assert set(MANIFEST_SCHEMA.names) == set(ShotResult.__dataclass_fields__) - {"evaluation"} | set(NAMES)
    required = {"id", "generation", "status", "chunks", "stage_seconds", "input", "config_hash", "queued_at"}
    assert required < set(MANIFEST_SCHEMA.names)


def test_a_text_that_is_not_unicode_does_not_spoil_the_table():
    result = ShotResult(
        id="a",
        generation=1,
        status=Status.FAILED,
        row=1,
        fingerprint="f",
        input="{}",
        error="no file b\udcff",
    )
    assert to_table([result])["error"].to_pylist() == ["no file b\\udcff"]


def test_a_stage_without_a_column_is_no_silent_loss():
    result = ShotResult(
        id="a",
        generation=1,
        status=Status.DONE,
        row=1,
        fingerprint="f",
        input="{}",
        stage_seconds={"nosuchstage": 1.0},
    )
    with pytest.raises(AssertionError, match="nosuchstage"):
        to_table([result])


def test_figures_are_columns_and_null_where_nothing_was_measured():
    result = ShotResult(
        id="a",
        generation=1,
        status=Status.DONE,
        row=1,
        fingerprint="f",
        input="{}",
        evaluation={"flicker": 0.5},
    )
    table = to_table([result])
    assert table["flicker"].to_pylist() == [0.5]
    assert all(table[name].null_count == 1 for name in NAMES if name != "flicker")
    with pytest.raises(AssertionError, match="nosuchfigure"):
        to_table([replace(result, evaluation={"nosuchfigure": 1.0})])


def test_times_are_utc_in_microseconds():
    result = ShotResult(
        id="a", generation=1, status=Status.DONE, row=1, fingerprint="f", input="{}", queued_at=1.5
    )
    column = to_table([result])["queued_at"]
    assert column.type == pa.timestamp("us", tz="UTC")
    assert column[0].as_py().isoformat() == "1970-01-01T00:00:01.500000+00:00"
