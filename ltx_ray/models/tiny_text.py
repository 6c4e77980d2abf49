"""The text side of the built-in checkpoint: a byte-level tokenizer and a random T5 encoder."""

from collections.abc import Iterator
from itertools import product

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

TEXT_WIDTH = 64
VOCABULARY = 768  # 2 special tokens, the 256 bytes, and merges
PAD, END = "<pad>", "</s>"

_COLOURS = (
    "red green blue yellow purple cyan orange pink white black grey brown magenta turquoise golden silver"
).split()
_SHAPES = "circle square triangle star ring cross ball cube diamond heart dot line".split()
_MOTIONS = (
    "moving to the right|moving to the left|moving up|moving down|falling|rising|spinning|bouncing|growing"
    "|shrinking|drifting slowly|jumping quickly|standing still|flashing on every beat|pulsing with the sound"
).split("|")
_PLACES = (
    "over a plain background|over a dark background|over a bright background|in front of a gradient"
    "|on a wooden table|above the sea|in the rain|in the night sky|at dawn|under a street lamp"
).split("|")
_STYLES = (
    "cinematic lighting, shallow depth of field|a long slow camera move|wide shot, high detail"
    "|close-up, soft focus, warm colours|worst quality, inconsistent motion, blurry, jittery, distorted"
    "|a video of a person walking through a city street with lights and reflections"
    "|waves crash against the rocks of the shoreline, the camera pans over a snow-covered mountain"
).split("|")


def prompts() -> Iterator[str]:
    """The prompts about coloured shapes, in a fixed order, that the tokenizer is trained on."""
    for index, (colour, shape, motion) in enumerate(product(_COLOURS, _SHAPES, _MOTIONS)):
        place = _PLACES[index % len(_PLACES)]
        yield f"a {colour} {shape} {motion}"
        yield f"A video of a {colour} {shape} that is {motion} {place}."
        yield f"{colour} {shape}, {_STYLES[index % len(_STYLES)]}"


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer: every text has tokens, so there is no unknown token.

    As with T5, padding is token 0 and each text ends in token 1.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(prompts(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, model_max_length=128
    )


def make_text_encoder(vocabulary: int, seed: int) -> T5EncoderModel:
    """A T5 encoder of two layers in float32, a function of ``vocabulary`` and ``seed`` alone."""
    config = T5Config(
        vocab_size=vocabulary,
        d_model=TEXT_WIDTH,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        pad_token_id=0,
        eos_token_id=1,
    )
    # T5's own initialisation draws from the global generator: leave that as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return T5EncoderModel(config)
