"""Address and credentials of a server."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from lesionlens.base.errors import ReadError, UnusableInputError
from lesionlens.base.files.bounded_read import MIB, read_text
from lesionlens.base.hosts import is_loopback

KEY_VARIABLE = "LESIONLENS_API_KEY"
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Address of a `lesionlens serve` server, and connection options."""

    url: str
    """Such as https://gpu.hospital.example:8000."""
    api_key: str | None = field(default=None, repr=False)
    """API key; None for the one in LESIONLENS_API_KEY, if any."""
    ca: Path | None = None
    """CA certificates to trust instead of the usual ones, PEM."""
    plain_http: bool = False
    """Whether unencrypted http to another machine is allowed."""
    patience_s: float = PATIENCE_S
    """How long to retry if the connection is lost or the server is full."""

    def __post_init__(self) -> None:
        host = _host(self.url)
        if host is None:
            raise UnusableInputError(  # without a password
                found=f"{self.url.rpartition('@')[2]!r:.100} as a server's address",
                expected="https://HOST:PORT, or http://127.0.0.1:PORT on this machine, without a "
                "user name",
                next_step="Write the address that `lesionlens serve` names when it starts",
                in_window="Write the address as whoever runs the server gave it",
            )
        plain = urlsplit(self.url).scheme == "http"
        if plain and not (self.plain_http or is_loopback(host)):
            raise UnusableInputError(
                found=f"http to {host}: scans would be sent unencrypted",
                expected="https, or http to this machine alone",
                next_step="Use https; or allow it with --plain-http on a private network",
                in_window="Use the server's https address",
            )
        if plain and self.ca is not None:
            raise UnusableInputError(
                found="a certificate authority for an address without TLS (http)",
                expected="https: without TLS it has no effect, and nothing is encrypted",
                next_step="Use the server's https address, or omit --server-ca",
                in_window="Use the server's https address, or leave the file of certificates empty",
            )
        object.__setattr__(self, "url", self.url.rstrip("/"))
        key = self.api_key or os.environ.get(KEY_VARIABLE, "").strip() or None
        if key is not None:
            where = f"for {self.name}" if self.api_key else f"in {KEY_VARIABLE}"
            _check_key(key, where, "a key")
        object.__setattr__(self, "api_key", key)

    @property
    def name(self) -> str:
        """Host and port, for display."""
        return urlsplit(self.url).netloc


def _host(url: str) -> str | None:
    """Return the host of a usable address; None for another one."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.port != 0 and "@" not in parts.netloc
        usable = usable and not (parts.query or parts.fragment)
    except ValueError:  # brackets or a port that no address has
        return None
    return parts.hostname if usable else None


def read_key(file: Path) -> str:
    """Return the first key of a file; blank lines and lines that begin with # are skipped.

    Raises
    ------
    UnusableInputError
        There is no key.
    """
    return read_keys(file)[0]


def read_keys(file: Path) -> tuple[str, ...]:
    """Return the keys in a file, one per line.

    Raises
    ------
    UnusableInputError
        The file cannot be read, contains no key, or one that is too short.
    """
    try:
        lines = [line.strip() for line in read_text(file, MIB).splitlines()]
    except (OSError, ValueError, ReadError):
        lines = []
    keys = tuple(line for line in lines if line and not line.startswith("#"))
    missing = "" if file.exists() else ", a file that does not exist"
    for key in keys or ("",):
        _check_key(key, f"in {file.name!r}{missing}", "a text file with one key per line, each")
    return keys


def _check_key(key: str, where: str, expected: str) -> None:
    """Refuse a key that no server accepts, or that a request cannot contain."""
    if len(key) < 16 or not key.isascii() or not key.isprintable() or " " in key:
        raise UnusableInputError(
            found=f"no usable key {where}",
            expected=f"{expected} of at least 16 letters and digits",
            next_step="Make one with: python -c 'import secrets; print(secrets.token_urlsafe())'",
            in_window="Ask whoever runs the server for the key",
        )
