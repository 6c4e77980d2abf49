"""Scenes that differ in their shape alone come in pairs, with one noise: so the shape's word is learnt."""

import torch
from test_training_flow import clips, draw, objective, texts

from ltx_ray.training.window_data import WindowBatches, WindowSettings
from ltx_ray.training.world import TRIPLES, pair, scene
from ltx_ray.training.world_data import WorldSource
from ltx_ray.training.world_prompts import prompt

# Which clip it is, by its first value.
PLACES = {float(clip.flatten()[0]): row for row, clip in enumerate(clips().latents.float())}


def pairs(**changes: float) -> WindowBatches:
    settings = WindowSettings(tokens=400, **changes)  # type: ignore[arg-type]
    return WindowBatches([clips()], [1.0], texts(), 1000, settings, [2])


def test_a_pair_differs_in_the_shape_and_its_word_alone() -> None:
    seen = set()
    for seed in range(200):
        each = scene(seed, 2)
        one, other = pair(each)
        assert one.shape != other.shape
        assert (one.colour, one.direction, one.speed, one.onsets) == (
            other.colour,
            other.direction,
            other.speed,
            other.onsets,
        )
        assert prompt(one).replace(one.shape, other.shape) == prompt(other)
        for half in (one, other):
            assert (half.colour, half.shape, half.direction) in TRIPLES["train"], "nothing that is held out"
        seen.add((one.shape, other.shape))
    assert seen == {("circle", "square"), ("square", "triangle"), ("circle", "triangle")}


def test_the_clips_of_a_pair_follow_one_another_and_have_a_fingerprint_of_their_own() -> None:
    source = WorldSource(4, 9, 64, 64, paired=True)
    for index in (0, 2):
        one, other = source[index], source[index + 1]
        assert one.sound is not None
        assert other.sound is not None
        assert torch.equal(one.sound, other.sound)
        changed = (one.pixels != other.pixels).any(dim=0).float().mean()
        assert 0 < changed < 0.2, "they differ at the edges of the shape"
    assert source.fingerprint != WorldSource(4, 9, 64, 64).fingerprint


def test_pairs_come_together_and_are_told_or_not_told_together() -> None:
    batches = pairs(text_dropout=0.5)
    told = set()
    for step in range(40):
        batch = batches[step]
        assert batch["alike"] == 2
        rows = [PLACES[float(clip.flatten()[0])] for clip in batch["latents"]]
        assert all(row % 2 == 0 for row in rows[::2])
        assert [row + 1 for row in rows[::2]] == rows[1::2]
        empty = (batch["embeds"] == texts().of([""])[0]).flatten(1).all(1)
        assert torch.equal(empty[::2], empty[1::2])
        told |= set(empty.tolist())
    assert told == {True, False}


def test_both_of_a_pair_get_the_same_noise_at_the_same_level() -> None:
    made = objective("transformer")
    seen = []
    forward = made.transformer.forward

    def watched(**arguments: torch.Tensor) -> object:
        seen.append((arguments["hidden_states"], arguments["timestep"]))
        return forward(**arguments)

    made.transformer.forward = watched
    batch = pairs()[3]
    batch["latents"] = torch.zeros_like(batch["latents"])  # what is left is noise
    made(batch, 0, draw())
    ((noisy, levels),) = seen
    assert torch.equal(noisy[::2], noisy[1::2])
    assert torch.equal(levels[::2], levels[1::2])
    assert len(noisy) == 2 or not torch.equal(noisy[0], noisy[2])
