"""Takes secrets out of text that is kept or shown: URLs lose their user, their query and their fragment.

Signed links and tokens stand there. What is left names the file well enough for a person.
"""

import re

_URL = re.compile(r"(?<![A-Za-z0-9+.-])([A-Za-z][A-Za-z0-9+.-]{0,31}://)([^\s/?#]*@)?([^\s?#]*)([?#]\S*)?")

_WHOLE = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]{0,31}://")


def redacted(text: str) -> str:
    """``text`` with ``...`` for what may be secret in its URLs; what begins as a URL is one to its end."""
    if "://" not in text:
        return text
    if _WHOLE.match(text):
        head, mark, _ = text.partition("?") if "?" in text else text.partition("#")
        return _URL.sub(_plain, head) + (f"{mark}..." if mark else "")
    return _URL.sub(_plain, text)


def _plain(match: re.Match[str]) -> str:
    scheme, user, rest, query = match.groups()
    return f"{scheme}{'...@' if user else ''}{rest}{f'{query[0]}...' if query else ''}"
