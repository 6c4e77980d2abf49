"""Opening media that users name, by fsspec URL or plain path, with errors told to who named it."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from typing import IO, cast

import av
import fsspec
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from ltx_ray.errors import MediaError, RetryableError

# A playlist (m3u8, concat) may name further files or hosts. Only the URL that was asked for is read.
NO_NESTED_FILES = {"protocol_whitelist": "none"}


def open_bytes(url: str) -> IO[bytes]:
    """Open a URL or path for reading.

    Raises MediaError where it cannot be opened for a reason that lasts (missing, a folder, no permission,
    an unknown protocol), RetryableError where the store may answer next time.
    """
    try:
        return cast(IO[bytes], fsspec.open(url, "rb").open())
    except FileNotFoundError as error:
        raise MediaError(
            f"media must be an existing file, got {url}: no such file; check the path"
        ) from error
    except IsADirectoryError as error:
        raise MediaError(f"media must be a file, got {url}: it is a folder; name a file in it") from error
    except PermissionError as error:
        raise MediaError(f"media must be readable, got {url}: permission denied ({error})") from error
    except (ValueError, ImportError) as error:
        raise MediaError(f"media must be a path or an fsspec URL, got {url}: {error}") from error
    except OSError as error:
        raise RetryableError(f"could not open {url}: {error}; the store may answer next time") from error


@contextmanager
def open_container(url: str, wanted: str) -> Iterator[InputContainer]:
    """Open a URL as a media container; also what fails while the container is used is explained.

    ``wanted`` names what the file should be, for messages ("an audio file").
    Raises MediaError where the file is missing or is no media, RetryableError where its store failed.
    """
    with closing(open_bytes(url)) as file:
        try:
            with av.open(file, "r", options=NO_NESTED_FILES) as container:
                yield container
        except MediaError:
            raise
        except FFmpegError as error:
            raise MediaError(
                f"{url} must be {wanted}, got data that cannot be read as such ({error.strerror}); "
                "check that it plays, or convert it"
            ) from error
        except OSError as error:
            raise RetryableError(f"reading {url} failed: {error}; the store may answer next time") from error


def films(container: InputContainer) -> list[VideoStream]:
    """Video streams but cover pictures, which have no time."""
    return [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]


def playback_start(container: InputContainer) -> Fraction:
    """Second of the container's clock at which playback begins: the earliest start of its first sound and of
    its films. A picture and a sound at one time after it belong together."""
    streams: list[Stream] = [*container.streams.audio[:1], *films(container)]
    starts = [
        each.start_time * each.time_base
        for each in streams
        if each.start_time is not None and each.time_base is not None
    ]
    return min(starts, default=Fraction(0))
