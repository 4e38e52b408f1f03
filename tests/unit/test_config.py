from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from reposyncd.config import KEYS, Config, load
from reposyncd.errors import ConfigError

HOME = {"HOME": "/home/nobody-here"}


def from_file(tmp_path: Path, text: str, **environ: str) -> Config:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return load({**HOME, "REPOSYNCD_CONFIG": str(path), **environ})


def test_no_file_and_no_variable_is_a_good_configuration() -> None:
    config = load(HOME)
    assert config.index.max_file_size == 1024 * 1024
    assert config.embedding.model == "static"
    assert config.state_dir == "/home/nobody-here/.local/state/reposyncd"


def test_every_setting_is_a_key_and_every_key_a_setting() -> None:
    config = load(HOME)
    sections = [field.name for field in fields(config) if field.name != "state_dir"]
    settings = {f"{section}.{field.name}" for section in sections for field in fields(getattr(config, section))}
    assert {key.path for key in KEYS} == settings
    assert all(key.doc for key in KEYS)


def test_defaults_are_allowed_values() -> None:
    config = load(HOME)
    for key in KEYS:
        value = getattr(getattr(config, key.section), key.name)
        assert key.accept(list(value) if key.type is tuple else value) == value


def test_a_file_sets_what_it_names(tmp_path: Path) -> None:
    config = from_file(tmp_path, '[index]\nmax_file_size = 5\nexclude = ["*.gen", "/x/"]\n[lock]\ntimeout = 1\n')
    assert config.index.max_file_size == 5
    assert config.index.exclude == ("*.gen", "/x/")
    assert config.lock.timeout == 1.0
    assert config.embedding.model == "static"


def test_the_environment_beats_the_file(tmp_path: Path) -> None:
    config = from_file(
        tmp_path,
        '[index]\nmax_file_size = 5\n[embedding]\nmodel = "static"\n',
        REPOSYNCD_INDEX__MAX_FILE_SIZE="7",
        REPOSYNCD_EMBEDDING__MODEL="hashing",
        REPOSYNCD_INDEX__EXCLUDE='["a", "b"]',
    )
    assert (config.index.max_file_size, config.embedding.model, config.index.exclude) == (7, "hashing", ("a", "b"))


def test_the_file_is_looked_for_where_xdg_says(tmp_path: Path) -> None:
    (tmp_path / "reposyncd").mkdir()
    (tmp_path / "reposyncd" / "config.toml").write_text("[lock]\ntimeout = 3\n")
    assert load({**HOME, "XDG_CONFIG_HOME": str(tmp_path)}).lock.timeout == 3
    assert load({**HOME, "XDG_CONFIG_HOME": "relative"}).lock.timeout == 30


@pytest.mark.parametrize(
    ("environ", "given", "expected"),
    [
        ({}, None, "/home/nobody-here/.local/state/reposyncd"),
        ({"XDG_STATE_HOME": "/xdg"}, None, "/xdg/reposyncd"),
        ({"XDG_STATE_HOME": "/xdg", "STATE_DIRECTORY": "/sd:/other"}, None, "/sd"),
        ({"STATE_DIRECTORY": "/sd", "REPOSYNCD_STATE_DIR": "/mine"}, None, "/mine"),
        ({"REPOSYNCD_STATE_DIR": "/mine"}, "/given", "/given"),
    ],
)
def test_the_nearest_word_on_the_state_directory_counts(
    environ: dict[str, str], given: str | None, expected: str
) -> None:
    assert load({**HOME, **environ}, state_dir=given).state_dir == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[index]\nmax_file_sise = 5\n",
            r"config.toml: there is no key index.max_file_sise; did you mean max_file_size?",
        ),
        ("[indexes]\n", r"config.toml: there is no section \[indexes\]; did you mean index\?"),
        ("index = 5\n", r"config.toml: index is a section; write its keys below a line \[index\]"),
        ('[index]\nmax_file_size = "big"\n', r"index.max_file_size is 'big'; allowed is a whole number of at least 1"),
        ("[index]\nmax_file_size = 0\n", r"index.max_file_size is 0; allowed is a whole number of at least 1"),
        ("[index]\nmax_file_size = true\n", r"index.max_file_size is True; allowed is a whole number"),
        ("[index]\nmax_file_size = 1.5\n", r"index.max_file_size is 1.5; allowed is a whole number"),
        ("[index]\nexclude = 'x'\n", r"index.exclude is 'x'; allowed is a list of strings"),
        ("[lock]\ntimeout = nan\n", r"lock.timeout is nan; allowed is a number of at least 0"),
        ('[embedding]\nmodel = "glove"\n', r'embedding.model is \'glove\'; allowed is one of "static", "hashing"'),
        ("[index\n", r"config.toml: not valid TOML: .*line 1"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_its_place_and_what_is_allowed(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        from_file(tmp_path, text)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("REPOSYNCD_INDEX__MAX_FILE_SIZE", "big", "REPOSYNCD_INDEX__MAX_FILE_SIZE in the environment: index.max_file"),
        ("REPOSYNCD_INDEX__NOTHING", "1", "there is no key index.nothing"),
        ("REPOSYNCD_INDICES__X", "1", "there is no section indices"),
    ],
)
def test_what_is_wrong_in_the_environment_is_named_by_its_variable(variable: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load({**HOME, variable: value})


def test_a_file_that_is_named_must_exist() -> None:
    with pytest.raises(ConfigError, match=r"/no/such\.toml: there is no such file"):
        load({**HOME, "REPOSYNCD_CONFIG": "/no/such.toml"})
