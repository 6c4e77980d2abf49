"""Which network addresses a file that a row names may lie at: public ones."""

import ipaddress
from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class AddressRefusedError(OSError):
    """A connection would have gone to an address that is not public."""


def literal_address(host: str) -> Address | None:
    """The address that ``host`` is; None where it is a name."""
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None


def refusal(address: Address, allowed: Iterable[Network] = ()) -> str | None:
    """Why no file is fetched from ``address``; None where one may be: it is public, or within ``allowed``."""
    inner: Address = address
    if isinstance(address, ipaddress.IPv6Address):
        # Addresses of the old kind within those of the new: mapped, 6to4, Teredo and NAT64 (RFC 6052).
        nat64 = address in ipaddress.ip_network("64:ff9b::/96")
        inner = (
            address.ipv4_mapped
            or address.sixtofour
            or (address.teredo[1] if address.teredo else None)
            or (ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if nat64 else address)
        )
    if (inner.is_global and not inner.is_multicast) or any(inner in network for network in allowed):
        return None
    kind = "loopback" if inner.is_loopback else "link-local" if inner.is_link_local else "private or reserved"
    return f"{address} is {kind} (inputs.private_networks of the config may allow it)"


def refused(error: BaseException | None) -> AddressRefusedError | None:
    """The refusal that ``error`` came of, if it did."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, AddressRefusedError):
            return error
        seen.add(id(error))
        inner = getattr(error, "os_error", None)
        if isinstance(inner, AddressRefusedError):
            return inner
        error = error.__cause__ or error.__context__
    return None
