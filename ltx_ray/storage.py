"""OUT as a place to put files: durable, create-only where it matters, the same on disks and object stores.

Names are relative to the root and use ``/``. On a local disk a file appears whole (a synced temporary file,
then a rename); on an object store a put is whole by itself. Nothing is ever written in place.
"""

import builtins
import errno
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec

from ltx_ray.errors import ConfigError, StorageError

_TEMPORARY = ".part"  # ending of files that are being written; they do not exist for a reader
_LOOKING = ("read", "look at", "list", "delete")  # what may find no file
_UMASK = os.umask(0)  # there is no way to read it but to set it; once, before any thread runs
os.umask(_UMASK)


class Store:
    """Files under one fsspec URL (a local folder, ``s3://bucket/prefix``, ``memory://`` ...)."""

    def __init__(self, url: str) -> None:
        try:
            self._fs, root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise ConfigError(
                f"--output must be a folder or an fsspec URL whose package is installed, got {url}: {error}"
            ) from error
        self.url = url
        self.is_local = isinstance(self._fs.protocol, tuple) and "file" in self._fs.protocol
        self._root = str(Path(root).absolute()) if self.is_local else root.rstrip("/")

    def path(self, name: str) -> str:
        """The full path of ``name`` within the file system."""
        return f"{self._root}/{name}" if name else self._root

    def local(self, name: str) -> Path:
        """The file itself, where OUT is a local folder."""
        assert self.is_local, f"{self.url} is not a local folder"
        return Path(self.path(name))

    def read(self, name: str) -> bytes:
        """The bytes of ``name``. Raises FileNotFoundError, or StorageError for anything else."""
        with _storage_errors("read", self.path(name)):
            return bytes(self._fs.cat_file(self.path(name)))

    def write(self, name: str, data: bytes) -> None:
        """Write ``name`` durably; an existing file is replaced as a whole."""
        with _storage_errors("write", self.path(name)):
            if self.is_local:
                with self._local_part(name) as part:
                    part.write_bytes(data)
            else:
                self._fs.pipe_file(self.path(name), data)

    def create(self, name: str, data: bytes) -> bool:
        """Write ``name`` durably if it does not exist; False, and nothing changed, if it does.

        Where an object store has just these bytes there already, they count as written now.
        """
        with _storage_errors("create", self.path(name)):
            return self._create_local(name, data) if self.is_local else self._create_remote(name, data)

    def put(self, source: Path, name: str) -> None:
        """Move a local file to ``name``, durably; it appears whole."""
        with _storage_errors("write", self.path(name)):
            if self.is_local:
                with self._local_part(name) as part:
                    shutil.move(source, part)
            else:
                self._fs.put_file(str(source), self.path(name))
                source.unlink()

    def copy(self, source: Path, name: str) -> None:
        """Copy a local file to ``name``, durably, as a stream; it appears whole."""
        with _storage_errors("write", self.path(name)):
            if self.is_local:
                with self._local_part(name) as part:
                    shutil.copyfile(source, part)
            else:
                self._fs.put_file(str(source), self.path(name))

    @contextmanager
    def fetched(self, name: str) -> Iterator[Path]:
        """A local path with the content of ``name`` for the length of the context; to read only."""
        if self.is_local:
            yield self.local(name)
            return
        with tempfile.TemporaryDirectory(prefix="ltx-ray-") as folder:
            target = Path(folder) / Path(name).name
            with _storage_errors("read", self.path(name)):
                self._fs.get_file(self.path(name), str(target))
            yield target

    def size(self, name: str) -> int | None:
        """Bytes of ``name``; None where there is no such file."""
        with _storage_errors("look at", self.path(name)):
            try:
                self._fs.invalidate_cache(self._parent(name))
                info: dict[str, Any] = self._fs.info(self.path(name))
            except FileNotFoundError:
                return None
            return int(info["size"]) if info["type"] == "file" else None

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of all files below ``folder``, by name."""
        found = self._found(folder)
        return {name: int(info["size"]) for name, info in found.items() if not name.endswith(_TEMPORARY)}

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in ``folder``, without its own, sorted; empty where there is none."""
        with _storage_errors("list", self.path(folder)):
            self._fs.invalidate_cache()
            try:
                found = self._fs.ls(self.path(folder), detail=True)
            except FileNotFoundError:
                return []
        return sorted(Path(entry["name"]).name for entry in found if entry["type"] == "directory")

    def list(self, folder: str) -> list[str]:
        """Names of all files below ``folder``, sorted; empty where there is none."""
        return [name for name in self._found(folder) if not name.endswith(_TEMPORARY)]

    def unfinished(self, folder: str, *, silent: float = 0.0, depth: int | None = None) -> builtins.list[str]:
        """Names of files below ``folder`` that are being written, or were when a writer died. Object stores,
        where a put is whole by itself, have none and are not asked.

        ``silent``: only such as nobody has written to for so many seconds; ``depth``: 1 for those in
        ``folder`` itself.
        """
        if not self.is_local:
            return []
        found = self._found(folder, depth)
        names = [name for name in found if name.endswith(_TEMPORARY)]
        # Where it does not matter, the clock of a file server must not either.
        return [name for name in names if not silent or found[name]["mtime"] < time.time() - silent]

    def _found(self, folder: str, depth: int | None = None) -> dict[str, dict[str, Any]]:
        """What the file system knows of each file, by name, sorted."""
        with _storage_errors("list", self.path(folder)):
            self._fs.invalidate_cache()
            try:
                found = self._fs.find(self.path(folder), maxdepth=depth, detail=True)
            except FileNotFoundError:
                return {}
        cut = len(self._root) + 1
        return {path[cut:]: info for path, info in sorted(found.items())}

    def delete(self, name: str) -> None:
        """Remove a file or a whole folder; nothing happens where there is none."""
        with _storage_errors("delete", self.path(name)):
            try:
                self._fs.rm(self.path(name), recursive=True)
            except FileNotFoundError:
                return

    def _parent(self, name: str) -> str:
        return self.path(name).rpartition("/")[0]

    @contextmanager
    def _local_part(self, name: str) -> Iterator[Path]:
        """A temporary file beside ``name`` that is synced and takes its name when the context ends well."""
        target = self.local(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, part_name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=_TEMPORARY)
        os.close(handle)
        part = Path(part_name)
        try:
            yield part
            _sync(part)
            part.chmod(0o666 & ~_UMASK)
            part.replace(target)
            _sync(target.parent)
        finally:
            part.unlink(missing_ok=True)

    def _create_local(self, name: str, data: bytes) -> bool:
        target = self.local(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, part_name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=_TEMPORARY)
        os.close(handle)
        part = Path(part_name)
        try:
            part.write_bytes(data)
            part.chmod(0o666 & ~_UMASK)
            _sync(part)
            try:
                # Fails where the name is taken: the only atomic create of whole content.
                target.hardlink_to(part)
            except FileExistsError:
                return False
            _sync(target.parent)
            return True
        finally:
            part.unlink(missing_ok=True)

    def _create_remote(self, name: str, data: bytes) -> bool:
        try:
            with self._fs.open(self.path(name), "xb") as file:
                file.write(data)
        except FileExistsError:
            # The answer to a first try may have been lost, and the put tried again: then it is ours.
            return bytes(self._fs.cat_file(self.path(name))) == data
        return True


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _storage_errors(action: str, path: str) -> Iterator[None]:
    """Turn the file system's errors into one that says what to do.

    A file that is missing where one is looked for stays FileNotFoundError.
    """
    try:
        yield
    except Exception as error:  # the libraries of object stores raise errors that are no OSError
        if isinstance(error, FileNotFoundError) and action in _LOOKING:
            raise
        number = error.errno if isinstance(error, OSError) else None
        advice = {
            errno.ENOSPC: "the disk is full: free some space and give the same command again",
            errno.EDQUOT: "the quota is used up: free some space and give the same command again",
            errno.EROFS: "the file system is read-only: choose another --output",
            errno.EACCES: "permission denied: choose an --output that you may write",
        }.get(number or 0, "check the storage and give the same command again")
        raise StorageError(f"could not {action} {path}: {error}; {advice}") from error


def sha256_of(data: bytes) -> str:
    """SHA-256 of ``data`` in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
