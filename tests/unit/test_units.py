"""The unit that `service install` writes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reposyncd.cli.service import is_untouched, unit_text

ENVIRON = {"HOME": "/home/me", "PATH": "/bin", "REPOSYNCD_SOCKET": '/tmp/a b%c$"d', "XDG_STATE_HOME": "/s"}


def test_it_runs_this_installation_with_the_same_places() -> None:
    text = unit_text(ENVIRON, state_dir="/srv/state", notifies=True)
    [start] = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    program, *rest = start.split()
    assert Path(program).is_absolute() and rest[-1] == "daemon"
    assert 'Environment="REPOSYNCD_SOCKET=/tmp/a b%%c$\\"d"\n' in text
    assert "Environment=REPOSYNCD_STATE_DIR=/srv/state\n" in text
    assert "Environment=XDG_STATE_HOME=/s\n" in text
    assert "/home/me" not in text
    assert "Type=notify\n" in text and "WatchdogSec=" in text


def test_without_systemd_python_nobody_waits_for_word_from_it() -> None:
    text = unit_text({}, state_dir=None, notifies=False)
    assert "Type=exec\n" in text
    assert "WatchdogSec" not in text and "NotifyAccess" not in text


def test_a_unit_that_was_edited_is_told_from_one_that_was_not() -> None:
    text = unit_text(ENVIRON, state_dir=None, notifies=True)
    assert is_untouched(text)
    assert not is_untouched(text.replace("Nice=10", "Nice=5"))
    assert not is_untouched("[Service]\nExecStart=/bin/true\n")
    assert not is_untouched("")


PROJECT = Path(__file__).parents[2]

OWN = {"Description", "WantedBy", "SystemCallFilter"}
"""Settings that both have, each with its own value."""


def settings(name: str) -> dict[str, list[str]]:
    """Of a unit: setting to its values."""
    found: dict[str, list[str]] = {}
    for setting, value in re.findall(r"^(\w+)=(.*)$", (PROJECT / "systemd" / name).read_text(), re.MULTILINE):
        found.setdefault(setting, []).append(value)
    return found


def test_both_units_say_the_same_of_what_both_have() -> None:
    user, template = settings("reposyncd.service"), settings("reposyncd@.service")
    assert user.keys() <= template.keys()
    for name in user.keys() - OWN:
        assert user[name] == template[name], name
    assert template["SystemCallFilter"] == [*user["SystemCallFilter"], "~@privileged"]


@pytest.mark.parametrize("unit", ["reposyncd.service", "reposyncd@.service"])
def test_every_setting_is_explained_in_the_documentation_with_its_value(unit: str) -> None:
    page = (PROJECT / "docs" / "systemd.md").read_text()
    explained = re.findall(r"`(\w+)=([^`]*)`", "".join(line for line in page.splitlines(True) if line[:3] == "| `"))
    values: dict[str, set[str]] = {}
    for name, value in explained:
        values.setdefault(name, set()).add(value)
    for name, has in settings(unit).items():
        assert name in values, f"{name} is not explained"
        assert values[name] & {"", *has}, f"{name} is {has}, and explained as {values[name]}"
