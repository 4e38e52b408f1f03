"""The service under a real systemd, as its users have it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reposyncd.daemon import events
from tests.crash.faults import hung
from tests.system.conftest import CONFIG
from tests.system.machine import Machine, Unit, until

APP = "/home/alice/src/app"


def status(machine: Machine, user: str = "alice") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(machine.run("reposyncd", "status", "--json", user=user))
    return found


def found(machine: Machine, query: str, user: str = "alice") -> set[str]:
    hits = json.loads(machine.run("reposyncd", "search", "--json", "-n", "50", query, user=user))
    return {hit["path"] for hit in (hits["hits"] if isinstance(hits, dict) else hits)}


def keep_app(machine: Machine) -> None:
    """A small repository of alice's, indexed."""
    machine.write("alice", "src/app/main.py", "def greet():\n    return 'hello'\n")
    machine.write("alice", "src/app/other.py", "def leave():\n    return 'goodbye'\n")
    machine.run("reposyncd", "sync", APP, user="alice")


def said(machine: Machine, event: events.LogEvent) -> list[dict[str, Any]]:
    return machine.journal(f"MESSAGE_ID={event.id}")


def test_it_is_ready_when_it_serves_and_says_what_it_does(machine: Machine, service: Unit) -> None:
    assert service.show("ActiveState") == "active"
    assert "add a directory" in service.show("StatusText")
    keep_app(machine)
    service.until_shows("StatusText", "1 repository: 1 current")
    assert found(machine, "greet") == {"main.py", "other.py"}
    machine.write("alice", "src/app/new.py", "def added_later():\n    return 1\n")
    machine.run("reposyncd", "flush", user="alice")
    assert "new.py" in found(machine, "added later")


def test_its_user_is_answered_and_nobody_else(machine: Machine, service: Unit) -> None:
    socket = f"/run/user/{machine.uid('alice')}/reposyncd/reposyncd.sock"
    assert machine.run("stat", "-c", "%a %U", socket).split() == ["600", "alice"]
    assert status(machine)["daemon"]["running"]
    ask = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
        "s.sendall(b'GET /v1/status HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'); print(s.recv(99))"
    )
    as_bob = machine.try_run("python3", "-c", ask, socket, user="bob")
    assert as_bob.returncode != 0 and "PermissionError" in as_bob.stderr
    # root may connect to anything; it is not heard
    as_root = machine.try_run("python3", "-c", ask, socket)
    assert "HTTP" not in as_root.stdout
    told = machine.try_run("reposyncd", "status", environ={"REPOSYNCD_SOCKET": socket})
    assert told.returncode != 0 and "another user" in told.stderr


def test_a_new_configuration_is_taken_up_by_a_reload_and_a_bad_one_is_not(machine: Machine, service: Unit) -> None:
    keep_app(machine)
    pid, before = service.pid(), len(said(machine, events.REFUSED))
    machine.write("alice", ".config/reposyncd/config.toml", '[index]\nexclude = ["other.py"]\n')
    service.systemctl("reload", service.name)
    until(lambda: found(machine, "leave") == {"main.py"}, "what is excluded has left the index")
    machine.run("tee", CONFIG, text="[index]\nexclude = 7\n")
    service.systemctl("reload", service.name)
    until(lambda: len(said(machine, events.REFUSED)) > before, "it is refused")
    assert "line 2: index.exclude is 7" in said(machine, events.REFUSED)[-1]["REPOSYNCD_REASON"]
    service.until_shows("ActiveState", "active")
    assert service.pid() == pid
    machine.run("rm", CONFIG)  # commands refuse it too
    assert found(machine, "leave") == {"main.py"}


