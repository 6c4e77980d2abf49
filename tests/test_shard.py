"""Shards of a manifest: every row is of one, whatever becomes of the others; their files have names apart."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltx_ray.config import RenderConfig
from ltx_ray.errors import UserError
from ltx_ray.manifest.index import index_manifest, shots
from ltx_ray.manifest.row import RowError
from ltx_ray.shard import WHOLE, Shard, command_file, owner_of, part_prefix, video_folder
from ltx_ray.types import Shot

CONFIG = RenderConfig()
Outcome = Shot | RowError


def write(path: Path, rows: list[object]) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def outcomes(url: str, shard: Shard) -> dict[str, Outcome]:
    """What a shard renders of a manifest, by id."""
    index = index_manifest(url, CONFIG, shard)
    found = list(shots(url, CONFIG, index))
    assert index.num_own == len(found)
    assert sum(index.cost(each.row) for each in found) == pytest.approx(index.total_cost)
    assert index.total_cost == pytest.approx(sum(index.costs))
    return {each.id: each for each in found}


@pytest.mark.parametrize("text", ["1/1", "3/8", " 3/8 ", "9999/9999"])
def test_what_was_given_is_told_again(text: str) -> None:
    assert str(Shard.parse(text)) == text.strip()


@pytest.mark.parametrize("text", ["", "3", "0/8", "9/8", "-1/8", "3/0", "1/10000", "a/b", "3/8/2", "٣/٨"])
def test_what_is_no_shard_is_told(text: str) -> None:
    with pytest.raises(UserError, match=r"--shard must be i/n, .* the third of eight parts is 3/8"):
        Shard.parse(text)


@given(st.text(st.characters(codec="ascii"), min_size=1), st.integers(1, 40))
def test_a_row_is_of_exactly_one_shard(shot_id: str, count: int) -> None:
    assert [shard for shard in Shard(1, count).all if shard.has(shot_id)] == [Shard.of(shot_id, count)]


def test_the_whole_is_named_as_ever_and_no_names_of_shards_are_equal() -> None:
    assert WHOLE.name == "0000"
    assert (command_file("0000"), part_prefix("0000"), video_folder("0000", 3)) == (
        *("command.json", "part-", "00003"),
    )
    shard = Shard(3, 8).name
    assert (command_file(shard), part_prefix(shard), video_folder(shard, 12)) == (
        *("ledger/0003/command.json", "part-0003-", "0003-00012"),
    )
    assert owner_of("0003-00012") == shard
    assert owner_of("00012") == owner_of("123456") == WHOLE.name


# Of one rhythm: every eighth row is large.
def rhythmic(count: int) -> list[object]:
    return [
        {"prompt": f"{number}", "num_frames": 9, "width": 512 if number % 8 == 0 else 32, "height": 32}
        for number in range(count)
    ]


def test_shards_share_rows_and_work_whatever_rhythm_a_manifest_has(tmp_path: Path) -> None:
    url = write(tmp_path / "m.jsonl", rhythmic(1600))
    indexes = [index_manifest(url, CONFIG, shard) for shard in Shard(1, 8).all]
    assert sum(index.num_own for index in indexes) == 1600
    assert all(150 < index.num_own < 250 for index in indexes)
    whole = index_manifest(url, CONFIG).total_cost
    assert sum(index.total_cost for index in indexes) == pytest.approx(whole)
    assert all(0.6 < index.total_cost / (whole / 8) < 1.4 for index in indexes)


ROWS: list[object] = [
    *({"id": f"own-{number}", "prompt": "a", "priority": number % 3} for number in range(9)),
    *({"prompt": "the same"} for _ in range(9)),
    {"id": "OWN-3", "prompt": "whose id another one has"},
    {"id": "../x", "prompt": "b"},
    "no JSON",
    "no JSON",
    {"id": "bad", "width": 1},
]


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_the_shards_together_are_the_manifest(tmp_path: Path, count: int) -> None:
    url = write(tmp_path / "m.jsonl", ROWS)
    whole = outcomes(url, WHOLE)
    assert len(whole) == len(ROWS)
    parts = [outcomes(url, shard) for shard in Shard(1, count).all]
    assert Counter(name for part in parts for name in part) == Counter(dict.fromkeys(whole, 1))
    for name, outcome in ((name, each) for part in parts for name, each in part.items()):
        expected = whole[name]
        assert type(outcome) is type(expected)
        assert outcome.row == expected.row
        if isinstance(outcome, Shot) and isinstance(expected, Shot):
            assert (outcome.seed, outcome.fingerprint) == (expected.seed, expected.fingerprint)


def test_rows_that_come_go_or_move_take_no_other_row_along(tmp_path: Path) -> None:
    before = [outcomes(write(tmp_path / "a.jsonl", ROWS), shard) for shard in Shard(1, 3).all]
    changed = [{"prompt": "new"}, *ROWS[4:], ROWS[2], *({"prompt": "the same"} for _ in range(3))]
    after = [outcomes(write(tmp_path / "b.jsonl", changed), shard) for shard in Shard(1, 3).all]
    for was, now in zip(before, after, strict=True):
        others = {name for part in after if part is not now for name in part}
        assert not others & set(was)
    assert sum(map(len, after)) == len(changed)
