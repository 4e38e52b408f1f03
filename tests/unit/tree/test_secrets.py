"""The tokens here are made up, and put together at run time, so that no scanner takes this file for a leak."""

from __future__ import annotations

import pytest

from reposyncd.tree.secrets import has_secret, has_secret_name

BODY = "MIIEpAIBAAKCAQEA" + "x7Qz9Kd3" * 8


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        "deploy/.env.production",
        "certs/server.pem",
        "tls.key",
        "id_rsa",
        "backup/id_ed25519_old",
        ".netrc",
        "home/.aws/credentials",
        "credentials.json",
        ".docker/config.json",
        ".npmrc",
        "prod.tfvars",
        "Vault.KDBX",
        "config/master.key",
        "terraform.tfstate.backup",
    ],
)
def test_files_that_are_there_to_hold_secrets_are_known_by_name(path: str) -> None:
    assert has_secret_name(path)


@pytest.mark.parametrize(
    "path",
    [
        ".env.example",
        ".env.sample",
        "env.py",
        "id_rsa.pub",
        "credentials.py",
        "src/secrets.rs",
        "keys.md",
        "config.json",
        "environment.yml",
        "monkey.py",
        "docs/tls-key.md",
        "pem.go",
        "id_rsa_test.go",
        ".env.d.ts",
        "key",
    ],
)
def test_ordinary_source_is_not_taken_for_a_secret(path: str) -> None:
    assert not has_secret_name(path)


@pytest.mark.parametrize(
    "text",
    [
        f"-----BEGIN RSA PRIVATE KEY-----\n{BODY}\n",
        f"-----BEGIN PRIVATE KEY-----\r\n{BODY}\r\n",
        f"-----BEGIN OPENSSH PRIVATE KEY-----\n{BODY}\n",
        f'key = "-----BEGIN EC PRIVATE KEY-----\\n{BODY}\\n"',
        f"-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: GnuPG v2\n\n{BODY}\n",
        f"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n{BODY}\n",
        "aws = " + "AKIA" + "IOSFODNN7EXAMPLE"[:16],
        "token: " + "ghp_" + "a1B2" * 9,
        "github_pat_" + "11ABCDEFG0" + "x" * 72,
        "glpat-" + "abcdefghij0123456789",
        "glpat-" + "abcdefghij0123456789_longer.01.0123456",
        "xapp-" + "1-A0123456789-0123456789012-" + "0a" * 32,
        "sk-proj-" + "Ab_1" * 20,
        "dckr_pat_" + "aB-" * 9,
        "AccountKey=" + "aB+/" * 21 + "aB==",
        "xoxb-" + "123456789012-abcdefghijklmnop",
        "sk_live_" + "0123456789abcdefABCDEFGH",
        "AIza" + "SyA1234567890abcdefghijklmnopqrstuv",
        "npm_" + "a" * 36,
        "sk-ant-" + "api03-" + "x" * 60,
    ],
    ids=lambda text: text[:24],
)
def test_keys_and_tokens_are_known_by_their_form(text: str) -> None:
    assert has_secret(f"before\n{text}\nafter".encode())


@pytest.mark.parametrize(
    "text",
    [
        'if line.startswith("-----BEGIN PRIVATE KEY-----"):\n    parse(line)\n',
        "-----BEGIN PUBLIC KEY-----\n" + BODY,
        "ghp_short, AKIAlower, sk-learn, npm_config_registry, xoxo",
        "the task-ant-colony algorithm in ask-questions",
        "AKIA" + "IOSFODNN7EXAMPLEANDLONGER",
    ],
)
def test_code_about_secrets_is_not_one(text: str) -> None:
    assert not has_secret(text.encode())
