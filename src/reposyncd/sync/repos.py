"""Finds a repository by its path or name, or adds a new one."""

from __future__ import annotations

import os

from reposyncd.errors import NotFoundError, OverlapError, RefusedRootError, RootMissingError, UsageError
from reposyncd.model import RootIdentity, signed64
from reposyncd.paths import contains
from reposyncd.store.manifest.catalog import Catalog, Repo
from reposyncd.text import is_utf8
from reposyncd.tree.offlimits import OffLimits


def root_of(path: str, state_dir: str) -> str:
    """The directory as an absolute path without symbolic links.

    Raises RootMissingError if it is not a directory, UsageError if its path is not UTF-8, and RefusedRootError if it
    must not be indexed: `state_dir`, and everything else that is off limits.
    """
    root = os.path.realpath(path)
    if not os.path.isdir(root):
        what = "is not a directory" if os.path.lexists(path) else "does not exist"
        raise RootMissingError(f"{path} {what}")
    if not is_utf8(root):
        raise UsageError(f"{root!r}: the path is not valid UTF-8, so no record could name it")
    if why := OffLimits.of(state_dir).refusal(root):
        raise RefusedRootError(f"not indexed: {why}")
    return root


def refusal(repo: Repo, off_limits: OffLimits) -> str | None:
    """Why a repository on record is not indexed any more, and what to do about it; None if it is indexed."""
    why = off_limits.refusal(repo.root)
    return why and f"{why}. Remove this one with: reposyncd repo remove {repo.name}"


def find(catalog: Catalog, root: str, name: str | None) -> Repo | None:
    """The repository with this root. Raises UsageError if `name` is given, and the repository has another name."""
    for repo in catalog.repos():
        if repo.root == root:
            if name not in (None, repo.name):
                raise UsageError(f'{root} is already indexed, under the name "{repo.name}"')
            return repo
    return None


def add(catalog: Catalog, root: str, name: str | None) -> Repo:
    """Adds a repository with this root, or moves the repository that was moved there.

    Raises UsageError if the name is taken or not allowed, and OverlapError.
    """
    before = moved(catalog, root)
    if before and name in (None, before.name):
        return catalog.move(before, root)
    name = name if name is not None else os.path.basename(root) or "root"
    if not name or not name.isprintable() or "/" in name:
        raise UsageError(f"{name!r} cannot be a repository's name; choose another one with --name")
    _refuse_overlap(catalog, root)
    return catalog.add_repo(name, root, identity_of(root))


def identity_of(root: str) -> RootIdentity:
    """The identity of the directory. Raises OSError if there is none."""
    found = os.stat(root)
    return RootIdentity(signed64(found.st_dev), signed64(found.st_ino))


def moved(catalog: Catalog, root: str) -> Repo | None:
    """The repository on record whose directory has been moved here; None if there is none."""
    identity = identity_of(root)
    for repo in catalog.repos():
        if repo.identity == identity and not os.path.lexists(repo.root):
            return repo
    return None


def _refuse_overlap(catalog: Catalog, root: str) -> None:
    """Raises OverlapError if the root is inside another repository on record, or contains one."""
    for other in catalog.repos():
        if other.root == root:
            continue
        if contains(other.root, root):
            if not catalog.leaves_out(other, os.path.relpath(root, other.root)):
                raise OverlapError(
                    f'{root} is inside the repository "{other.name}" ({other.root}), which is indexed with everything '
                    f"in it. Make that one ignore it, or remove that one first: reposyncd repo remove {other.name}"
                )
        elif contains(root, other.root):
            raise OverlapError(
                f'{root} contains the repository "{other.name}" ({other.root}), which has its own index. Index the '
                f"other directories one by one, or remove that one first: reposyncd repo remove {other.name}"
            )


def named(catalog: Catalog, repo: str | None) -> list[Repo]:
    """The repository with this name or path; all repositories for None. Raises NotFoundError if there is none."""
    known = catalog.repos()
    found = [each for each in known if repo in (None, each.name) or os.path.realpath(str(repo)) == each.root]
    if not found:
        names = ", ".join(each.name for each in known)
        raise NotFoundError(
            f'there is no repository "{repo}"; known: {names}'
            if names
            else "nothing is indexed yet; index a directory with: reposyncd sync PATH"
        )
    return found
