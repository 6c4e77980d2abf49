"""Training of the built-in checkpoint's text encoder: to tell what a prompt says from its tokens.

LTX-Video's text encoder is a language model that knows what words mean before the transformer sees them. The
miniature has to learn it: from the mean over a prompt's tokens, linear heads read colour, shape, direction,
speed and background. The heads are thrown away.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ltx_ray.models.conditioning import tokenized
from ltx_ray.training.world import BACKGROUNDS, COLOURS, DIRECTIONS, SHAPES, SPEEDS
from ltx_ray.training.world_prompts import prompts

# What is read from a prompt: the one of these words that it has, or none of them.
QUESTIONS: tuple[tuple[str, ...], ...] = (
    tuple(COLOURS),
    SHAPES,
    tuple(DIRECTIONS),
    tuple(SPEEDS),
    tuple(BACKGROUNDS),
)
_BATCH = 24
_RATE = 2e-3


def answers(prompt: str) -> list[int]:
    """For each of QUESTIONS the index of its word in ``prompt``; one past the last where there is none."""
    words = prompt.lower().replace(".", " ").split()
    return [
        next((index for index, word in enumerate(known) if word in words), len(known)) for known in QUESTIONS
    ]


def train_text_encoder(
    tokenizer: Any, encoder: Any, steps: int, say: Callable[[str], None], *, seed: int = 0
) -> float:
    """Train ``encoder`` (a T5EncoderModel) in place on the prompts of the training split.

    Returns the part of the answers that were right in the last tenth of the steps.
    """
    known = list(prompts("train"))
    ids = torch.cat([tokenized(tokenizer, text).input_ids for text in known])
    masks = torch.cat([tokenized(tokenizer, text).attention_mask for text in known]).bool()
    wanted = torch.tensor([answers(text) for text in known])
    torch.manual_seed(seed)
    heads = nn.Linear(encoder.config.d_model, sum(len(known) + 1 for known in QUESTIONS))
    optimizer = torch.optim.AdamW([*encoder.parameters(), *heads.parameters()], lr=_RATE, weight_decay=0.01)
    draw = np.random.default_rng(seed)
    encoder.train()
    right: list[float] = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * min(1, (step + 1) / 20) * max(0.02, min(1.0, 2 * (steps - step) / steps))
        rows = torch.from_numpy(draw.integers(len(known), size=_BATCH))
        hidden, mask = encoder(ids[rows])[0], masks[rows][..., None]
        read = heads((hidden * mask).sum(1) / mask.sum(1)).split(
            [len(known) + 1 for known in QUESTIONS], dim=1
        )
        loss = sum(nn.functional.cross_entropy(r, wanted[rows, i]) for i, r in enumerate(read))
        assert isinstance(loss, torch.Tensor)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        right.append(_right(read, wanted[rows]))
        if step % 50 == 49:
            say(f"text encoder, step {step + 1}: loss {float(loss.detach()):.3f}, right {right[-1]:.3f}")
    encoder.eval()
    return float(np.mean(right[-max(steps // 10, 1) :]))


def _right(read: Sequence[torch.Tensor], wanted: torch.Tensor) -> float:
    return float(np.mean([float((r.argmax(1) == wanted[:, i]).float().mean()) for i, r in enumerate(read)]))
