"""What is ignored is what git ignores; the oracle is `git check-ignore`."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from reposyncd.tree.ignore import IgnoreRules
from reposyncd.tree.scan import scan

NAMES = [b"a", b"b", b"foo", b"bar", b"a.o", b"b.txt", b" x", b"x ", b"#c", b"!d", b"A", b"a-b", b"[x]", b"\\q", b"t\t"]
NAMES += ["é".encode(), b"]", b"*", b"a/b", b"foo/a", b"foo/bar/a.o", b"b/foo", b"a/a/a", b"b/b.txt", b"bar/x "]

PIECES = [
    "a",
    "b",
    "foo",
    "bar",
    "o",
    "txt",
    ".",
    "x",
    "*",
    "**",
    "?",
    "/",
    "/",
    "[",
    "]",
    "[a-c]",
    "[!a]",
    "[^b]",
    "!",
]
PIECES += [
    "\\",
    " ",
    "\\ ",
    "#",
    "-",
    "[[:alpha:]]",
    "[[:digit:][:space:]]",
    "[]a]",
    "[a-]",
    "é",
    "\t",
    "[\\]]",
    "**/",
    "/**",
]
LINES = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)
PLAIN = st.sampled_from(
    [
        "*.o",
        "/foo",
        "foo/",
        "!foo",
        "foo/*",
        "!foo/bar/",
        "**/a",
        "a/**",
        "b/**/b.txt",
        "*",
        "!*/",
        "/*",
        "!/foo/",
        "bar/x\\ ",
    ]
)
ENDINGS = st.sampled_from(["\n", "\n", "\n", "\r\n", " \n", "\t\n"])
FILES = st.lists(st.tuples(st.one_of(LINES, PLAIN), ENDINGS).map("".join), max_size=5).map("".join)
PLACES = ["", "foo/", "foo/bar/", "a/", "b/"]


@contextmanager
def repository(files: dict[str, str]) -> Iterator[tuple[Path, dict[str, str]]]:
    """A repository that has every name as a file where it can, with these ignore files; and git's environment."""
    with tempfile.TemporaryDirectory() as place:
        home, root = Path(place) / "home", Path(place) / "root"
        (home / ".config/git").mkdir(parents=True)
        root.mkdir()
        environ = {"HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1", "PATH": os.environ["PATH"]}
        subprocess.run(["git", "init", "-q"], cwd=root, env=environ, check=True)
        for name in sorted(NAMES, key=len, reverse=True):
            path = os.path.join(os.fsencode(root), name)
            if not os.path.exists(path):
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "wb"):
                    pass
        for place_of_rules, content in files.items():
            target = home / ".config/git/ignore" if place_of_rules == "global" else root / place_of_rules
            target.write_text(content, newline="")
        yield root, environ


def kept_by_git(root: Path, environ: dict[str, str]) -> set[str]:
    out = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        env=environ,
        check=True,
        capture_output=True,
    )
    return {os.fsdecode(path) for path in out.stdout.split(b"\0") if path}


def kept_by_us(root: Path, environ: dict[str, str]) -> set[str]:
    rules = IgnoreRules.for_root(str(root), (), environ)
    snapshot = scan(str(root), rules, {}, now_ns=0, max_file_size=1 << 20)
    return {path for directory in snapshot.changed for path, _ in directory.files}


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    ignores=st.dictionaries(st.sampled_from(PLACES), FILES, max_size=3),
    exclude=st.one_of(st.just(""), FILES),
    everywhere=st.one_of(st.just(""), FILES),
)
@example(ignores={"": "foo\\\n"}, exclude="", everywhere="")
@example(ignores={"": "\ufeffa.o\n"}, exclude="", everywhere="")
@example(ignores={"": "x \\ \nx\\ \n"}, exclude="", everywhere="")
@example(ignores={"": "b/b**\n"}, exclude="", everywhere="")
@example(ignores={"": "[a-\\c]*\n[[:nope:]]\n"}, exclude="", everywhere="")
@example(ignores={"": "/*\n!/foo/\n", "foo/": "*\n!bar/\n"}, exclude="*.o\n", everywhere="!*.o\n")
@example(ignores={"": "a*[/]b\nfoo[!x]a\n"}, exclude="", everywhere="")
@example(ignores={"": "foo//\n//foo\n/\n!\n"}, exclude="", everywhere="")
def test_the_files_we_keep_are_those_that_git_keeps(ignores: dict[str, str], exclude: str, everywhere: str) -> None:
    files = {place + ".gitignore": content for place, content in ignores.items()}
    with repository(files | {".git/info/exclude": exclude, "global": everywhere}) as (root, environ):
        assert kept_by_us(root, environ) == kept_by_git(root, environ)


@settings(max_examples=300, deadline=None)
@given(content=st.binary(max_size=60))
def test_no_ignore_file_makes_it_fail(content: bytes) -> None:
    rules = IgnoreRules.for_root("/nonexistent", (), {}).enter("", content, content)
    for path in ("a", "a/b", "é/ x", "new\nline"):
        assert rules.ignores(path, False) in (True, False)
        assert rules.ignores(path, True) in (True, False)
