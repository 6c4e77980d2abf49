"""A row becomes a shot, or one message that tells all that is wrong with it."""

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltx_ray.config import RenderConfig
from ltx_ray.manifest.content import RawRow
from ltx_ray.manifest.row import COLUMNS, RowError
from ltx_ray.manifest.shot import parse_row
from ltx_ray.types import PromptSpan, Shot

CONFIG = RenderConfig()


def shot(base: str = "/set", config: RenderConfig = CONFIG, **values: object) -> Shot:
    return parse_row(RawRow(7, {"prompt": "a cat", **values}), config, base)


def error(config: RenderConfig = CONFIG, base: str = "/set", **values: object) -> RowError:
    with pytest.raises(RowError) as caught:
        shot(base, config, **values)
    return caught.value


def test_only_a_prompt_is_required_and_defaults_come_from_the_config():
    config = RenderConfig.load(
        overrides=("defaults.width=640", "defaults.fps=30.0", 'defaults.negative_prompt="blur"')
    )
    made = shot(config=config)
    assert made.prompts == (PromptSpan(0.0, "a cat"),)
    assert (made.width, made.height, made.fps, made.num_frames) == (640, 512, 30.0, 121)
    assert (made.negative_prompt, made.num_inference_steps, made.guidance_scale) == ("blur", None, None)
    assert (made.row, made.priority, made.tags, json.loads(made.input)) == (7, 0, (), {"prompt": "a cat"})
    assert len(made.fingerprint) == 16
    assert shot(config=config, negative_prompt="").negative_prompt == ""


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("num_frames", "12", 12),
        ("num_frames", 12.0, 12),
        ("num_frames", "12.0", 12),
        ("seed", "9007199254740991", 2**53 - 1),
        ("fps", " 23.976 ", 23.976),
        ("guidance_scale", 0, 0.0),
        ("audio_guidance_scale", "3.5", 3.5),
        ("coherence_guidance", 0, 0.0),
        ("chunk_size", "241", 241),
        ("overlap_frames", 0.0, 0),
        ("overlap_frames", 112, 112),
        ("id", 12, "12"),
        ("id", "CON", "CON"),
        ("priority", "-1000", -1000),
        ("tags", "a, b ,,c", ("a", "b", "c")),
        ("tags", '["a", "b,c"]', ("a", "b,c")),
        ("tags", ["a"], ("a",)),
        ("audio", None, None),
    ],
)
def test_values_of_json_csv_and_parquet_are_understood(column, value, expected):
    assert getattr(shot(**{column: value}), column) == expected


def test_seconds_become_frames():
    assert shot(seconds=15, fps=24).num_frames == 360
    assert shot(seconds="0.001", fps=24).num_frames == 1
    assert shot(seconds=5, fps=23.976).num_frames == 120


@pytest.mark.parametrize("cell", [list, json.dumps])
def test_a_prompt_schedule_is_kept_in_order(cell):
    spans = [{"at_s": 0, "text": "a"}, {"at_s": 2.5, "text": "b"}]
    assert shot(prompt=None, prompts=cell(spans)).prompts == (PromptSpan(0.0, "a"), PromptSpan(2.5, "b"))


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("id", "../etc", "'../etc'"),
        ("id", "a/b", "file name"),
        ("id", "a\\b", "file name"),
        ("id", "..", "file name"),
        ("id", ".hidden", "file name"),
        ("id", "a\n", "file name"),
        ("id", "", "file name"),
        ("id", "x" * 101, "1 to 100"),
        ("id", True, "text"),
        ("id", "ROW-" + "0" * 20 + "-1", "rejected rows"),
        ("prompt", " \n", "empty"),
        ("prompt", 5, "text"),
        ("prompt", "x" * 10_001, "10,001"),
        ("prompt", "\ud800", "Unicode"),
        ("prompts", [{"at_s": 0, "text": "b"}], "got both"),
        ("num_frames", True, "number, got True"),
        ("num_frames", 12.5, "whole number, got 12.5"),
        ("num_frames", "twelve", "'twelve'"),
        ("num_frames", 0, "at least 1, got 0"),
        ("num_frames", 100_001, "at most 100,000 frames"),
        ("num_frames", 10**400, "at most"),
        ("seconds", 0, "more than 0"),
        ("seconds", -1, "at least 0"),
        ("seconds", "NaN", "number"),
        ("seconds", float("inf"), "finite"),
        ("seconds", 1e299, "at most 100,000 frames"),
        ("fps", float("nan"), "finite number, got nan"),
        ("fps", 0.5, "at least 1"),
        ("fps", 241, "at most 240"),
        ("width", 511, "must be even, got 511 (allowed: an even number"),
        ("width", 30, "at least 32"),
        ("height", -512, "at least 32"),
        ("width", 1_000_000, "67,108,864"),
        ("seed", -1, "at least 0"),
        ("seed", 2**53, "at most 9007199254740991"),
        ("num_inference_steps", 1001, "at most 1000"),
        ("guidance_scale", 101, "at most 100"),
        ("audio_guidance_scale", 100.5, "at most 100"),
        ("audio_guidance_scale", -1, "at least 0"),
        ("coherence_guidance", 11, "at most 10"),
        ("chunk_size", 8, "at least 9"),
        ("chunk_size", 2050, "at most 2049"),
        ("chunk_size", 33.5, "whole number"),
        ("overlap_frames", -1, "at least 0"),
        ("overlap_frames", 1025, "at most 1024"),
        ("audio_start_s", -0.1, "at least 0"),
        ("audio", "a\0.wav", "control"),
        ("image", "", "empty"),
        ("priority", 1001, "at most 1000"),
        ("tags", [1], "tags[0]: must be text"),
        ("tags", 5, "list"),
        ("extra", json.loads('{"a":' * 60 + "1" + "}" * 60), "'extra': must not nest"),
    ],
)
def test_a_bad_value_is_told_with_row_field_value_and_what_is_allowed(column, value, words):
    caught = error(**{column: value})
    assert column in caught.fields
    assert caught.row == 7
    assert str(caught).startswith("row 7: ")
    assert words in str(caught)
    assert len(str(caught)) < 400
    assert caught.kind == "rejected"
    json.loads(caught.input)


