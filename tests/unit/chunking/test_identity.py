from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from reposyncd.chunking.grammars import GRAMMARS
from reposyncd.chunking.identity import fingerprint


def test_the_fingerprint_names_the_installed_version_of_every_grammar() -> None:
    words = dict(word.split("=", 1) for word in fingerprint().split())
    for name in ["tree_sitter", *(grammar.module for grammar in GRAMMARS.values())]:
        assert words[name] == version(name.replace("_", "-"))


def test_a_package_that_is_not_installed_is_absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    monkeypatch.setattr("sys.path_importer_cache", {})
    for name in [name for name in sys.modules if name.startswith("tree_sitter")]:
        monkeypatch.delitem(sys.modules, name)
    assert "tree_sitter=absent" in fingerprint()


def test_a_package_without_metadata_has_an_unknown_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("tree_sitter", "tree_sitter_c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    (tmp_path / "tree_sitter_c-9.8.7.dist-info").mkdir()
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    monkeypatch.setattr("sys.path_importer_cache", {})
    for name in [name for name in sys.modules if name.startswith("tree_sitter")]:
        monkeypatch.delitem(sys.modules, name)
    words = fingerprint().split()
    assert "tree_sitter=unknown" in words
    assert "tree_sitter_c=9.8.7" in words


def test_neither_the_import_nor_the_fingerprint_loads_a_grammar() -> None:
    program = (
        "import sys; import reposyncd.chunking.chunker; import reposyncd.chunking.identity as c;"
        "before = 'importlib.metadata' in sys.modules; c.fingerprint();"
        "loaded = [m for m in sys.modules if m.startswith('tree_sitter')];"
        "sys.exit(bool(loaded) or (not before and 'importlib.metadata' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
