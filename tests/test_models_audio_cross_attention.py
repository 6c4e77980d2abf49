"""The audio block adds nothing while its gate is zero, and else what the sound around each latent says."""

import math

import pytest
import torch
from small_transformer import AUDIO, FPS, RATIOS, WIDTH, random
from torch import Tensor

from ltx_ray.errors import UserError
from ltx_ray.models.audio.alignment import AudioContext, AudioTrack, audio_context, latent_span, window_size
from ltx_ray.models.audio.audio_encoder import AudioEncoder
from ltx_ray.models.transformers.audio_cross_attention import AudioCrossAttentionBlock

HEADS = 4
CELLS = 5  # video tokens of a latent frame


def block_of(
    opened: bool = True, audio_latent_dim: int = AUDIO, dropout: float = 0.1
) -> AudioCrossAttentionBlock:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        block = AudioCrossAttentionBlock(WIDTH, HEADS, audio_latent_dim, dropout).eval()
    with torch.no_grad():
        for seed, norm in enumerate((block.norm_q, block.norm_k)):
            norm.weight += 0.3 * random(seed, *norm.weight.shape)
        if opened:
            block.gate += random(9, WIDTH)
    return block


def context_of(track: AudioTrack, latents: int, shift_s: float = 0.0) -> AudioContext:
    spans = [latent_span(latent, FPS, RATIOS) for latent in range(latents)]
    moved = [(start + shift_s, stop + shift_s) for start, stop in spans]
    return audio_context(track, moved, window_size(FPS, RATIOS, track.tokens_per_second))


def rotated(x: Tensor, seconds: Tensor) -> Tensor:
    """``x`` [B, N, heads, d] rotated by its times [N]: from a quarter to 12.5 turns a second."""
    pairs = x.shape[-1] // 2
    turns = 0.25 * 50 ** (torch.arange(pairs, dtype=torch.float64) / (pairs - 1))
    angles = (2 * math.pi * seconds[:, None] * turns)[None, :, None]
    as_complex = torch.view_as_complex(x.double().unflatten(-1, (pairs, 2)).contiguous())
    return torch.view_as_real(as_complex * torch.polar(torch.ones_like(angles), angles)).flatten(-2)


def reference(
    block: AudioCrossAttentionBlock, video: Tensor, track: AudioTrack, latents: int, window: int
) -> Tensor:
    """Full attention of all video tokens to all audio tokens, rotated both by their own times and masked."""
    block = AudioCrossAttentionBlock(WIDTH, HEADS, AUDIO).double().eval().requires_grad_(False)
    block.load_state_dict(block_of().state_dict())
    # A window beyond the sound holds the first or last token: here they are there as often as it takes.
    more = 6 * window
    tokens = torch.cat(
        [track.tokens[:, :1].expand(-1, more, -1), track.tokens, track.tokens[:, -1:].expand(-1, more, -1)], 1
    ).double()
    times = track.start_s + (torch.arange(tokens.shape[1], dtype=torch.float64) - more + 0.5) / 25
    spans = torch.tensor([latent_span(j, FPS, RATIOS) for j in range(latents)], dtype=torch.float64)
    middles = spans.mean(dim=1).repeat_interleave(CELLS)
    near = (times - middles[:, None]).abs()
    chosen = near <= near.sort(dim=1).values[:, window - 1 : window]
    assert (chosen.sum(1) == window).all()

    normed = video.double() / (video.double().square().mean(-1, keepdim=True) + 1e-6).sqrt()
    projected = block.audio_proj(tokens)
    q = rotated(block.norm_q(block.to_q(normed).unflatten(-1, (HEADS, -1))), middles)
    k = rotated(block.norm_k(block.to_k(projected).unflatten(-1, (HEADS, -1))), times)
    v = block.to_v(projected).unflatten(-1, (HEADS, -1))
    scores = torch.einsum("bshd,blhd->bhsl", q, k) / math.sqrt(q.shape[-1])
    weights = scores.masked_fill(~chosen, -math.inf).softmax(-1)
    heard = torch.einsum("bhsl,blhd->bshd", weights, v).flatten(2)
    return video.double() + block.gate * block.to_out(heard)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gate_of_zero_changes_not_a_bit(dtype: torch.dtype) -> None:
    block, video = block_of(opened=False).to(dtype), random(1, 2, 4 * CELLS, WIDTH).to(dtype)
    context = context_of(AudioTrack(tokens=random(2, 2, 40, AUDIO)), 4).to("cpu", dtype)
    assert torch.equal(block(video, context), video)
    assert torch.equal(block.train()(video, context), video)


@pytest.mark.parametrize("start_s", [0.0, -0.7, 0.4])
@pytest.mark.parametrize("tokens", [80, 20])
def test_windows_give_what_full_attention_with_a_mask_gives(start_s: float, tokens: int) -> None:
    latents = 6
    video = random(1, 2, latents * CELLS, WIDTH)
    track = AudioTrack(tokens=random(2, 2, tokens, AUDIO), start_s=start_s)
    context = context_of(track, latents)
    made = block_of()(video, context)
    wanted = reference(block_of(), video, track, latents, context.windows.shape[1])
    assert float((made - wanted).detach().abs().max()) < 1e-5
    # It is no accident: neither without times nor with the windows of the next latents.
    still = block_of()(video, context._replace(offsets=torch.zeros_like(context.offsets)))
    later = block_of()(video, context._replace(windows=context.windows.roll(1, 0)))
    for other in (still, later):
        assert float((other - wanted).detach().abs().max()) > 1e-2


