from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reposyncd.config import KEYS, Config, Key, config_path, load
from reposyncd.errors import ConfigError

SECTIONS = "(known: index, embedding, lock, store, watch, discover, limits, log, api)"

HOME = {"HOME": "/home/nobody-here"}


def from_file(tmp_path: Path, text: str | bytes, **environ: str) -> Config:
    path = tmp_path / "config.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load({**HOME, "REPOSYNCD_CONFIG": str(path), **environ})


def values_of(config: Config) -> Iterator[tuple[str, str, object]]:
    for section in fields(config):
        if section.name not in ("state_dir", "socket"):
            for name, value in getattr(config, section.name)._asdict().items():
                yield section.name, name, value


def test_no_file_and_no_variable_is_a_good_configuration() -> None:
    config = load(HOME)
    assert config.index.max_file_size == 1024 * 1024
    assert config.index.exclude == ()
    assert config.embedding.model == "static"
    assert config.lock.timeout == 30.0
    assert config.store.deadline == 300.0
    assert config.state_dir == "/home/nobody-here/.local/state/reposyncd"


def test_every_setting_is_a_key_and_every_key_a_setting_with_its_default() -> None:
    assert {f"{section}.{name}": value for section, name, value in values_of(load(HOME))} == {
        key.path: key.default for key in KEYS
    }
    assert all(key.doc for key in KEYS)


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.path)
def test_the_default_is_an_allowed_value(key: Key) -> None:
    accepted = key.accept(list(key.default) if key.type is tuple else key.default)
    assert accepted == key.default
    assert type(accepted) is key.type


def test_a_configuration_is_frozen() -> None:
    config = load(HOME)
    with pytest.raises(FrozenInstanceError):
        config.state_dir = "/other"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        config.lock.timeout = 1.0  # type: ignore[misc]


def test_nothing_but_the_standard_library_is_imported_and_no_toml_without_a_file() -> None:
    script = (
        "import sys; from reposyncd.config import load; load({'HOME': '/nonexistent'});"
        "assert not {'tomllib', 'json', 'difflib', 'numpy', 'click', 'importlib.metadata'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


# The file


def test_a_file_sets_what_it_names(tmp_path: Path) -> None:
    config = from_file(tmp_path, '[index]\nmax_file_size = 5\nexclude = ["*.gen", "/x/"]\n[lock]\ntimeout = 1\n')
    assert config.index.max_file_size == 5
    assert config.index.exclude == ("*.gen", "/x/")
    assert config.lock.timeout == 1.0
    assert type(config.lock.timeout) is float
    assert config.embedding.model == "static"


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert from_file(tmp_path, "") == load(HOME)


def test_the_file_is_looked_for_where_xdg_says(tmp_path: Path) -> None:
    (tmp_path / "reposyncd").mkdir()
    (tmp_path / "reposyncd" / "config.toml").write_text("[lock]\ntimeout = 3\n")
    assert load({**HOME, "XDG_CONFIG_HOME": str(tmp_path)}).lock.timeout == 3
    assert load({**HOME, "XDG_CONFIG_HOME": "relative"}).lock.timeout == 30


def test_the_file_is_looked_for_in_the_home_that_the_environment_names(tmp_path: Path) -> None:
    assert config_path({"HOME": str(tmp_path)}) == f"{tmp_path}/.config/reposyncd/config.toml"
    assert config_path({"HOME": str(tmp_path), "REPOSYNCD_CONFIG": "~/my.toml"}) == f"{tmp_path}/my.toml"


def test_without_home_the_user_database_is_asked() -> None:
    assert os.path.isabs(config_path({}))


def test_a_file_that_is_named_must_exist() -> None:
    with pytest.raises(ConfigError, match=r"^/no/such\.toml: there is no such file; REPOSYNCD_CONFIG names it$"):
        load({**HOME, "REPOSYNCD_CONFIG": "/no/such.toml"})


def test_a_file_that_cannot_be_read_is_not_taken_for_absent(tmp_path: Path) -> None:
    (tmp_path / "reposyncd" / "config.toml").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"reposyncd/config\.toml: cannot be read: Is a directory$"):
        load({**HOME, "XDG_CONFIG_HOME": str(tmp_path)})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[lock]\n\n[index]\nmax_file_sise = 5\n",
            "line 4: there is no key index.max_file_sise; did you mean max_file_size? "
            "(known: max_file_size, exclude, allow_secrets, worktrees)",
        ),
        (
            "[lock]\n[indexes]\n",
            f"line 2: there is no section [indexes]; did you mean index? {SECTIONS}",
        ),
        (
            "zzz = 1\n",
            f"line 1: there is no section [zzz] {SECTIONS}",
        ),
        ("# a note\nindex = 5\n", "line 2: index is a section; write its keys below a line [index]"),
        ("[[index]]\n", "line 1: index is a section; write its keys below a line [index]"),
        (
            '[index]\nmax_file_size = "big"\n',
            'line 2: index.max_file_size is "big"; it must be a whole number of at least 1',
        ),
        ("[index]\nmax_file_size = 0\n", "line 2: index.max_file_size is 0; it must be a whole number of at least 1"),
        ("index.max_file_size = true", "line 1: index.max_file_size is true; it must be a whole number of at least 1"),
        ("[index]\r\n\r\nmax_file_size = 1.5\r\n", "line 3: index.max_file_size is 1.5; it must be a whole number of"),
        ("[index]\nexclude = 'x'\n", 'line 2: index.exclude is "x"; it must be a list of strings, as in ["a", "b"]'),
        (
            '[lock]\ntimeout = 1\n[index]\n# those\nexclude = [\n  "x",\n\n  5,\n]\n[store]\n',
            'line 5: index.exclude is ["x", 5]; it must be a list of strings',
        ),
        ("[lock]\ntimeout = nan\n", "line 2: lock.timeout is NaN; it must be a number of at least 0 and at most 86400"),
        ("[lock]\ntimeout = inf\n", "line 2: lock.timeout is Infinity; it must be a number of at least 0 and at most"),
        ("[lock]\ntimeout = 1979-05-27\n", 'line 2: lock.timeout is "1979-05-27"; it must be a number'),
        (
            f"[lock]\ntimeout = 0x{'f' * 5000}\n",
            "line 2: lock.timeout is a number with thousands of digits; it must be",
        ),
        ("[store]\ndeadline = 0\n", "line 2: store.deadline is 0; it must be a number of at least 1 and at most 86400"),
        ('[embedding]\nmodel = "glove"\n', 'line 2: embedding.model is "glove"; it must be one of "static", "hashing"'),
        (f'[embedding]\nmodel = "{"x" * 500}"\n', f'line 2: embedding.model is "{"x" * 79}...; it must be one of'),
    ],
)
def test_a_wrong_key_is_named_with_its_line_and_what_is_allowed(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        from_file(tmp_path, text)
    assert str(raised.value).startswith(f"{tmp_path}/config.toml, {message}")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[lock]\n[index\n", "at line 2"),
        ("[lock]\ntimeout = ", "line 2"),
        ('[index]\nexclude = [\n"a",\n', "line 3"),
        (b"[index]\n\n# caf\xe9\n", "not UTF-8 (at line 3)"),
        ("[index]\nexclude = " + "[" * 100_000, "config.toml: not valid TOML"),
        ("[index]\nmax_file_size = " + "9" * 5000, "config.toml: not valid TOML"),
    ],
)
def test_what_is_not_toml_is_named_with_its_line(tmp_path: Path, text: str | bytes, line: str) -> None:
    with pytest.raises(ConfigError) as raised:
        from_file(tmp_path, text)
    assert str(raised.value).startswith(f"{tmp_path}/config.toml: not valid TOML: ")
    assert line in str(raised.value)


