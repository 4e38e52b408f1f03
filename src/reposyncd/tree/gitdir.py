"""Where git keeps what concerns ignoring, found without running git."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

_LONGEST_BYTES = 1 << 20
"""Of a configuration or ignore file that is read: the largest real ones are a hundredth of that."""


def read_small(path: str) -> bytes | None:
    """The file's content; None if it is absent, unreadable, or no regular file of reasonable size."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    return read_small_fd(fd)


def read_small_fd(fd: int) -> bytes | None:
    """As `read_small`, of an open descriptor, which is closed."""
    import stat

    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _LONGEST_BYTES:
            return None
        return os.read(fd, _LONGEST_BYTES)
    except OSError:
        return None
    finally:
        os.close(fd)


def work_tree_top(path: str) -> str | None:
    """The nearest directory at or above `path` that has a `.git`; None outside of git."""
    while True:
        if os.path.lexists(os.path.join(path, ".git")):
            return path
        parent = os.path.dirname(path)
        if parent == path:
            return None
        path = parent


def common_dir(top: str) -> str | None:
    """The directory that `info/exclude` and `config` are in: `.git`, or where a worktree or submodule says."""
    git = os.path.join(top, ".git")
    if not os.path.isdir(git):
        pointer = (read_small(git) or b"").partition(b"\n")[0]
        if not pointer.startswith(b"gitdir:"):
            return None
        git = os.path.join(top, os.fsdecode(pointer.removeprefix(b"gitdir:").strip()))
    common = read_small(os.path.join(git, "commondir"))
    return os.path.join(git, os.fsdecode(common.strip())) if common else git


def exclude_contents(top: str | None, environ: Mapping[str, str]) -> list[bytes]:
    """The ignore files that apply to a whole work tree, weakest first: the user's, then info/exclude."""
    git = common_dir(top) if top else None
    found = [read_small(_excludes_file(git, environ)) or b""]
    if git:
        found.append(read_small(os.path.join(git, "info", "exclude")) or b"")
    return found


def _excludes_file(git: str | None, environ: Mapping[str, str]) -> str:
    """core.excludesFile, of the last configuration file that sets it; else git's default."""
    home = environ.get("HOME", "")
    xdg = os.path.join(environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config"), "git")
    files = [] if environ.get("GIT_CONFIG_NOSYSTEM") else ["/etc/gitconfig"]
    if "GIT_CONFIG_GLOBAL" in environ:
        files.append(environ["GIT_CONFIG_GLOBAL"])
    else:
        files += [os.path.join(xdg, "config"), os.path.join(home, ".gitconfig")]
    if git:
        files.append(os.path.join(git, "config"))
    chosen = os.path.join(xdg, "ignore")
    for file in files:
        for value in _values(read_small(file) or b"", b"core", b"excludesfile"):
            path = os.fsdecode(value)
            chosen = os.path.join(home, path[2:]) if path.startswith("~/") else os.path.expanduser(path)
    return chosen


def _values(config: bytes, section: bytes, key: bytes) -> Iterator[bytes]:
    """Every value of `section.key`; the format is that of git-config(1), without includes."""
    here = False
    for line in config.replace(b"\\\n", b"").splitlines():
        line = line.strip()
        if line.startswith(b"["):
            header, _, line = line[1:].partition(b"]")
            here = header.strip().lower() == section
            line = line.strip()
        name, equals, value = line.partition(b"=")
        if here and equals and name.strip().lower() == key:
            yield _unquoted(value.strip())


def _unquoted(value: bytes) -> bytes:
    out, quoted, i = bytearray(), False, 0
    while i < len(value):
        byte = value[i : i + 1]
        if byte == b"\\" and i + 1 < len(value):
            i += 1
            out += {b"n": b"\n", b"t": b"\t"}.get(value[i : i + 1], value[i : i + 1])
        elif byte == b'"':
            quoted = not quoted
        elif byte in b"#;" and not quoted:
            break
        else:
            out += byte
        i += 1
    return bytes(out) if quoted else bytes(out).rstrip()