def test_a_click_changes_the_latents_whose_windows_hear_it_and_no_others() -> None:
    encoder, block, latents = AudioEncoder(latent_channels=AUDIO).eval(), block_of(), 20
    video = random(1, 1, latents * CELLS, WIDTH)
    sound = 0.1 * random(2, 1, 1, 16_000 * 8)
    clicked = sound.clone()
    clicked[..., 16_000 * 3 + 77] += 0.9
    with torch.no_grad():
        before, after = encoder(sound), encoder(clicked)
        changed = (before - after).abs().amax(dim=(0, 2)) > 1e-6
        contexts = [context_of(AudioTrack(tokens=tokens), latents) for tokens in (before, after)]
        made = [block(video, context).unflatten(1, (latents, CELLS)) for context in contexts]
    moved = (made[0] - made[1]).abs().amax(dim=(0, 2, 3)) > 1e-6
    numbers = context_of(AudioTrack(tokens=torch.arange(200.0)[None, :, None]), latents)
    hears = changed[numbers.tokens[0, :, 0][numbers.windows].long()].any(dim=1)
    assert torch.equal(moved, hears)
    # The click is at 3 s; a latent is a third of a second, and hears 160 ms beyond.
    assert hears.nonzero().flatten().tolist() == [9, 10]


@pytest.mark.parametrize("shift_s", [0.04, -1.7, 1234.567])
def test_only_differences_of_time_count(shift_s: float) -> None:
    block, video = block_of(), random(1, 1, 6 * CELLS, WIDTH)
    tokens = random(2, 1, 80, AUDIO)
    here = block(video, context_of(AudioTrack(tokens=tokens, start_s=-0.3), 6))
    there = block(video, context_of(AudioTrack(tokens=tokens, start_s=-0.3 + shift_s), 6, shift_s))
    assert torch.allclose(here, there, atol=1e-5)


def test_latents_without_times_are_heard_whole_by_every_token() -> None:
    block, video, tokens = block_of(), random(1, 2, 7, WIDTH), random(2, 2, 11, AUDIO)
    made = block(video, tokens)
    assert made.shape == video.shape
    # Order carries nothing without times, and each token hears for itself.
    assert torch.allclose(block(video, tokens.flip(1)), made, atol=1e-6)
    assert torch.allclose(block(video[:, 3:4], tokens), made[:, 3:4], atol=1e-6)
    assert not torch.allclose(block(video, tokens[:, 1:]), made, atol=1e-4)


def test_each_of_a_batch_hears_its_own_sound() -> None:
    block, video = block_of(), random(1, 2, 3 * CELLS, WIDTH)
    track = AudioTrack(tokens=random(2, 2, 40, AUDIO))
    both = block(video, context_of(track, 3))
    for index in range(2):
        own = AudioTrack(tokens=track.tokens[index : index + 1])
        assert torch.allclose(block(video[index : index + 1], context_of(own, 3))[0], both[index], atol=1e-6)


def test_a_zero_gate_learns_and_once_open_all_weights_do() -> None:
    video, context = random(1, 1, 3 * CELLS, WIDTH), context_of(AudioTrack(tokens=random(2, 1, 40, AUDIO)), 3)
    block = block_of(opened=False)
    block(video, context).square().sum().backward()
    moved = {name for name, weight in block.named_parameters() if weight.grad.abs().max() > 0}
    assert moved == {"gate"}
    block = block_of()
    block(video, context).square().sum().backward()
    assert all(weight.grad.abs().max() > 0 for weight in block.parameters())


def test_dropout_acts_in_training_only() -> None:
    video, context = random(1, 1, 3 * CELLS, WIDTH), context_of(AudioTrack(tokens=random(2, 1, 40, AUDIO)), 3)
    block, without = block_of(dropout=0.5), block_of(dropout=0.0)
    assert torch.equal(block(video, context), without(video, context))
    block.train()
    assert not torch.equal(block(video, context), block(video, context))
    assert torch.equal(without.train()(video, context), without.eval()(video, context))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((30, 4), "multiple of 2 \\* num_heads.*got hidden_dim 30, num_heads 4"),
        ((36, 4, 0), "audio_latent_dim 0"),
        ((20, 4), "hidden_dim 20"),  # 5 for each head: no pairs to rotate
        ((32, 0), "num_heads 0"),
        ((32, 4, 12, 1.0), r"dropout in \[0, 1\), got 1.0"),
        ((32, 4, 12, -0.1), "got -0.1"),
    ],
)
def test_an_impossible_block_is_told(arguments: tuple[int, ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        AudioCrossAttentionBlock(*arguments)


def test_audio_that_does_not_fit_is_told() -> None:
    block, video = block_of(), random(1, 2, 4 * CELLS, WIDTH)

    def context(batch: int = 2, width: int = AUDIO, latents: int = 4) -> AudioContext:
        return context_of(AudioTrack(tokens=random(2, batch, 40, width)), latents)

    assert block(video, context()).shape == video.shape
    with pytest.raises(UserError, match=rf"\[B, L, {AUDIO}\], got \(2, 30, 5\): use the AudioEncoder"):
        block(video, context(width=5))
    with pytest.raises(UserError, match="of one batch with the video tokens, 2, got 1"):
        block(video, context(batch=1))
    with pytest.raises(UserError, match="20 video tokens cannot be those of 3 latent frames"):
        block(video, context(latents=3))
    with pytest.raises(UserError, match=r"got \(40, 12\)"):
        block(video, torch.zeros(40, AUDIO))