# The environment


def test_the_environment_beats_the_file(tmp_path: Path) -> None:
    config = from_file(
        tmp_path,
        '[index]\nmax_file_size = 5\n[embedding]\nmodel = "static"\n[lock]\ntimeout = 9\n',
        REPOSYNCD_INDEX__MAX_FILE_SIZE="7",
        REPOSYNCD_EMBEDDING__MODEL="hashing",
        REPOSYNCD_INDEX__EXCLUDE='["a", "b"]',
    )
    assert (config.index.max_file_size, config.embedding.model, config.index.exclude) == (7, "hashing", ("a", "b"))
    assert config.lock.timeout == 9.0


@pytest.mark.parametrize("text", ["hashing", '"hashing"', "'hashing'"])
def test_a_string_needs_no_quotes_in_the_environment(text: str) -> None:
    assert load({**HOME, "REPOSYNCD_EMBEDDING__MODEL": text}).embedding.model == "hashing"


@settings(deadline=None)
@given(size=st.integers(1, 2**63 - 1), timeout=st.floats(0, 86_400))
def test_every_number_in_range_is_taken_from_the_environment(size: int, timeout: float) -> None:
    config = load({**HOME, "REPOSYNCD_INDEX__MAX_FILE_SIZE": str(size), "REPOSYNCD_LOCK__TIMEOUT": repr(timeout)})
    assert (config.index.max_file_size, config.lock.timeout) == (size, timeout)


