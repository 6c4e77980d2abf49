"""Opening media that users name, by fsspec URL or plain path, with errors told to who named it."""

import errno
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

from ltx_ray.errors import LtxRayError, MediaError, RetryableError
from ltx_ray.media.access import TRUSTED, Access
from ltx_ray.media.addresses import refused
from ltx_ray.redact import redacted

# A playlist (m3u8, concat) may name further files or hosts: only such formats are read as hold their media
# themselves, and nothing but the one file is ever opened.
_FORMATS = (
    "mov,mp4,m4a,matroska,webm,avi,flv,mpegts,mpeg,asf,mxf,nut,ivf,gif,yuv4mpegpipe,"
    "wav,w64,aiff,caf,au,mp3,aac,flac,ogg,wv,ape,tta,amr,ac3,eac3,dts,dsf,voc"
)
OPTIONS = {"protocol_whitelist": "none", "format_whitelist": _FORMATS}


def open_bytes(url: str, access: Access = TRUSTED) -> IO[bytes]:
    """Open a URL or path for reading, as far as ``access`` allows it.

    Raises MediaError where it cannot be opened for a reason that lasts (not allowed, missing, a folder, too
    large, no permission, an unknown protocol), RetryableError where the store may answer next time.
    """
    access.check(url)
    shown = redacted(url)
    try:
        if "://" not in url:
            return access.opened_path(url).open("rb")
        if url.partition("://")[0].lower() in ("http", "https"):
            from ltx_ray.media.web import fetched  # aiohttp, for those who need it

            return fetched(url, access)
        file = cast(IO[bytes], fsspec.open(url, "rb").open())
    except MediaError:
        raise
    except FileNotFoundError as error:
        if refusal := refused(error):
            raise MediaError(f"a file must lie at a public address, got {shown}: {refusal}") from error
        if _is_passing(error):
            raise RetryableError(
                f"could not open {shown}: {error.__cause__}; it may answer next time"
            ) from error
        raise MediaError(
            f"media must be an existing file, got {shown}: no such file; check the path"
        ) from error
    except IsADirectoryError as error:
        raise MediaError(f"media must be a file, got {shown}: it is a folder; name a file in it") from error
    except PermissionError as error:
        raise MediaError(f"media must be readable, got {shown}: permission denied ({error})") from error
    except (ValueError, ImportError) as error:
        raise MediaError(f"media must be a path or an fsspec URL, got {shown}: {error}") from error
    except OSError as error:
        if refusal := refused(error):
            raise MediaError(f"a file must lie at a public address, got {shown}: {refusal}") from error
        raise RetryableError(f"could not open {shown}: {error}; the store may answer next time") from error
    access.check_size(url, int(getattr(file, "size", 0) or 0))
    return file


def _is_passing(error: FileNotFoundError) -> bool:
    """Whether a web server could not answer now: fsspec says of its every error that there is no file."""
    status = getattr(error.__cause__, "status", None)
    return isinstance(status, int) and (status >= 500 or status in (408, 425, 429))


@contextmanager
def of_column(name: str) -> Iterator[None]:
    """What is wrong with media is told as that of the manifest's column ``name``."""
    try:
        yield
    except MediaError as error:
        raise MediaError(f"{name}: {error}") from error


@contextmanager
def open_container(url: str, wanted: str, access: Access = TRUSTED) -> Iterator[InputContainer]:
    """Open a URL as a media container; also what fails while the container is used is explained.

    ``wanted`` names what the file should be, for messages ("an audio file").
    Raises MediaError where the file is missing or is no media, RetryableError where its store failed.
    """
    with closing(open_bytes(url, access)) as file:
        try:
            # Titles and names of artists are in whatever encoding, and are not looked at.
            with av.open(file, "r", options=OPTIONS, metadata_errors="replace") as container:
                yield container
        except LtxRayError:
            raise
        except (FFmpegError, ValueError, OSError) as error:
            if not _is_of_data(error):
                text = f"reading {redacted(url)} failed: {error}; the store may answer next time"
                raise RetryableError(text) from error
            why = getattr(error, "strerror", None) or error
            raise MediaError(
                f"{redacted(url)} must be {wanted}, got data that cannot be read as such ({why}); "
                "check that it plays, or convert it"
            ) from error


def _is_of_data(error: Exception) -> bool:
    """Whether what was read is to blame: damaged data also lead to places that are not in the file, which
    disks call an invalid argument, and fsspec a ValueError."""
    return isinstance(error, FFmpegError | ValueError) or getattr(error, "errno", None) == errno.EINVAL


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
