"""Recognises the language of a file: by its name, then its extension, then its `#!` line."""

from __future__ import annotations

_EXTENSIONS = {
    "python": "py pyi pyw pyx pxd",
    "javascript": "js jsx mjs cjs",
    "typescript": "ts mts cts",
    "tsx": "tsx",
    "go": "go",
    "rust": "rs",
    "java": "java",
    "c": "c h",
    "cpp": "cc cpp cxx c++ hh hpp hxx h++ ipp inl tpp cu cuh",
    "c-sharp": "cs csx",
    "ruby": "rb rake gemspec ru podspec",
    "php": "php phtml php5 php7 phps",
    "bash": "sh bash zsh ksh bats ebuild",
    "html": "html htm xhtml",
    "css": "css",
    "json": "json jsonc json5 geojson webmanifest jsonl ndjson",
    "yaml": "yaml yml",
    "toml": "toml",
    "kotlin": "kt kts",
    "swift": "swift",
    "scala": "scala sc sbt",
    "lua": "lua",
    "sql": "sql",
    "elixir": "ex exs",
    "haskell": "hs",
    "markdown": "md markdown mdx mdown mkd",
    "rst": "rst",
    "asciidoc": "adoc asciidoc asc",
}
"""Language to its file extensions, without the dot, in lower case."""

_FILE_NAMES = {
    "python": "SConstruct SConscript wscript",
    "ruby": "Gemfile Rakefile Vagrantfile Podfile Brewfile Guardfile",
    "bash": ".bashrc .bash_profile .bash_aliases .profile .zshrc .zprofile PKGBUILD APKBUILD",
    "json": ".babelrc .eslintrc .prettierrc composer.lock flake.lock Pipfile.lock",
    "yaml": ".clang-format .clang-tidy",
    "toml": "Cargo.lock poetry.lock uv.lock Pipfile",
}
"""Language to file names, case-sensitive. They precede the extension: `Cargo.lock` is TOML."""

_INTERPRETERS = {
    "python": "python pypy",
    "javascript": "node nodejs bun",
    "typescript": "deno ts-node tsx",
    "ruby": "ruby jruby",
    "php": "php",
    "bash": "sh bash dash zsh ksh ash bats",
    "lua": "lua luajit texlua",
    "elixir": "elixir",
    "haskell": "runhaskell runghc",
    "scala": "scala amm",
    "swift": "swift",
    "kotlin": "kotlin",
}
"""Language to the programs that a `#!` line may name, without version digits at the end."""

SHEBANG_LIMIT = 256
"""Characters. Linux does not read more of a `#!` line (`BINPRM_BUF_SIZE`)."""


def _inverted(table: dict[str, str]) -> dict[str, str]:
    return {word: language for language, words in table.items() for word in words.split()}


_BY_EXTENSION = _inverted(_EXTENSIONS)
_BY_NAME = _inverted(_FILE_NAMES)
_BY_INTERPRETER = _inverted(_INTERPRETERS)


def language_of(path: str, text: str) -> str:
    """The name of the language in lower case; "text" if it is unknown. Of `text`, only the first line is used."""
    name = path.rpartition("/")[2]
    if language := _BY_NAME.get(name):
        return language
    stem, dot, extension = name.rpartition(".")
    if dot and stem and (language := _BY_EXTENSION.get(extension.lower())):
        return language
    if text.startswith("#!"):
        return _BY_INTERPRETER.get(_interpreter(text[:SHEBANG_LIMIT]), "text")
    return "text"


def extension_of(language: str) -> str:
    """A file extension of the language, without the dot. Raises KeyError for a language that has none."""
    return _EXTENSIONS[language].split()[0]


def _interpreter(start: str) -> str:
    """`python` for "#!/usr/bin/env -S python3.12 -u"; "" if the line names no program."""
    words = start[2:].partition("\n")[0].split()
    if words and words[0].rpartition("/")[2] == "env":
        words = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    return words[0].rpartition("/")[2].rstrip("0123456789.-") if words else ""
