"""Finds the files of git that say what is ignored, without running git.

An absent ignore file has no rules. If one cannot be read (EACCES, EIO, or larger than any real one), its rules are
unknown, and an OSError says so. There is one exception: the user's files outside of the tree may be out of reach, for
example if the program runs under another account than the one that HOME belongs to. git ignores them in that case, and
so does this module.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Container, Iterator, Mapping

from reposyncd.tree.directory import OPEN_FILE, read_regular

_LONGEST_BYTES = 8 << 20
"""Largest configuration or ignore file: some hundred times the size of real ones. Compiling it takes a second."""

_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ENAMETOOLONG}
"""Errors that mean that there is no such file, or that it is a socket, or a link that is not followed."""

_BUSY = ("index.lock", "rebase-merge", "rebase-apply", "MERGE_HEAD")
"""Entries of a git directory that exist while the work tree is about to change again (gitrepository-layout(5))."""

_OUT_OF_REACH = {errno.EACCES, errno.EPERM}


def read_small(path: str, *, follow: bool = True, dir_fd: int | None = None) -> bytes | None:
    """The content of an ignore or configuration file; None if it does not exist, or is not a regular file.

    With `follow`, the last component may be a link: git follows it for files outside of the work tree. Raises OSError,
    with the name of the file, if it exists and cannot be read.
    """
    try:
        fd = os.open(path, OPEN_FILE & ~os.O_NOFOLLOW if follow else OPEN_FILE, dir_fd=dir_fd)
        try:
            return read_regular(fd, _LONGEST_BYTES)
        finally:
            os.close(fd)
    except ValueError:  # the path contains a NUL: it comes from a .git file that somebody has written
        return None
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        error.filename = path
        raise


def is_repository(top: str) -> bool:
    """Whether the directory is the top of a work tree, and does not just contain something named `.git`.

    A `.git` file that points elsewhere counts even if its target does not exist: the repository may be unmounted.
    """
    git = os.path.join(top, ".git")
    if not os.path.isdir(git):
        return (_of_the_user(git) or b"").startswith(b"gitdir:")
    common = common_dir(top) or git
    return os.path.lexists(os.path.join(git, "HEAD")) and all(
        os.path.isdir(os.path.join(common, name)) for name in ("objects", "refs")
    )


def work_tree_top(path: str) -> str | None:
    """The nearest repository at or above `path`, on the same file system; None if there is none."""
    try:
        device = os.stat(path).st_dev
        while not is_repository(path):
            parent = os.path.dirname(path)
            if parent == path or os.stat(parent).st_dev != device:
                return None
            path = parent
    except FileNotFoundError:
        return None
    return path


def common_dir(top: str) -> str | None:
    """The directory of `info/exclude` and `config`: `.git`, or the one that a worktree or submodule names."""
    git = own_dir(top)
    if git is None:
        return None
    common = read_small(os.path.join(git, "commondir"))
    return os.path.join(git, os.fsdecode(common.strip())) if common else git


def own_dir(top: str) -> str | None:
    """The directory that contains git's index of this work tree, and the state of operations such as a rebase."""
    git = os.path.join(top, ".git")
    if os.path.isdir(git):
        return git
    pointer = (read_small(git) or b"").partition(b"\n")[0]
    if not pointer.startswith(b"gitdir:"):
        return None
    return os.path.join(top, os.fsdecode(pointer.removeprefix(b"gitdir:").strip()))


def repository_of(top: str) -> str | None:
    """The repository of the work tree at `top`, named by the real path of its common directory.

    None if there is none, or if it is bare: a bare repository may contain its own worktrees. Raises OSError if that
    cannot be read.
    """
    own, common = own_dir(top), common_dir(top)
    if own is None or common is None or (own == common and _is_bare(common)):
        return None
    try:
        return os.path.realpath(common)
    except ValueError:  # see read_small
        return None


def is_worktree_of(top: str, repositories: Container[str]) -> bool:
    """Whether `top` is a linked work tree (git-worktree(1)) of one of the repositories, named as by `repository_of`.

    Submodules and clones are not: each has a repository of its own. Raises OSError as `repository_of` does.
    """
    return own_dir(top) != common_dir(top) and repository_of(top) in repositories


def _is_bare(git: str) -> bool:
    # git moves the setting to the second file when a worktree gets a configuration of its own (git-worktree(1)).
    files = [read_small(os.path.join(git, name)) for name in ("config", "config.worktree")]
    values = [value for content in files for value in _values(content or b"", b"core", b"bare")]
    return bool(values) and values[-1].lower() in (b"true", b"yes", b"on", b"1")


def is_busy(top: str) -> bool:
    """Whether git is changing the work tree now, or is in the middle of a rebase or a merge."""
    try:
        git = own_dir(top)
    except OSError:
        return False
    return git is not None and any(os.path.lexists(os.path.join(git, name)) for name in _BUSY)


def exclude_contents(top: str | None, environ: Mapping[str, str]) -> list[bytes]:
    """The contents of the ignore files for a whole work tree, weakest first: the user's, then info/exclude.

    Raises OSError, with the name of the file, if one of the work tree exists and cannot be read.
    """
    git = common_dir(top) if top else None
    file = _excludes_file(top, git, environ)
    found = [_of_the_user(file) or b"" if file else b""]
    if git:
        found.append(read_small(os.path.join(git, "info", "exclude")) or b"")
    return found


def _of_the_user(path: str) -> bytes | None:
    try:
        return read_small(path)
    except OSError as error:
        if error.errno in _OUT_OF_REACH:
            return None
        raise


def _excludes_file(top: str | None, git: str | None, environ: Mapping[str, str]) -> str | None:
    """The path of the user's ignore file: core.excludesFile as the last configuration file sets it, else git's default.

    None if there is no home directory to find it in.
    """
    home = environ.get("HOME")
    config = environ.get("XDG_CONFIG_HOME") or (os.path.join(home, ".config") if home else None)
    files = [] if environ.get("GIT_CONFIG_NOSYSTEM") else ["/etc/gitconfig"]
    if "GIT_CONFIG_GLOBAL" in environ:
        files.append(environ["GIT_CONFIG_GLOBAL"])
    else:
        files += [os.path.join(config, "git", "config")] if config else []
        files += [os.path.join(home, ".gitconfig")] if home else []
    contents = [_of_the_user(file) for file in files]
    if git:
        contents.append(read_small(os.path.join(git, "config")))
    chosen = os.path.join(config, "git", "ignore") if config else None
    for content in contents:
        for value in _values(content or b"", b"core", b"excludesfile"):
            chosen = _expanded(os.fsdecode(value), top, home)
    return chosen


def _expanded(path: str, top: str | None, home: str | None) -> str | None:
    if not path:
        return None
    if path.startswith("~/"):
        return os.path.join(home, path[2:]) if home else None
    # git runs at the top of the work tree, so relative paths are relative to that.
    return os.path.join(top or "/", os.path.expanduser(path))


def _values(config: bytes, section: bytes, key: bytes) -> Iterator[bytes]:
    """All values of `section.key` in a configuration file (git-config(1)). Includes are not followed."""
    here = False
    lines = iter(config.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").split(b"\n"))
    for line in lines:
        line = line.strip()
        if line.startswith(b"["):
            header, _, line = line[1:].partition(b"]")
            here = header.strip().lower() == section
            line = line.strip()
        if line.startswith((b"#", b";")):
            continue
        while line.endswith(b"\\"):
            line = line[:-1] + next(lines, b"")
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
