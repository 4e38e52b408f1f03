"""The API over TCP, for those who asked for it: where it listens, and who is heard.

A web page can have its reader's browser ask any address: hence the token, the Host header that has to name this machine
(DNS rebinding), and no answer to whatever says that it comes from a page.
"""

from __future__ import annotations

import errno
import hmac
import ipaddress
import os
import secrets
import socket
import stat
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import NamedTuple

from reposyncd.config import ApiConfig, address_of
from reposyncd.config.places import TOKEN
from reposyncd.errors import BusyError, ReposyncError

_TOKEN_BYTES = 32
_BACKLOG = 128


class Refusal(NamedTuple):
    """Why a request is not heard."""

    status: int
    code: str
    message: str


class AccessPolicy(NamedTuple):
    """What a request over TCP has to bring."""

    token: str
    hosts: frozenset[str]
    """names in the Host header beside those of the loopback device, in lower case"""

    def refusal(self, header: Callable[[str], str | None]) -> Refusal | None:
        """Why a request with these headers is not heard; None if it is."""
        if header("origin") is not None:
            return Refusal(403, "forbidden", "web pages are not answered")
        if not is_local(header("host") or "", self.hosts):
            return Refusal(403, "forbidden", "the Host header names no address of the loopback device; see api.hosts")
        scheme, _, given = (header("authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self.token.encode()):
            return Refusal(401, "unauthorized", f"Authorization: Bearer TOKEN is needed; the token is in {TOKEN}")
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
    """What is asked of requests. Raises ReposyncError if the token cannot be had, or others know it."""
    return AccessPolicy(_token(os.path.join(state_dir, TOKEN)), frozenset(host.lower() for host in config.hosts))


def listen(address: str) -> socket.socket:
    """A socket that listens at `api.listen`. Raises BusyError if another program does, and ReposyncError."""
    host, port = address_of(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
        listening.setblocking(False)
        return listening
    except OSError as error:
        listening.close()
        kind = BusyError if error.errno == errno.EADDRINUSE else ReposyncError
        raise kind(f"api.listen is {address}: {error.strerror}; choose another port") from error


def _token(path: str) -> str:
    """The token; a new one if there is none. It is there as a whole, or not at all."""
    if os.path.lexists(path) and (known := _known(path)):
        return known
    token, new = secrets.token_urlsafe(_TOKEN_BYTES), f"{path}.{os.getpid()}"
    try:
        with suppress(FileNotFoundError):
            os.unlink(new)  # of one that was killed
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
    """The token in this file; "" if the disk lost it. Raises ReposyncError unless it is this user's alone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise ReposyncError(f"{path} cannot be read: {error.strerror}") from error
    with open(descriptor, encoding="utf-8", errors="replace") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise ReposyncError(f"{path} is not this user's alone; delete it, and a new token is made")
        return file.read().strip()