def test_the_watchdog_ends_one_in_which_a_thread_hangs_and_the_next_one_goes_on(
    machine: Machine, service: Unit
) -> None:

    def timeouts() -> int:
        told = machine.journal("USER_UNIT=reposyncd.service")
        return sum("watchdog timeout" in str(each["MESSAGE"]).lower() for each in told)

    keep_app(machine)
    service.override("[Service]\nWatchdogSec=2\nTimeoutStopSec=1\nRestartSec=0\n")
    service.systemctl("restart", service.name)
    pid = service.pid()
    before = timeouts()
    outside = machine.outside(pid)
    _, _, engine, *_ = sorted(map(int, os.listdir(f"/proc/{outside}/task")))  # the main one starts the API, then this
    with hung(engine, "restart_syscall,futex"):
        machine.write("alice", "src/app/new.py", "def added_meanwhile():\n    return 1\n")
        until(lambda: timeouts() > before, "systemd has had enough")
    # What made it hang would keep it from dying, too.
    until(lambda: service.pid() not in (0, pid) and service.show("ActiveState") == "active", "another runs")
    [stalled] = [each for each in said(machine, events.STALLED) if each["_PID"] == str(pid)]
    assert stalled["REPOSYNCD_WHAT"] == "the engine"
    machine.run("reposyncd", "flush", user="alice")
    assert found(machine, "added meanwhile") == {"main.py", "other.py", "new.py"}


def test_one_that_is_killed_is_started_again_and_its_index_is_right(machine: Machine, service: Unit) -> None:
    keep_app(machine)
    service.override("[Service]\nRestartSec=0\n")
    pid = service.pid()
    machine.run("kill", "-KILL", str(pid))
    machine.write("alice", "src/app/meanwhile.py", "def written_meanwhile():\n    return 2\n")
    until(lambda: service.pid() not in (0, pid) and service.show("ActiveState") == "active", "another runs")
    machine.run("reposyncd", "flush", user="alice")
    assert "meanwhile.py" in found(machine, "written meanwhile")
    [repo] = status(machine)["repos"]
    assert repo["last_sync"]["chunks"]["embedded"] <= 1
    service.systemctl("stop", service.name)
    machine.run("reposyncd", "verify", user="alice")


def powers(machine: Machine, pid: int) -> dict[str, str]:
    """What the kernel allows the process: proc(5), status."""
    return dict(re.findall(r"^(\w+):\s*(.*)$", machine.run("cat", f"/proc/{pid}/status"), re.MULTILINE))


def test_what_the_unit_says_of_powers_and_resources_is_in_force(machine: Machine, service: Unit) -> None:
    pid = service.pid()
    found = powers(machine, pid)
    assert (found["NoNewPrivs"], found["Seccomp"], found["Umask"]) == ("1", "2", "0077")
    assert machine.run("ps", "-o", "ni=", "-p", str(pid)).strip() == "10"
    assert machine.run("ionice", "-p", str(pid)).strip() == "idle"
    assert machine.run("cat", f"/proc/{pid}/oom_score_adj").strip() == "500"
    # What systemd has understood; the container's kernel gives it no controllers.
    understood = {name: service.show(name) for name in ("CPUWeight", "TasksMax", "MemoryHigh", "IOSchedulingClass")}
    total = int(machine.run("sed", "-n", r"s/^MemTotal: *\([0-9]*\) kB/\1/p", "/proc/meminfo")) * 1024
    assert 0.2 * total < int(understood.pop("MemoryHigh")) < 0.3 * total
    assert understood == {"CPUWeight": "idle", "TasksMax": "256", "IOSchedulingClass": "3"}


def test_a_crash_loop_ends(machine: Machine, service: Unit) -> None:
    service.override("[Service]\nRestartSec=0\n")

    def is_given_up() -> bool:
        if pid := service.pid():
            machine.try_run("kill", "-KILL", str(pid))
        return service.show("ActiveState") == "failed"

    until(is_given_up, "systemd gives up")
    assert int(service.show("NRestarts")) <= 6  # the one that is refused is counted too


def test_a_wrong_configuration_is_not_tried_again(machine: Machine, service: Unit) -> None:
    service.systemctl("stop", service.name)
    machine.write("alice", ".config/reposyncd/config.toml", "[wach]\n")
    assert service.try_systemctl("start", service.name).returncode != 0
    assert (service.show("ActiveState"), service.show("ExecMainStatus")) == ("failed", "78")
    assert service.show("NRestarts") == "0"


