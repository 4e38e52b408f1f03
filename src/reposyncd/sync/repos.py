"""Which repo is meant: by a path, by a name; and a new one."""

from __future__ import annotations

import os

from reposyncd.errors import NotFoundError, OverlapError, RefusedRootError, RootMissingError, UsageError
from reposyncd.model import RootIdentity, signed64
from reposyncd.store.manifest.catalog import Catalog, Repo
from reposyncd.text import is_utf8
from reposyncd.tree.offlimits import OffLimits


def root_of(path: str, state_dir: str) -> str:
    """The directory as an absolute path without symbolic links. Raises RootMissingError; UsageError; RefusedRootError
    for one that is never to be indexed: `state_dir`, and what else is off limits."""
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
    """Why a repo that is on record is not indexed any more, and what to do; None if it is indexed."""
    why = off_limits.refusal(repo.root)
    return why and f"{why}. Remove this one with: reposyncd repo remove {repo.name}"


def find(catalog: Catalog, root: str, name: str | None) -> Repo | None:
    """The repo of this root. Raises UsageError if it has another name than the one that was given."""
    for repo in catalog.repos():
        if repo.root == root:
            if name not in (None, repo.name):
                raise UsageError(f'{root} is indexed already, under the name "{repo.name}"')
            return repo
    return None


def add(catalog: Catalog, root: str, name: str | None) -> Repo:
    """A new repo of this root; or one that was moved there. Raises UsageError for a name that is taken or cannot be."""
    before = moved(catalog, root)
    if before and name in (None, before.name):
        return catalog.move(before, root)
    name = name if name is not None else os.path.basename(root) or "root"
    if not name or not name.isprintable() or "/" in name:
        raise UsageError(f"{name!r} cannot be a repository's name; choose another with --name")
    _refuse_overlap(catalog, root)
    return catalog.add_repo(name, root, identity_of(root))


def identity_of(root: str) -> RootIdentity:
    """Which directory it is. Raises OSError if there is none."""
    found = os.stat(root)
    return RootIdentity(signed64(found.st_dev), signed64(found.st_ino))


def moved(catalog: Catalog, root: str) -> Repo | None:
    """The repo whose tree this is, if it was somewhere else when it was last seen."""
    identity = identity_of(root)
    for repo in catalog.repos():
        if repo.identity == identity and not os.path.lexists(repo.root):
            return repo
    return None


def _refuse_overlap(catalog: Catalog, root: str) -> None:
    """Raises OverlapError if the root is a part of a repo that is indexed, or the other way round."""
    for other in catalog.repos():
        if root.startswith(os.path.join(other.root, "")):
            if not catalog.leaves_out(other, os.path.relpath(root, other.root)):
                raise OverlapError(
                    f'{root} lies in the repository "{other.name}" ({other.root}), which is indexed with everything '
                    f"in it. Let that one ignore it, or remove that one first: reposyncd repo remove {other.name}"
                )
        elif other.root.startswith(os.path.join(root, "")):
            raise OverlapError(
                f'{root} contains the repository "{other.name}" ({other.root}), which is indexed on its own. Index '
                f"what is in it one by one, or remove that one first: reposyncd repo remove {other.name}"
            )


def named(catalog: Catalog, repo: str | None) -> list[Repo]:
    """The repos meant by a name or a path; all for None. Raises NotFoundError if there is none."""
    known = catalog.repos()
    found = [each for each in known if repo in (None, each.name) or os.path.realpath(str(repo)) == each.root]
    if not found:
        names = ", ".join(each.name for each in known)
        raise NotFoundError(
            f'there is no repository "{repo}"; there is: {names}'
            if names
            else "nothing is indexed yet; index a directory with: reposyncd sync PATH"
        )
    return found
