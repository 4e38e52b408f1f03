"""Decides which requests over TCP are answered.

A web page can make the browser of its reader send requests to any address. Three things protect against that: the
token; the Host header, which must name this machine (against DNS rebinding); and a request with an Origin header is
always refused.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import secrets
import stat
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import NamedTuple

from reposyncd.config import ApiConfig
from reposyncd.config.places import TOKEN
from reposyncd.errors import ReposyncError

_TOKEN_BYTES = 32


class Refusal(NamedTuple):
    """Why a request is not answered."""

    status: int
    code: str
    message: str


class AccessPolicy(NamedTuple):
    """The requirements for a request over TCP."""

    token: str
    hosts: frozenset[str]
    """names that the Host header may have, in lower case, besides those of the loopback device"""

    def refusal(self, header: Callable[[str], str | None]) -> Refusal | None:
        """Why a request with these headers is refused; None if it is accepted."""
        if header("origin") is not None:
            return Refusal(403, "forbidden", "requests from web pages are refused")
        if not is_local(header("host") or "", self.hosts):
            return Refusal(403, "forbidden", "the Host header does not name the loopback device; see api.hosts")
        scheme, _, given = (header("authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self.token.encode()):
            return Refusal(401, "unauthorized", f"Authorization: Bearer TOKEN is required; the token is in {TOKEN}")
        return None


def is_local(host: str, hosts: Collection[str]) -> bool:
    """Whether a Host header, with or without a port, names the loopback device or one of `hosts`."""
    name = host.strip().lower()
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    elif name.count(":") == 1:
        name = name.partition(":")[0]
    if name in hosts or name == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(name).is_loopback
    return False


def access_policy(config: ApiConfig, state_dir: str) -> AccessPolicy:
    """The policy for this configuration. Raises ReposyncError if the token cannot be read or written, or if other users
    can read it."""
    return AccessPolicy(_token(os.path.join(state_dir, TOKEN)), frozenset(host.lower() for host in config.hosts))


def _token(path: str) -> str:
    """The token in this file; a new one if there is none. A new file appears complete or not at all."""
    if os.path.lexists(path) and (known := _known(path)):
        return known
    token, new = secrets.token_urlsafe(_TOKEN_BYTES), f"{path}.{os.getpid()}"
    try:
        with suppress(FileNotFoundError):
            os.unlink(new)  # a leftover of a process that was killed
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(token + "\n")
            file.flush()
            os.fsync(descriptor)
        os.rename(new, path)
    except OSError as error:
        raise ReposyncError(f"{path} cannot be written: {error.strerror}") from error
    return token


def _known(path: str) -> str:
    """The token in this file; "" if a crash has emptied the file. Raises ReposyncError if other users can read it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise ReposyncError(f"{path} cannot be read: {error.strerror}") from error
    with open(descriptor, encoding="utf-8", errors="replace") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise ReposyncError(f"other users may know the token in {path}; delete the file to get a new one")
        return file.read().strip()
