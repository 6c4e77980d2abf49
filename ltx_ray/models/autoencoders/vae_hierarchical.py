"""A hierarchy of scales: pixels as multi-level Haar bands, and compact latents made of the coarsest of them.

Analytic, deterministic and free of parameters: it adds nothing to a checkpoint. Compact latents stand on the
VAE's grid but are not its latents: they are what a preview or a comparison needs, while ``encode`` gives the
VAE's own.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ltx_ray.errors import UserError
from ltx_ray.models.autoencoders.band_encoding import encode_in_bands
from ltx_ray.models.autoencoders.haar import (
    Bands,
    join_levels,
    join_time,
    split_levels,
    split_time,
)
from ltx_ray.planning.geometry import Ratios

if TYPE_CHECKING:
    from diffusers import AutoencoderKLLTXVideo

_RATIOS = Ratios()
_LEVELS = _RATIOS.space.bit_length() - 1  # halvings of a side until one value is left of a cell
_TIMES = _RATIOS.time.bit_length()  # bands in time: the mean and one for each halving


class HierarchicalVAEEncoder(nn.Module):
    """Pixels ``[B, in_channels, F, H, W]`` to compact latents ``[B, latent_channels, T, H/32, W/32]``.

    The first ``compression_levels`` halvings in space are Haar wavelets, or plain space-to-depth without
    ``use_wavelet``; the others, up to a cell's 32 x 32 pixels, and those of a latent's 8 frames, are Haar.
    Of a cell's coefficients the first ``latent_channels`` are kept, coarse before fine, in space and time
    together. They are scaled so that the first is the mean of a colour over the cell.
    """

    def __init__(
        self,
        in_channels: int = 3,
        latent_channels: int = 128,
        compression_levels: int = 2,
        use_wavelet: bool = True,
    ) -> None:
        """Raises UserError for channels below 1, too many latent channels, or levels outside of 1 to 5."""
        super().__init__()
        most = in_channels * _RATIOS.space**2 * _RATIOS.time
        if in_channels < 1:
            raise UserError(f"in_channels must be at least 1, got {in_channels}")
        if not 1 <= latent_channels <= most:
            raise UserError(
                f"latent_channels must be 1 to {most}, the values of one cell, got {latent_channels}"
            )
        if not 1 <= compression_levels <= _LEVELS:
            raise UserError(f"compression_levels must be 1 to {_LEVELS}, got {compression_levels}")
        self.in_channels = in_channels
        self.latent_channels = latent_channels
        self.compression_levels = compression_levels
        self.use_wavelet = use_wavelet

    def decompose(self, pixels: Tensor) -> Bands:
        """``compression_levels`` of bands of ``[..., H, W]``. Raises UserError where sides do not divide."""
        return split_levels(pixels, self.compression_levels, self.use_wavelet)

    def reconstruct(self, bands: Bands) -> Tensor:
        """The pixels of ``decompose``, to rounding."""
        return join_levels(bands, self.use_wavelet)

    def forward(self, pixels: Tensor) -> Tensor:
        """Compact latents. As for the VAE, frame 0 is a latent alone (as 8 equal frames), then 8 a latent.

        Raises UserError for other channels than ``in_channels``, for a number of frames that is not 8k + 1,
        or sides that are no multiples of 32.
        """
        self._check_pixels(pixels)
        frames, step = pixels.shape[2], _RATIOS.time
        groups = [pixels[:, :, :1].expand(-1, -1, step, -1, -1)]
        groups += [pixels[:, :, start : start + step] for start in range(1, frames, step)]
        # Group by group: the transform of all frames at once would need their memory several times.
        return torch.stack([self._compact(group) for group in groups], dim=2)

    def decode(self, latents: Tensor) -> Tensor:
        """A preview ``[B, in_channels, F, H, W]`` of compact latents: zeros stand for what was not kept."""
        if latents.ndim != 5 or latents.shape[1] != self.latent_channels:
            raise UserError(
                f"compact latents must be [B, {self.latent_channels}, T, h, w], got {list(latents.shape)}"
            )
        first, *others = (self._expanded(latents[:, :, index]) for index in range(latents.shape[2]))
        return torch.cat([first[:, :, :1], *others], dim=2)

    def encode(
        self, vae: "AutoencoderKLLTXVideo", pixels: Tensor, memory_budget: int | None = None
    ) -> Tensor:
        """The latents ``[B, C, T, h, w]`` of ``vae`` itself, in bands that fit ``memory_budget``.

        ``ltx_ray.models.autoencoders.band_encoding.encode_in_bands`` says how.
        """
        return encode_in_bands(vae, pixels, memory_budget)

    def _compact(self, group: Tensor) -> Tensor:
        """``[B, C, 8, H, W]`` -> ``[B, latent_channels, H/32, W/32]``."""
        low, *high = split_time(group.movedim(2, 0))
        parts = {}
        for time, frames in enumerate([low, *high]):
            for space, band in enumerate(self._cell_bands(frames)):
                # [n, B, C, values of a cell, h, w] -> [B, n x values x C, h, w]
                parts[space, time] = band.permute(1, 0, 3, 2, 4, 5).flatten(1, 3)
        ordered = torch.cat([parts[key] for key in _coarse_to_fine()], dim=1)
        return ordered[:, : self.latent_channels] / self._gain()

    def _expanded(self, latents: Tensor) -> Tensor:
        """The inverse of ``_compact``, with zeros for what was not kept."""
        batch, kept, rows, columns = latents.shape
        total = self.in_channels * _RATIOS.space**2 * _RATIOS.time
        full = latents.new_zeros(batch, total, rows, columns)
        full[:, :kept] = latents * self._gain()
        parts, start = {}, 0
        for space, time in _coarse_to_fine():
            count, values = _frames_in(time), _values_in(space)
            stop = start + count * values * self.in_channels
            part = full[:, start:stop].reshape(batch, count, values, self.in_channels, rows, columns)
            parts[space, time] = part.permute(1, 0, 3, 2, 4, 5)
            start = stop
        bands = [self._planes([parts[space, time] for space in range(_LEVELS + 1)]) for time in range(_TIMES)]
        return join_time(bands).movedim(0, 2)

    def _cell_bands(self, frames: Tensor) -> Iterator[Tensor]:
        """All levels of ``[..., H, W]``, coarse to fine, as ``[..., values of a cell, H/32, W/32]``."""
        fine = self.decompose(frames)
        coarse = split_levels(fine.low, _LEVELS - self.compression_levels, wavelet=True)
        yield coarse.low.unsqueeze(-3)
        for level, band in enumerate((*coarse.high, *fine.high)):
            side = 2**level
            cells = torch.unflatten(torch.unflatten(band, -1, (-1, side)), -3, (-1, side))
            # [..., 3, h, rows of a cell, w, columns of a cell] -> [..., 3 x rows x columns, h, w]
            yield cells.movedim((-3, -1), (-4, -3)).flatten(-5, -3)

    def _planes(self, bands: list[Tensor]) -> Tensor:
        """The inverse of ``_cell_bands``."""
        high = []
        for level, band in enumerate(bands[1:]):
            cells = torch.unflatten(band, -3, (3, 2**level, 2**level)).movedim((-4, -3), (-3, -1))
            high.append(cells.flatten(-2, -1).flatten(-3, -2))
        coarse = len(high) - self.compression_levels
        low = join_levels(Bands(bands[0].squeeze(-3), tuple(high[:coarse])), wavelet=True)
        return self.reconstruct(Bands(low, tuple(high[coarse:])))

    def _gain(self) -> float:
        """What the first coefficient is worth for a cell of ones; space-to-depth does not scale."""
        halvings = _LEVELS if self.use_wavelet else _LEVELS - self.compression_levels
        return float(2**halvings * _RATIOS.time**0.5)

    def _check_pixels(self, pixels: Tensor) -> None:
        if pixels.ndim != 5 or pixels.shape[1] != self.in_channels:
            raise UserError(f"pixels must be [B, {self.in_channels}, F, H, W], got {list(pixels.shape)}")
        frames, height, width = pixels.shape[2:]
        if frames % _RATIOS.time != 1:
            raise UserError(
                f"the number of frames must be 8k + 1, got {frames}: trim the video or repeat a frame"
            )
        if height % _RATIOS.space or width % _RATIOS.space:
            raise UserError(
                f"height and width must be multiples of {_RATIOS.space}, got {height} and {width}: pad them"
            )


def _coarse_to_fine() -> list[tuple[int, int]]:
    """(space, time) of all bands by the sum of their levels; within one sum the smaller bands first."""
    keys = [(space, time) for space in range(_LEVELS + 1) for time in range(_TIMES)]
    return sorted(keys, key=lambda key: (sum(key), _values_in(key[0]) * _frames_in(key[1])))


def _values_in(space: int) -> int:
    """Values of a cell in a band in space: 1, 3, 12, 48 ..."""
    return 3 * 4 ** (space - 1) if space else 1


def _frames_in(time: int) -> int:
    """Frames of a latent in a band in time: 1, 1, 2, 4."""
    return 2 ** (time - 1) if time else 1
