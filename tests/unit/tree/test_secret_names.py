from __future__ import annotations

import pytest

from reposyncd.tree.secret_names import NAMES, secret_name


@pytest.mark.parametrize(
    ("rule", "paths"),
    [
        (
            "environment-file",
            [".env", "deploy/.env.production", ".env~", ".env.bak", ".envrc.local", ".dev.vars", "default.env"],
        ),
        ("key-file", ["certs/server.pem", "tls.key", "config/master.key", "server.key~", "server.key.old"]),
        ("ssh-key", ["id_rsa", "backup/id_ed25519_old", "etc/ssh/ssh_host_ed25519_key", ".#id_rsa"]),
        ("password-safe", ["Vault.KDBX", "secring.gpg"]),
        ("vpn-configuration", ["wg0.conf", "wg-home.conf", "client.ovpn"]),
        (
            "credentials",
            [
                "home/.aws/credentials",
                *(f"credentials.{kind}" for kind in ("json", "yml", "csv", "xml")),
                "gcloud/application_default_credentials.json",
            ],
        ),
        ("secrets-file", [".secrets", ".secrets.toml", "prod.secrets.yaml", "chart/secrets.prod.yaml"]),
        (
            "account-file",
            [
                *(".netrc", ".npmrc", ".docker/config.json", "rclone.conf", "api/local.settings.json"),
                *("auth.json", ".composer/auth.json", ".config/containers/auth.json"),
            ],
        ),
        ("kubeconfig", ["kubeconfig", "kubeconfig.yaml", "home/.kube/config", "prod.kubeconfig"]),
        (
            "terraform-state",
            ["prod.tfvars", "prod.auto.tfvars.json", "terraform.tfstate.backup", "terraform.tfstate.1700000000"],
        ),
        ("shell-history", [".bash_history", "root/.zsh_history", ".python_history", "ConsoleHost_history.txt"]),
    ],
)
def test_files_that_are_there_to_hold_secrets_are_known_by_name(rule: str, paths: list[str]) -> None:
    assert {path: secret_name(path) for path in paths} == dict.fromkeys(paths, rule)


@pytest.mark.parametrize(
    "path",
    [
        ".env.example",
        ".env.sample",
        "example.env",
        "secrets.example.yaml",
        "credentials.sample.json",
        "terraform.tfvars.example",
        "secrets.yaml.tpl",
        "env.py",
        "id_rsa.pub",
        "ssh_host_rsa_key.pub",
        "credentials.py",
        "src/secrets.rs",
        "keys.md",
        "config.json",
        "settings.json",
        "locales/en/auth.json",
        "environment.yml",
        "monkey.py",
        "docs/tls-key.md",
        "pem.go",
        "id_rsa_test.go",
        "kubeconfig_test.go",
        ".env.d.ts",
        "key",
        "docs/history.md",
        "nginx.conf",
    ],
)
def test_ordinary_source_is_not_taken_for_a_secret(path: str) -> None:
    assert secret_name(path) is None


def test_every_rule_has_a_name_of_its_own() -> None:
    assert len({rule.name for rule in NAMES}) == len(NAMES)
