"""What goes into and comes out of a chunk survives its way through bytes."""

from dataclasses import fields

import pytest
import torch

from ltx_ray.errors import BadResultError, LtxRayError
from ltx_ray.models.audio.alignment import AudioTrack
from ltx_ray.payload import pack, unpack
from ltx_ray.sampling.carriers import ChunkLatents, Conditioning


def conditioning(
    image: torch.Tensor | None, columns: int = 4, audio: AudioTrack | None = None
) -> Conditioning:
    return Conditioning(
        prompt_embeds=torch.randn(2, 8, 6).to(torch.bfloat16),
        prompt_mask=torch.rand(2, 8) > 0.5,
        negative_embeds=torch.randn(1, 8, 6).to(torch.bfloat16),
        negative_mask=torch.rand(1, 8) > 0.5,
        image=image,
        rows=3,
        columns=columns,
        fps=23.976,
        audio=audio,
    )


@pytest.mark.parametrize("image", [None, torch.randn(1, 5, 1, 3, 4)], ids=["text", "image"])
def test_conditioning_comes_back_from_bytes_as_it_was(image: torch.Tensor | None) -> None:
    made = conditioning(image)
    back = Conditioning.from_tensors(unpack(pack(made.to_tensors())))
    for field in fields(Conditioning):
        ours, theirs = getattr(made, field.name), getattr(back, field.name)
        if isinstance(ours, torch.Tensor):
            assert torch.equal(ours, theirs), field.name
            assert ours.dtype == theirs.dtype, field.name
        else:
            assert ours == theirs, field.name


def test_sound_comes_back_from_bytes_with_its_clock() -> None:
    track = AudioTrack(tokens=torch.randn(1, 7, 5), start_s=-1.03, tokens_per_second=37.5)
    back = Conditioning.from_tensors(unpack(pack(conditioning(None, audio=track).to_tensors()))).audio
    assert back is not None
    assert torch.equal(back.tokens, track.tokens)
    assert (back.start_s, back.tokens_per_second) == (-1.03, 37.5)
    tensors = conditioning(None, audio=track).to_tensors()
    del tensors["audio_clock"]
    with pytest.raises(BadResultError, match="named audio_clock"):
        Conditioning.from_tensors(tensors)


def test_an_image_of_another_size_is_refused() -> None:
    with pytest.raises(LtxRayError, match="3 x 5 cells, got"):
        conditioning(torch.randn(1, 5, 1, 3, 4), columns=5)


def test_tensors_of_something_else_are_refused_and_named() -> None:
    with pytest.raises(BadResultError, match="named final, tail, mean, std, got pixels"):
        ChunkLatents.from_tensors({"pixels": torch.zeros(1)})
    with pytest.raises(BadResultError, match="got none"):
        Conditioning.from_tensors({})