@pytest.mark.parametrize(
    ("prompts", "words"),
    [
        ([], "at least one entry"),
        ("[[[", "list in JSON"),
        ("text", "list in JSON"),
        ({"at_s": 0, "text": "a"}, "must be a list"),
        (["a"], "prompts[0]: must be an object with at_s and text, got 'a'"),
        ([{"at_s": 1, "text": "a"}], "begin with an entry at_s 0"),
        ([{"at_s": 0, "text": "a"}, {"at_s": 0, "text": "b"}], "rising"),
        ([{"at_s": 0, "text": "a"}, {"at_s": 1}], "prompts[1].text: is required"),
        ([{"at_s": 0, "text": "a", "form": 1}], "prompts[0].form: is not known here"),
        ([{"at_s": True, "text": " "}], "prompts[0].at_s: must be a number, got True"),
        ([{"at_s": 0, "text": "a"}, {"at_s": 6, "text": "b"}], "below the video's 5.04167 seconds"),
        ([7] * 1000, "prompts: 980 more"),
        ([{"at_s": 0, "text": "a"}] * 1001, "at most 1000 entries"),
    ],
)
def test_a_bad_schedule_is_told(prompts, words):
    caught = error(prompt=None, prompts=prompts)
    assert caught.fields == ("prompts",)
    assert words in str(caught)


def test_every_problem_of_a_row_is_in_one_message():
    caught = error(prompt=None, id="a b", width=511, height=0, seconds=2, num_frames=3, seed="x", note=1)
    assert caught.fields == ("id", "width", "height", "seed", "prompt", "seconds", "num_frames")
    for words in (
        "id: ",
        "width: must be even",
        "height: must be at least 32",
        "seed: ",
        "prompt: is required",
    ):
        assert words in str(caught)
    assert "seconds, num_frames: give one" in str(caught)


@pytest.mark.parametrize(
    ("values", "fields", "words"),
    [
        ({"chunk_size": 32}, ("chunk_size",), "got 24 of 32"),
        ({"overlap_frames": 113}, ("overlap_frames",), "got 113 of 121"),
        ({"chunk_size": 65, "overlap_frames": 57}, ("chunk_size", "overlap_frames"), "got 57 of 65"),
    ],
)
def test_a_chunk_must_have_room_for_new_frames_beside_the_overlap(values, fields, words):
    caught = error(**values)
    assert caught.fields == fields
    assert words in str(caught)
    assert "overlap_frames must leave at least 9 new frames in a chunk" in str(caught)


def test_chunks_that_the_config_and_the_row_make_together_are_judged_together():
    assert shot(chunk_size=33).chunk_size == 33
    assert (shot(chunk_size=65, overlap_frames=56).chunk_size, shot().chunk_size) == (65, None)
    config = RenderConfig.load(overrides=("sampling.chunk_size=241", "sampling.overlap_frames=48"))
    assert shot(config=config, overlap_frames=120).overlap_frames == 120
    assert "got 48 of 56" in str(error(config, chunk_size=56))
    # A column that is wrong by itself is told once.
    assert error(chunk_size="x", overlap_frames=500).fields == ("chunk_size",)


