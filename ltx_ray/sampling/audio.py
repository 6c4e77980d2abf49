"""What a chunk hears: the shot's sound, cut to the times of everything that takes part in its window."""

from ltx_ray.models.audio.alignment import AudioContext, AudioTrack, audio_context, latent_span, window_size
from ltx_ray.planning.geometry import Ratios
from ltx_ray.types import Chunk


def chunk_audio(
    track: AudioTrack, chunk: Chunk, tail: int, negative: int, fps: float, ratios: Ratios
) -> AudioContext:
    """The windows of the chunk's latents, of its appended ``tail``, and of ``negative`` (0 or 1) images.

    Each hears the sound of the time at which its own picture is shown: the tail's latents are those with
    which the window begins, and the image is the shot's first frame.
    """
    latents = [chunk.start + index for index in range(chunk.length)]
    latents += [chunk.start + index for index in range(tail)]
    latents += [0] * negative
    spans = [latent_span(latent, fps, ratios) for latent in latents]
    return audio_context(track, spans, window_size(fps, ratios, track.tokens_per_second))