def test_a_stop_in_the_middle_of_a_first_index_takes_no_longer_than_it_may_and_nothing_is_done_twice(
    machine: Machine, service: Unit
) -> None:
    many = 9000  # so that it takes longer than it takes to ask how far it is
    script = (
        f"import os\nfor n in range({many}):\n"
        " os.makedirs(f'src/many/{n % 50}', exist_ok=True)\n"
        " open(f'src/many/{n % 50}/{n}.txt', 'w').write(f'text {n} of many, and no other\\n')"
    )
    service.override("[Service]\nTimeoutStopSec=5\n")
    machine.run("sh", "-c", 'cd && exec python3 -c "$0"', script, user="alice")
    machine.run("reposyncd", "repo", "add", "/home/alice/src/many", user="alice")

    def chunks() -> int:
        [repo] = status(machine)["repos"]
        return int((repo["progress"] or {}).get("chunks", 0))

    until(lambda: chunks() > 500, "some of it is stored")
    service.systemctl("stop", service.name)
    assert service.show("Result") == "success"  # systemd would have killed it after 5 s, and said so
    [repo] = status(machine)["repos"]
    stored = repo["chunks"]
    assert 500 < stored < many
    service.systemctl("start", service.name)
    machine.run("reposyncd", "flush", user="alice")
    [repo] = status(machine)["repos"]
    assert repo["chunks"] == many
    assert repo["last_sync"]["chunks"]["embedded"] == many - stored


def test_the_journal_has_fields_to_search_by_and_nothing_else(machine: Machine, service: Unit) -> None:
    keep_app(machine)
    entry = said(machine, events.SYNCED)[-1]
    assert entry["REPOSYNCD_REPO"] == "app" and entry["REPOSYNCD_PATH"] == APP
    assert entry["REPOSYNCD_CHUNKS"] == "2" and entry["REPOSYNCD_ADDED"] == "2"
    assert int(entry["REPOSYNCD_RUN"]) >= 1 and float(entry["REPOSYNCD_DURATION_S"]) > 0
    assert entry["PRIORITY"] == "6" and entry["SYSLOG_IDENTIFIER"] == "reposyncd"
    ours = machine.journal("_COMM=reposyncd", "SYSLOG_IDENTIFIER=reposyncd")
    assert not any("CODE_ARGS" in each for each in ours)
    assert not any("hello" in json.dumps(each) for each in ours)


def test_a_file_name_forges_no_entry(machine: Machine, service: Unit) -> None:
    name = "evil\nsystemd: all is lost\x1b[31m.py"
    script = "import os, sys; p = sys.argv[1]; os.makedirs(os.path.dirname(p)); open(p, 'w').close(); os.chmod(p, 0)"
    machine.run("python3", "-c", script, f"{APP}/{name}", user="alice")
    machine.try_run("reposyncd", "sync", APP, user="alice")
    entry = said(machine, events.NOT_INDEXED)[-1]
    assert entry["REPOSYNCD_PATH"] == r"evil\nsystemd: all is lost\x1b[31m.py"
    assert entry["MESSAGE"].isprintable()


def files(machine: Machine) -> set[str]:
    """Every file but those of logs and of what is running."""
    places = ["/etc", "/home", "/usr", "/var", "/root", "/opt/reposyncd", "/tmp"]
    listed = machine.run("find", *places, "-xdev", "-not", "-type", "d", "-not", "-path", "/var/log/*")
    return set(listed.splitlines())


def test_an_uninstall_leaves_nothing_behind(machine: Machine) -> None:
    before = files(machine)
    machine.run("reposyncd", "service", "install", user="alice")
    keep_app(machine)
    told = machine.run("reposyncd", "service", "uninstall", user="alice")
    state = "/home/alice/.local/state/reposyncd"
    assert state in told
    new = files(machine) - before
    assert new and all(each.startswith((f"{state}/", f"{APP}/")) for each in new)
    machine.run("reposyncd", "service", "uninstall", "--purge", user="alice")
    machine.run("rm", "-rf", "/home/alice/src")
    assert files(machine) == before
    assert machine.try_run("test", "-e", state).returncode == 1
    unit = Unit(machine, "reposyncd.service", "alice")
    assert unit.show("LoadState") == "not-found"


