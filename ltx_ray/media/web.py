"""Files of web servers, at public addresses only.

Checked for each connection, after names are resolved, so that neither a redirect nor a name that changes its
address leads to a machine within.
"""

import ipaddress
import socket
import tempfile
from typing import IO, Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from fsspec.implementations.http import HTTPFileSystem

from ltx_ray.config import InputsConfig
from ltx_ray.media.access import Access
from ltx_ray.media.addresses import AddressRefusedError, Network, literal_address, refusal

_BLOCK = 1 << 20  # bytes that are read at a time
_TIMEOUT = aiohttp.ClientTimeout(total=600, connect=30, sock_read=60)  # seconds


def fetched(url: str, access: Access) -> IO[bytes]:
    """The file at ``url``, in a temporary file of this machine: servers say little that is true of length and
    ranges. Raises what fsspec raises, MediaError for a body that is too large, AddressRefusedError."""
    made = tempfile.TemporaryFile()
    try:
        with _files(access.limits).open(url, "rb", block_size=0) as body:
            count = 0
            while data := body.read(_BLOCK):
                count += len(data)
                access.check_size(url, count)
                made.write(data)
        made.seek(0)
    except BaseException:
        made.close()
        raise
    return made


def _files(limits: InputsConfig) -> HTTPFileSystem:
    async def client(**options: Any) -> aiohttp.ClientSession:
        options.pop("loop", None)
        return aiohttp.ClientSession(connector=_Connector(limits), timeout=_TIMEOUT, **options)

    return HTTPFileSystem(get_client=client, skip_instance_cache=True)


class _Connector(aiohttp.TCPConnector):
    """Connects where it may. Each hop of a redirect comes here."""

    def __init__(self, limits: InputsConfig) -> None:
        super().__init__(resolver=_Resolver(limits.private_networks))
        self._limits = limits

    async def connect(self, req: Any, *args: Any, **options: Any) -> Any:
        """As in the base class, which asks no resolver for a host that is an address. Raises
        AddressRefusedError."""
        if req.url.scheme not in self._limits.schemes:
            raise AddressRefusedError(f"it leads to {req.url.scheme}://, which inputs.schemes does not allow")
        address = literal_address(req.url.host or "")
        if address is not None and (reason := refusal(address, self._limits.private_networks)):
            raise AddressRefusedError(reason)
        return await super().connect(req, *args, **options)


class _Resolver(AbstractResolver):
    """The system's resolver, without the addresses to which nobody may connect."""

    def __init__(self, allowed: tuple[Network, ...]) -> None:
        self._allowed = allowed
        self._inner: ThreadedResolver | None = None

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises AddressRefusedError where ``host`` has no other address."""
        self._inner = self._inner or ThreadedResolver()
        found = await self._inner.resolve(host, port, family)
        reasons = {
            entry["host"]: refusal(ipaddress.ip_address(entry["host"].partition("%")[0]), self._allowed)
            for entry in found
        }
        public = [entry for entry in found if reasons[entry["host"]] is None]
        if found and not public:
            raise AddressRefusedError(f"{host} is {next(filter(None, reasons.values()))}")
        return public

    async def close(self) -> None:
        """Nothing is held open."""
