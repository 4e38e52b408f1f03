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

NAMES = [
    *(b"a", b"b", b"A", b"1", b"aa", b"ab", b"a-b", b"a.o", b"b.txt", b".h", b"-", b"^", b":", b"_"),
    *(b" x", b"x ", b"x  ", b"t\t", b"x\r", b"#c", b"!d", b"[x]", b"]", b"a]", b"[", b"*", b"**", b"a*b", b"?"),
    *(b"\\", b"\\q", b"a\\", b"new\nline", b"\x7f", "é".encode(), b"\xe9", b"\xef\xbb\xbfz"),
    *(b"foo/a", b"foo/bar/a.o", b"foo/bar/b", b"foo/\\", b"bar/x ", b"dir/a", b"dir/dir/a", b"dir/b.txt"),
    *(b"bb/foo/b", b"d/x/y/z/w", b"d/xx", b"b c/x "),
]
"""Files, in each of the directories that the rules are tried in."""

PIECES = [
    *("a", "b", "foo", "bar", "dir", "d", "o", "txt", "x", "A", "é", "?é", ".", "-", "^", "$", "+", "(", "|", "{a,b}"),
    *("*", "*", "**", "***", "?", "/", "/", "/", "/", "!", "\\", "#", "[", "]", "[!", "[^", "[:", "[[:", "[\\"),
    *("[a-c]", "[!a]", "[^b]", "[]a]", "[a-]", "[!]]", "[!-a]", "[z-a]", "[--a]", "[a-c-e]", "[*-_]", "[a/b]", "[!/]"),
    *("[[a]", "[]-a]", "[\\]]", "[a-\\c]", "[[:alpha:]]", "[[:digit:][:space:]]", "[[:upper:]-a]", "[[:punct:]]"),
    *("[[:nope:]]", "[[:alpha:", "**/", "/**", "/**/", "**/**", "**a", "a**", "\\/", "\\*", "\\[", "\\\\", "\\ "),
    *(" ", " ", "\t", "\r", "\0", "\x0b", "\ufeff"),
]
LINES = st.lists(st.sampled_from(PIECES), max_size=7).map("".join)
PLAIN = st.sampled_from(
    [
        *(
            "*.o",
            "a.o",
            "/foo",
            "foo/",
            "foo",
            "foo/*",
            "/foo/*",
            "foo/**",
            "foo/**/",
            "foo/bar",
            "foo/bar/",
            "foo/bar/*",
        ),
        *("**/a", "a/**", "**/dir", "dir/*", "dir/dir/**", "d/**", "d/**/w", "d/**/*", "d/*/y", "d/x", "d/x/", "d/x/*"),
        *("bb/*", "bb/foo", "*", "*/", "**/", "**/*", "*/*", "*/**", "/*", "/**", "*/bar", "bar/x\\ "),
    ]
)
RULES = st.tuples(st.sampled_from(["", "", "!"]), st.one_of(LINES, PLAIN)).map("".join)
ENDINGS = st.sampled_from(["\n", "\n", "\n", "\r\n", " \n", "  \n", "\t\n"])
FILES = st.lists(st.tuples(RULES, ENDINGS).map("".join), max_size=5).map("".join)
PLACES = ["", "foo/", "foo/bar/", "dir/", "d/x/"]


@contextmanager
def repository(directories: int) -> Iterator[tuple[Path, dict[str, str]]]:
    """A repository with every name in each of the directories "0", "1", ...; and the environment for git."""
    with tempfile.TemporaryDirectory() as place:
        home, root = Path(place) / "home", Path(place) / "root"
        (home / ".config/git").mkdir(parents=True)
        root.mkdir()
        environ = {"HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1", "PATH": os.environ["PATH"]}
        subprocess.run(["git", "init", "-q"], cwd=root, env=environ, check=True)
        for directory in range(directories):
            for name in NAMES:
                path = os.path.join(os.fsencode(root), b"%d" % directory, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "wb"):
                    pass
        yield root, environ


def kept_by_git(root: Path, environ: dict[str, str]) -> set[str]:
    out = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        env=environ,
        check=True,
        capture_output=True,
    )
    return {path.decode() for path in out.stdout.split(b"\0") if path and is_utf8(path)}


def is_utf8(path: bytes) -> bool:
    try:
        path.decode()
    except UnicodeDecodeError:
        return False
    return True


def kept_by_us(root: Path, environ: dict[str, str]) -> set[str]:
    rules = IgnoreRules.for_root(str(root), (), environ)
    snapshot = scan(str(root), rules, {}, now_ns=0, max_file_size=1 << 20)
    return {path for directory in snapshot.changed for path, _ in directory.files}


TOGETHER = 30
"""Ignore files that one run of git is asked about, each in a directory of its own."""


def test_an_ignore_file_says_to_us_what_it_says_to_git() -> None:
    with repository(TOGETHER) as (root, environ):

        @settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
        @given(contents=st.lists(FILES, max_size=TOGETHER))
        @example(contents=["foo\\\n", "\ufeffa.o\n", "x \\ \nx\\ \n", "\\\\ \n", "b/b**\n", "[a-\\c]*\n[[:nope:]]\n"])
        @example(contents=["a*[/]b\nfoo[!x]a\n", "foo//\n//foo\n/\n!\n", "foo/*\n!foo/bar/\n", "*/*\n!d/x\n"])
        def agree(contents: list[str]) -> None:
            for directory in range(TOGETHER):
                content = contents[directory] if directory < len(contents) else "*\n"
                (root / f"{directory}/.gitignore").write_text(content, newline="")
            assert kept_by_us(root, environ) == kept_by_git(root, environ)

        agree()


def test_files_of_rules_override_each_other_as_in_git() -> None:
    with repository(1) as (root, environ):

        @settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
        @given(
            ignores=st.dictionaries(st.sampled_from(PLACES), FILES, max_size=3),
            above=st.one_of(st.just(""), FILES),
            exclude=st.one_of(st.just(""), FILES),
            everywhere=st.one_of(st.just(""), FILES),
        )
        @example(ignores={"": "/*\n!/foo/\n", "foo/": "*\n!bar/\n"}, above="", exclude="*.o\n", everywhere="!*.o\n")
        @example(ignores={"": "foo/*\n", "foo/": "!*/\n"}, above="", exclude="", everywhere="")
        def agree(ignores: dict[str, str], above: str, exclude: str, everywhere: str) -> None:
            for place in PLACES:
                (root / "0" / place / ".gitignore").unlink(missing_ok=True)
            for place, content in ignores.items():
                (root / "0" / place / ".gitignore").write_text(content, newline="")
            (root / ".gitignore").write_text(above, newline="")
            (root / ".git/info/exclude").write_text(exclude, newline="")
            Path(environ["HOME"], ".config/git/ignore").write_text(everywhere, newline="")
            assert kept_by_us(root, environ) == kept_by_git(root, environ)
            # A root that is ignored itself is another matter: whoever named it wants it.
            if subprocess.run(["git", "check-ignore", "-q", "0"], cwd=root, env=environ).returncode:
                assert kept_by_us(root / "0", environ) == kept_by_git(root / "0", environ)

        agree()


@settings(max_examples=300, deadline=None)
@given(content=st.binary(max_size=60))
def test_no_ignore_file_makes_it_fail(content: bytes) -> None:
    rules = IgnoreRules.for_root("/nonexistent", (), {}).enter("", content, content)
    for path in ("a", "a/b", "é/ x", "new\nline"):
        assert rules.ignores(path, False) in (True, False)
        assert rules.ignores(path, True) in (True, False)
