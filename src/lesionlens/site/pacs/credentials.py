"""Passwords from the environment or the system's keyring; never written or logged."""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit

from lesionlens.base.errors import UnusableInputError

USER_VARIABLE, PASSWORD_VARIABLE = "LESIONLENS_PACS_USER", "LESIONLENS_PACS_PASSWORD"
SERVICE = "lesionlens-pacs"


def login(address: str, user: str) -> tuple[str, str] | None:
    """Return user and password for an address; None if no user is named.

    Parameters
    ----------
    user : str
        User name; if empty, that of the environment.

    Raises
    ------
    UnusableInputError
        The user has no password, or the password would be sent unencrypted.
    """
    name = user or os.environ.get(USER_VARIABLE)
    if not name:
        return None
    if urlsplit(address).scheme != "https" and not is_loopback(urlsplit(address).hostname or ""):
        raise UnusableInputError(
            found="a password for an address without encryption (http)",
            expected="https",
            next_step="Use the archive's https address",
        )
    password, keyring_problem = os.environ.get(PASSWORD_VARIABLE), ""
    if not password:
        password, keyring_problem = _from_keyring(address, name)
    if not password:
        raise UnusableInputError(
            found=f"no password for the user {name!r}{keyring_problem}",
            expected=f"{PASSWORD_VARIABLE} in the environment, or an entry in the keyring",
            next_step=f"Store it with: keyring set {SERVICE} {_keyring_entry(address, name)}",
        )
    return name, password


def keep(address: str, user: str, password: str) -> None:
    """Store a password in the system's keyring.

    Raises
    ------
    UnusableInputError
        This machine has no keyring, or it cannot be opened.
    """
    import keyring
    from keyring.errors import KeyringError

    try:
        keyring.set_password(SERVICE, _keyring_entry(address, user), password)
    except KeyringError as error:
        raise UnusableInputError(
            found=f"a keyring that does not store the password ({type(error).__name__})",
            expected="the system's keyring, unlocked",
            next_step=f"Unlock it, or set {PASSWORD_VARIABLE} before starting",
        ) from None


def is_loopback(host: str) -> bool:
    """Return whether a host name means this machine.

    Examples
    --------
    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("example.org")
    (True, True, False)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _from_keyring(address: str, user: str) -> tuple[str | None, str]:
    """Return the password, and why there is none if the keyring failed."""
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        return None, ", and the package keyring is not installed"
    try:
        return keyring.get_password(SERVICE, _keyring_entry(address, user)), ""
    except KeyringError as error:
        return None, f"; the keyring cannot be opened ({type(error).__name__})"


def _keyring_entry(address: str, user: str) -> str:
    return f"{user}@{urlsplit(address).hostname}"