def test_a_bad_default_is_told_as_the_configs():
    config = RenderConfig.load(overrides=("defaults.width=511",))
    assert "a default of the config" in str(error(config))
    assert "a default of the config" not in str(error(width=511))


def test_an_error_travels_between_processes():
    caught = error(id="shot-1", width=511)
    copy = pickle.loads(pickle.dumps(caught))
    assert (str(copy), copy.row, copy.fields, copy.id) == (str(caught), 7, ("width",), "shot-1")


@pytest.mark.parametrize(
    ("base", "path", "expected"),
    [
        ("/set", "a/b.wav", "/set/a/b.wav"),
        ("/set", "/set/abs/b.wav", "/set/abs/b.wav"),
        ("/set", "https://other.org/b.wav", "https://other.org/b.wav"),
        ("s3://bucket/set", "a/../b.wav", "s3://bucket/set/b.wav"),
        ("s3://bucket/set", "a/./b.wav", "s3://bucket/set/a/b.wav"),
        ("memory:///set", "b.wav", "memory:///set/b.wav"),
    ],
)
def test_media_paths_count_from_the_manifests_folder(base, path, expected):
    made = shot(base, audio=path, image=path)
    assert (made.audio, made.image) == (expected, expected)


@pytest.mark.parametrize("path", ["../b.wav", "../../../other/b.wav", "s3://bucket/b.wav"])
def test_a_media_path_out_of_the_manifests_folder_is_refused(path):
    assert error(base="s3://bucket/set", audio=path).fields == ("audio",)


def test_the_input_keeps_all_columns_in_their_order_as_strict_json():
    values = {"z": 1, "prompt": "犬", "a": {"b": [None, float("nan")]}}
    made = parse_row(RawRow(1, values), CONFIG, "/")
    assert made.input == '{"z": 1, "prompt": "犬", "a": {"b": [null, "nan"]}}'
    json.loads(shot(note="\ud800").input.encode())


def test_the_fingerprint_changes_with_the_content_and_with_nothing_else():
    plain = shot(id="a", seed=3)
    for same in ({"priority": 5}, {"tags": "x"}, {"note": "y"}, {"id": "b"}, {"seed": "3"}, {"fps": 24}):
        assert shot(**{"id": "a", "seed": 3, **same}).fingerprint == plain.fingerprint
    changes = {
        "prompt": "a dog", "negative_prompt": "x", "num_frames": 120, "fps": 25, "width": 640, "height": 480,
        "seed": 4, "num_inference_steps": 9, "guidance_scale": 2, "audio": "a", "image": "a",
        "audio_start_s": 1, "audio_guidance_scale": 2, "coherence_guidance": 0.5, "chunk_size": 97,
        "overlap_frames": 32,
    }  # fmt: skip
    prints = {shot(**{"id": "a", "seed": 3, name: value}).fingerprint for name, value in changes.items()}
    assert len(prints | {plain.fingerprint}) == len(changes) + 1


def test_the_default_seed_comes_from_the_id_and_counts_as_content():
    first, again, other = shot(id="a"), shot(id="a", priority=1), shot(id="b")
    assert first.seed == again.seed == 0xCA978112CA1BBD >> 3  # SHA-256 of "a" begins with ca978112ca1bbdca
    assert first.seed != other.seed
    assert first.fingerprint != other.fingerprint


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
    max_leaves=6,
)
HOSTILE = JSON | st.sampled_from([10**5000, -(10**400), "9" * 5000, "[" * 99999, "x" * 200_000, {"at_s": 0}])
GOOD = st.sampled_from([1, 24, 64, 512, "a", "a cat", [{"at_s": 0, "text": "x"}], "1e3", 2.5])


def outcome(values: dict) -> Shot | RowError:
    try:
        return parse_row(RawRow(3, values), CONFIG, "/set")
    except RowError as caught:
        return caught


@given(st.dictionaries(st.sampled_from(COLUMNS) | st.text(st.characters()), HOSTILE | GOOD, max_size=8))
def test_whatever_a_row_holds_it_is_a_shot_or_a_row_error(values):
    made = outcome(values)
    json.loads(made.input.encode())
    assert 1 <= len(made.id) <= 100
    if isinstance(made, RowError):
        assert made.fields
        assert len(str(made)) < 20_000
