"""Which files the rows of a manifest may name, and how much of them is read.

Rows may come from anybody. A local file must lie, links resolved, under the manifest's folder or a folder
that the run's ``inputs.roots`` names; a remote one must be of a scheme that ``inputs.schemes`` allows, and no
web server may stand at, or lead to, a private address. What people name on the command line is trusted.
"""

import os
import re
import stat
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import urlsplit

from ltx_ray.config import InputsConfig
from ltx_ray.errors import MediaError
from ltx_ray.media.addresses import literal_address, refusal
from ltx_ray.redact import redacted
from ltx_ray.visible import visible

_WEB = ("http", "https")
# A web server's IPv6 address, in which :: chains nothing.
_NEW_ADDRESS = re.compile(r"^https?://([^/@\[]*@)?\[[0-9A-Fa-f:.%]*", re.IGNORECASE)
_NUMERIC = re.compile(r"[0-9.]+|.*(^|\.)0x[0-9a-f]*", re.IGNORECASE)  # an address in parts, or in one number


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What may be read."""

    roots: tuple[str, ...] | None  # folders and URLs below which all may be read; None: every file may
    limits: InputsConfig

    @classmethod
    def of_rows(cls, folder: str, config: InputsConfig) -> "Access":
        """For the rows of a manifest that lies in ``folder``, a path or a URL."""
        return cls(roots=(folder, *config.roots), limits=config)

    def check(self, url: str) -> None:
        """Raise MediaError where ``url`` may not be read, as far as its name tells."""
        if self.roots is None:
            return
        shown = redacted(url)
        if "::" in _NEW_ADDRESS.sub("", url):
            raise MediaError(f"a file must be named by one path or URL, got the chain {shown}")
        scheme, separator, _ = url.partition("://")
        if not separator:
            self._check_local(url)
        elif scheme in ("file", "local"):
            raise MediaError(f"a local file must be named by its path, got {shown}: leave {scheme}:// out")
        elif not self._is_below(url):
            self._check_remote(url, scheme, shown)

    def opened_path(self, path: str) -> Path:
        """The file behind ``path``. Raises MediaError where a link leads out of all roots, where it is no
        regular file (a pipe would never end), or larger than ``inputs.max_bytes``."""
        real = Path(os.path.realpath(path))
        if self.roots is not None and not any(real.is_relative_to(root) for root in self._real_roots()):
            raise MediaError(self._outside(f"{path}, which leads to {visible(str(real))}"))
        try:
            facts = real.stat()
        except FileNotFoundError as error:
            raise MediaError(
                f"media must be an existing file, got {path}: no such file; check the path"
            ) from error
        except OSError as error:
            raise MediaError(f"media must be readable, got {path}: {error.strerror}") from error
        if stat.S_ISDIR(facts.st_mode):
            raise MediaError(f"media must be a file, got {path}: it is a folder; name a file in it")
        if not stat.S_ISREG(facts.st_mode):
            raise MediaError(f"media must be a regular file, got {path}: it is a pipe or a device")
        self.check_size(path, facts.st_size)
        return real

    def check_size(self, url: str, size: int) -> None:
        """Raise MediaError for a file of ``size`` bytes that is too large."""
        if size > self.limits.max_bytes:
            raise MediaError(
                f"media must have at most {self.limits.max_bytes:,} bytes (inputs.max_bytes of the config; "
                f"inputs.max_image_bytes of an image), got {redacted(url)} with {size:,} or more"
            )

    def of_images(self) -> "Access":
        """The same for files that are read into memory."""
        most = min(self.limits.max_bytes, self.limits.max_image_bytes)
        return replace(self, limits=self.limits.model_copy(update={"max_bytes": most}))

    def _check_local(self, path: str) -> None:
        plain = Path(os.path.normpath(path))
        if not any(plain.is_relative_to(os.path.normpath(root)) for root in self._local_roots()):
            raise MediaError(self._outside(path))

    def _check_remote(self, url: str, scheme: str, shown: str) -> None:
        if scheme.lower() not in self.limits.schemes:
            allowed = ", ".join(self.limits.schemes) or "none"
            raise MediaError(
                f"a remote file must be of an allowed scheme ({allowed}; inputs.schemes of the config), "
                f"got {shown}"
            )
        if scheme.lower() in _WEB:
            try:
                host = urlsplit(url).hostname
            except ValueError as error:
                raise MediaError(f"media must be a path or a URL, got {shown}: {error}") from error
            if not host:
                raise MediaError(f"a URL must name a host, got {shown}")
            address = literal_address(host)
            if address is None and _NUMERIC.fullmatch(host):
                raise MediaError(f"an address must be written in full, as 192.0.2.1, got {shown}")
            reason = None if address is None else refusal(address, self.limits.private_networks)
            if reason:
                raise MediaError(f"a file must lie at a public address, got {shown}: {reason}")

    def _is_below(self, url: str) -> bool:
        remote = [root.rstrip("/") + "/" for root in self.roots or () if "://" in root]
        return "/../" not in url and any(url.startswith(root) for root in remote)

    def _local_roots(self) -> list[str]:
        return [root for root in self.roots or () if "://" not in root]

    def _real_roots(self) -> list[str]:
        return [os.path.realpath(root) for root in self._local_roots()]

    def _outside(self, shown: str) -> str:
        roots = ", ".join(self._local_roots()) or "none"
        return (
            f"a local file must lie in the manifest's folder or one that inputs.roots (--input-root) names "
            f"({roots}), got {shown}"
        )


_ANYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))
_UNLIMITED = InputsConfig(
    schemes=("http", "https"), max_bytes=2**63, max_image_bytes=2**63, private_networks=_ANYWHERE
)
TRUSTED = Access(roots=None, limits=_UNLIMITED)