def test_installing_again_is_fine_and_overwrites_nothing_that_was_edited(machine: Machine, service: Unit) -> None:
    machine.run("reposyncd", "service", "install", user="alice")
    unit = "/home/alice/.config/systemd/user/reposyncd.service"
    machine.run("sed", "-i", "s/^Nice=.*/Nice=5/", unit, user="alice")
    again = machine.try_run("reposyncd", "service", "install", user="alice")
    assert again.returncode == 1 and "--force" in again.stderr
    assert "Nice=5" in machine.run("cat", unit)
    machine.run("reposyncd", "service", "install", "--force", user="alice")
    assert "Nice=5" not in machine.run("cat", unit)


def test_without_a_session_it_says_what_to_do(machine: Machine) -> None:
    told = machine.try_run("reposyncd", "service", "install", user="bob")
    assert told.returncode == 1
    assert "enable-linger" in told.stderr and "reposyncd daemon" in told.stderr


# The template -------------------------------------------------------------------------------------------


@pytest.fixture
def sandboxed(machine: Machine) -> Iterator[Unit]:
    """The service of the system, for bob, who is not logged in."""
    template = Path(__file__).parents[2] / "systemd/reposyncd@.service"
    machine.run("tee", "/etc/systemd/system/reposyncd@.service", text=template.read_text())
    machine.write("bob", "src/app/main.py", "def greet():\n    return 'hello'\n")
    machine.write("bob", ".ssh/id_ed25519", "not a key\n")
    machine.write("alice", "notes.txt", "of alice\n")
    machine.run("systemctl", "daemon-reload")
    unit = Unit(machine, "reposyncd@bob.service")
    unit.systemctl("start", unit.name)
    yield unit
    unit.try_systemctl("stop", unit.name)
    machine.run(
        "rm", "-rf", "/var/lib/reposyncd", "/etc/systemd/system/reposyncd@.service", "/home/bob/src", "/home/bob/.ssh"
    )
    machine.run("systemctl", "daemon-reload")


def test_in_the_sandbox_a_repository_is_kept_as_outside(machine: Machine, sandboxed: Unit) -> None:
    machine.run("reposyncd", "sync", "/home/bob/src/app", user="bob")
    assert found(machine, "greet", "bob") == {"main.py"}
    machine.write("bob", "src/app/new.py", "def added_later():\n    return 1\n")
    machine.run("reposyncd", "flush", user="bob")
    assert "new.py" in found(machine, "added later", "bob")
    report = status(machine, "bob")
    assert report["store"]["location"].startswith("/var/lib/reposyncd/bob/")
    [repo] = report["repos"]
    assert (repo["state"], repo["watch"]["mode"]) == ("current", "inotify")
    sandboxed.until_shows("StatusText", "1 repository: 1 current")
    sandboxed.systemctl("reload", sandboxed.name)
    sandboxed.until_shows("ActiveState", "active")
    sandboxed.systemctl("stop", sandboxed.name)
    assert sandboxed.show("Result") == "success"


def test_in_the_sandbox_everything_else_is_out_of_reach(machine: Machine, sandboxed: Unit) -> None:
    pid = str(sandboxed.pid())

    def inside(*command: str) -> str:
        done = machine.try_run(
            *("nsenter", "-t", pid, "--mount", "--net", "--"),
            *("setpriv", "--reuid", "bob", "--regid", "bob", "--clear-groups", *command),
        )
        return (done.stdout + done.stderr).strip()

    assert inside("ls", "/home") == "bob"
    assert inside("cat", "/home/bob/src/app/main.py").startswith("def greet")
    assert "Permission denied" in inside("ls", "/home/bob/.ssh")
    assert inside("ls", "-A", "/root") in ("", "ls: cannot open directory '/root': Permission denied")
    assert "Read-only file system" in inside("touch", "/home/bob/src/app/x")
    assert "Read-only file system" in inside("touch", "/var/tmp/../lib/x")
    assert inside("cat", "/proc/net/dev").count(":") == 1  # the loopback device alone
    flags = powers(machine, sandboxed.pid())
    assert (int(flags["CapBnd"], 16), flags["NoNewPrivs"], flags["Seccomp"]) == (0, "1", "2")


def test_the_exposure_of_the_sandbox_is_small(machine: Machine, sandboxed: Unit) -> None:
    printed = machine.run("systemd-analyze", "security", "--no-pager", sandboxed.name)
    [score] = re.findall(r"Overall exposure level for \S+: ([\d.]+)", printed)
    assert float(score) <= 2.0
