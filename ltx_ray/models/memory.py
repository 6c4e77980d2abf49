"""How much of a card the actor of each stage needs: weights, and what its largest task computes with.

The formulas are counted, on tensors without memory, against the code of diffusers that is run. What a card
really holds was never measured: no card was at hand. So there is a margin.
"""

from dataclasses import dataclass

from ltx_ray.models.autoencoders.encoder_layers import encoder_bytes_per_cell
from ltx_ray.models.checkpoint import Checkpoint
from ltx_ray.models.weight_bytes import PartBytes, part_bytes
from ltx_ray.planning.workload import Workload
from ltx_ray.run import DTYPE_BYTES, RunSpec
from ltx_ray.types import Stage

# Per token and unit of the transformer's width, so many values in its dtype: the feed-forward part with its
# hidden layer, and where each token has a timestep of its own, six modulations of it, and twice that once.
_VALUES, _VALUES_HELD = 12, 25
_ROTARY_BYTES = 8  # the same, of the angles of all tokens: cosine and sine in float32
_LATENT_BYTES = 10 * 4  # the same per channel of the latents: the state of the sampler, in float32
_TEXT_BYTES = 64 * 2**20  # what T5 computes a prompt of 128 tokens with
_CONTEXT_BYTES = 700 * 2**20  # CUDA's own, in each process
_MARGIN = 0.05  # of all else: what an allocator cannot use, and workspaces of libraries


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Bytes of one actor on its card."""

    weights: int
    activations: int  # of its largest task

    @property
    def total(self) -> int:
        """With what a process takes in any case."""
        return int((self.weights + self.activations) * (1 + _MARGIN)) + _CONTEXT_BYTES


def stage_needs(run: RunSpec, checkpoint: Checkpoint, work: Workload) -> dict[Stage, Need]:
    """Of the stages that hold a part of the model, where all of them are on GPUs."""
    each, mode = DTYPE_BYTES[run.sampling.dtype], run.config.model.quantization
    vae = part_bytes(checkpoint.path, "vae", each)
    text = part_bytes(checkpoint.path, "text_encoder", each, mode)
    transformer = part_bytes(checkpoint.path, "transformer", each, mode)
    per_cell = encoder_bytes_per_cell(checkpoint.vae_config(), each, one_frame=True)
    image = min(work.image_cells * per_cell, run.plan_settings().tiles.tile_bytes)
    return {
        Stage.CONDITION: Need(
            weights=text.weights + (vae.weights if work.image_cells else 0),
            activations=max(text.restored + _TEXT_BYTES, image),
        ),
        Stage.DENOISE: _denoiser(checkpoint, transformer, work, each),
        Stage.DECODE: Need(weights=vae.weights, activations=work.tile_cells * run.bytes_per_cell),
    }


def _denoiser(checkpoint: Checkpoint, part: PartBytes, work: Workload, dtype_bytes: int) -> Need:
    config = checkpoint.transformer_config()
    width = config.get("num_attention_heads", 32) * config.get("attention_head_dim", 64)
    values = _VALUES_HELD if work.is_held else _VALUES
    per_token = width * (values * dtype_bytes + _ROTARY_BYTES)
    per_token += config.get("in_channels", 128) * _LATENT_BYTES
    return Need(weights=part.weights, activations=work.tokens * per_token + part.restored)
