"""Noise keyed to absolute coordinates, so that tiles agree with one another and with the whole decode.

Decoders want noise in two places: mixed into the latents before decoding (decode noise), and added inside
of residual blocks (``decoder_inject_noise``). Both are drawn on the CPU from seeds that name the place in
the shot, never the tile; a tile takes its crop.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ltx_ray.errors import ModelError
from ltx_ray.types import Interval


def decode_noise(
    seed: int, channels: int, columns: int, t: tuple[int, int], y: tuple[int, int], x: tuple[int, int]
) -> Tensor:
    """Standard normal noise ``[1, channels, T, H, W]``, float32 on the CPU, of the shot's latents t, y, x.

    Ranges are [start, stop) in the shot's latents and cells. Every row of cells has a generator of its
    own, so that a tile draws its own rows only, but always the whole row of ``columns`` cells.
    """
    noise = torch.empty(1, channels, t[1] - t[0], y[1] - y[0], x[1] - x[0])
    for frame in range(*t):
        for row in range(*y):
            strip = _draw((channels, columns), seed, "decode", frame, row)
            noise[0, :, frame - t[0], row - y[0]] = strip[:, slice(*x)]
    return noise


class InjectedNoise(TorchFunctionMode):
    """While it is entered, ``torch.randn`` in this thread gives a tile its crop of whole-frame fields.

    ``LTXVideoResnetBlock3d.forward`` draws ``torch.randn((height, width))`` at its layer's scale, the same
    for all frames; the n-th draw of a decode is answered from the field n of the shot. One decode per entry.
    """

    def __init__(self, seed: int, rows: int, columns: int, y: Interval, x: Interval) -> None:
        super().__init__()
        self._seed, self._rows, self._columns, self._y, self._x = seed, rows, columns, y, x
        self._draws = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is not torch.randn:
            return func(*args, **kwargs)
        return self._crop(*args, **kwargs)

    def _crop(
        self,
        shape: tuple[int, int],
        *,
        generator: torch.Generator | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        cells = self._y.in_stop - self._y.in_start, self._x.in_stop - self._x.in_start
        scale = shape[0] // cells[0]
        if tuple(shape) != (cells[0] * scale, cells[1] * scale):
            raise ModelError(
                f"the decoder's injected noise must cover its tile of {cells[0]} x {cells[1]} cells at one "
                f"scale, got a draw of {tuple(shape)}: this VAE is not one of LTX's"
            )
        field = _draw((self._rows * scale, self._columns * scale), self._seed, "inject", self._draws)
        self._draws += 1
        rows = slice(self._y.in_start * scale, self._y.in_stop * scale)
        columns = slice(self._x.in_start * scale, self._x.in_stop * scale)
        return field[rows, columns].to(device=device, dtype=dtype)


def injected_noise(
    vae_config: Mapping[str, Any], seed: int | None, rows: int, columns: int, y: Interval, x: Interval
) -> AbstractContextManager[object]:
    """``InjectedNoise`` where the decoder of ``vae_config`` adds noise inside, and it has a seed."""
    if seed is None or not any(vae_config["decoder_inject_noise"]):
        return nullcontext()
    return InjectedNoise(seed, rows, columns, y, x)


def _draw(shape: tuple[int, ...], *key: object) -> Tensor:
    """Standard normal values ``shape``, float32 on the CPU, that depend on the shape and ``key`` only."""
    digest = hashlib.sha256(":".join(str(part) for part in key).encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return torch.randn(shape, generator=generator)
