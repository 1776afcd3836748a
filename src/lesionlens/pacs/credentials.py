"""Passwords come from the environment or the system's keyring; they are never written or logged."""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit

from lesionlens.base.errors import UnusableInputError

USER_VARIABLE, PASSWORD_VARIABLE = "LESIONLENS_PACS_USER", "LESIONLENS_PACS_PASSWORD"
SERVICE = "lesionlens-pacs"


def login(address: str, user: str | None) -> tuple[str, str] | None:
    """Return user and password for an address, or None where no user is named.

    Parameters
    ----------
    address : str
        Of the archive.
    user : str or None
        As given by the user; else from the environment.

    Raises
    ------
    UnusableInputError
        A user without a password, or a password that would travel unencrypted.
    """
    name = user or os.environ.get(USER_VARIABLE)
    if not name:
        return None
    password = os.environ.get(PASSWORD_VARIABLE) or _from_keyring(address, name)
    if not password:
        raise UnusableInputError(
            found=f"no password for the user {name!r}",
            expected=f"{PASSWORD_VARIABLE} in the environment, or an entry in the keyring",
            next_step=f"Store it with: keyring set {SERVICE} {name}@{urlsplit(address).hostname}",
        )
    if urlsplit(address).scheme != "https" and not _is_loopback(address):
        raise UnusableInputError(
            found="a password for an address without encryption (http)",
            expected="https",
            next_step="Use the archive's https address",
        )
    return name, password


def _from_keyring(address: str, user: str) -> str | None:
    try:
        import keyring  # noqa: PLC0415  the extra may be absent
        from keyring.errors import KeyringError  # noqa: PLC0415
    except ImportError:
        return None
    try:
        found: str | None = keyring.get_password(SERVICE, f"{user}@{urlsplit(address).hostname}")
    except KeyringError:
        return None
    return found


def _is_loopback(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