@settings(deadline=None)
@given(variable=st.sampled_from([key.variable for key in KEYS]), text=st.text())
def test_any_text_in_the_environment_is_taken_or_refused_by_name(variable: str, text: str) -> None:
    try:
        load({**HOME, variable: text})
    except ConfigError as error:
        [key] = [key for key in KEYS if key.variable == variable]
        assert str(error).startswith(f"{variable} in the environment: {key.path} is ")
        assert str(error).endswith(f"; it must be {key.allowed}")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            "REPOSYNCD_INDEX__MAX_FILE_SIZE",
            "2 MiB",
            'index.max_file_size is "2 MiB"; it must be a whole number of at least 1',
        ),
        ("REPOSYNCD_INDEX__MAX_FILE_SIZE", "", 'index.max_file_size is ""; it must be a whole number of at least 1'),
        ("REPOSYNCD_INDEX__MAX_FILE_SIZE", "5\nx = 6", 'index.max_file_size is "5\\nx = 6"; it must be a whole number'),
        ("REPOSYNCD_INDEX__EXCLUDE", "*.c", 'index.exclude is "*.c"; it must be a list of strings, as in ["a", "b"]'),
        (
            "REPOSYNCD_INDEX__NOTHING",
            "1",
            "there is no key index.nothing (known: max_file_size, exclude, allow_secrets, worktrees)",
        ),
        ("REPOSYNCD_LOCK__TIMEOUTS", "1", "there is no key lock.timeouts; did you mean timeout? (known: timeout)"),
        (
            "REPOSYNCD_INDICES__X",
            "1",
            f"there is no section [indices]; did you mean index? {SECTIONS}",
        ),
        (
            "REPOSYNCD_INDEX_MAX_FILE_SIZE",
            "1",
            "there is no such variable; did you mean REPOSYNCD_INDEX__MAX_FILE_SIZE?",
        ),
    ],
)
def test_a_wrong_variable_is_named_with_what_is_allowed(variable: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load({**HOME, variable: value})
    assert str(raised.value).startswith(f"{variable} in the environment: {message}")


def test_variables_of_other_programs_are_left_alone() -> None:
    others = {"REPOSYNCDX__Y": "1", "_REPOSYNCD_COMPLETE": "bash_source", "A__B": "1"}
    assert load({**HOME, **others}) == load(HOME)


# The state directory


@pytest.mark.parametrize(
    ("environ", "given", "expected"),
    [
        ({}, None, "/home/nobody-here/.local/state/reposyncd"),
        ({"XDG_STATE_HOME": "/xdg"}, None, "/xdg/reposyncd"),
        ({"XDG_STATE_HOME": "relative"}, None, "/home/nobody-here/.local/state/reposyncd"),
        ({"XDG_STATE_HOME": "/xdg", "STATE_DIRECTORY": "/sd:/other"}, None, "/sd"),
        ({"STATE_DIRECTORY": "/sd", "REPOSYNCD_STATE_DIR": "/mine"}, None, "/mine"),
        ({"REPOSYNCD_STATE_DIR": "~/mine"}, None, "/home/nobody-here/mine"),
        ({"REPOSYNCD_STATE_DIR": "/mine"}, "/given", "/given"),
    ],
)
def test_the_nearest_word_on_the_state_directory_counts(
    environ: dict[str, str], given: str | None, expected: str
) -> None:
    assert load({**HOME, **environ}, state_dir=given).state_dir == expected


def test_a_state_directory_that_is_not_utf8_is_refused() -> None:
    """Chroma takes none."""
    with pytest.raises(ConfigError, match="not valid UTF-8"):
        load(HOME, state_dir=os.fsdecode(b"/tmp/caf\xe9"))


def test_a_relative_state_directory_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(HOME, state_dir="state").state_dir == f"{tmp_path}/state"


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({}, "/state/reposyncd.sock"),
        ({"XDG_RUNTIME_DIR": "/run/user/1"}, "/run/user/1/reposyncd/reposyncd.sock"),
        ({"XDG_RUNTIME_DIR": "run"}, "/state/reposyncd.sock"),
        ({"RUNTIME_DIRECTORY": "/run/a:/run/b", "XDG_RUNTIME_DIR": "/run/user/1"}, "/run/a/reposyncd.sock"),
        ({"REPOSYNCD_SOCKET": "~/s", "RUNTIME_DIRECTORY": "/run/a"}, "/home/nobody-here/s"),
    ],
)
def test_the_socket_is_where_the_environment_says_and_else_with_the_state(environ: dict[str, str], path: str) -> None:
    assert load({**HOME, **environ}, state_dir="/state").socket == path


def test_places_to_discover_in_are_absolute_or_in_the_home(tmp_path: Path) -> None:
    found = from_file(tmp_path, '[discover]\nroots = ["~/src", "/srv/code/"]\n')
    assert found.discover.roots == ("/home/nobody-here/src", "/srv/code")
    with pytest.raises(ConfigError, match=r'discover.roots is \["src"\]; it must be a list of absolute paths'):
        from_file(tmp_path, '[discover]\nroots = ["src"]\n')


def test_a_settle_time_longer_than_the_longest_wait_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"watch.settle \(5 s\) is longer than watch.max_wait \(3 s\)"):
        from_file(tmp_path, "[watch]\nsettle = 5\n")


@pytest.mark.parametrize(("text", "value"), [("true", True), ("false", False)])
def test_true_and_false_are_taken_from_the_environment(text: str, value: bool) -> None:
    assert load({**HOME, "REPOSYNCD_LIMITS__ON_BATTERY": text}).limits.on_battery is value


@pytest.mark.parametrize("text", ["1", "yes", "True", ""])
def test_nothing_else_is_true_or_false(text: str) -> None:
    with pytest.raises(ConfigError, match="it must be true or false"):
        load({**HOME, "REPOSYNCD_LIMITS__ON_BATTERY": text})
