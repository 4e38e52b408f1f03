"""Files that hold secrets, recognised by their names. They are never indexed, unless the user allows it.

`NAMES` is the table. Raise `reposyncd.tree.VERSION` with every change here.
"""

from __future__ import annotations

import fnmatch
import re
from functools import cache
from typing import NamedTuple


class NameRule(NamedTuple):
    """Names of files whose purpose is to hold secrets."""

    name: str
    patterns: tuple[str, ...]
    """as in fnmatch, in lower case. A pattern with a `/` matches the end of a path, any other a whole file name"""


_KINDS = ("json", "toml", "yml", "yaml", "ini", "xml")

NAMES: tuple[NameRule, ...] = (
    NameRule(
        "environment-file",
        (".env", ".env.*", ".env-*", ".env_*", "*.env", ".envrc", ".envrc.*", ".dev.vars", ".dev.vars.*"),
    ),
    NameRule(
        "key-file",
        ("*.pem", "*.key", "*.p8", "*.pk8", "*.p12", "*.pfx", "*.pkcs12", "*.jks", "*.keystore", "*.ppk", "*.bek"),
    ),
    NameRule("ssh-key", ("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "id_xmss*", "ssh_host_*_key")),
    NameRule(
        "password-safe",
        ("*.kdbx", "*.kdb", "*.psafe3", "*.agilekeychain", "*.keychain", "*.keychain-db", "secring.*"),
    ),
    NameRule("vpn-configuration", ("*.ovpn", "wg*.conf", "wireguard*.conf")),
    NameRule(
        "credentials",
        (
            "credentials",
            "*.credentials",
            *(f"credentials.{kind}" for kind in (*_KINDS, "csv", "db", "properties")),
            ".credentials.*",
            "credentials.tfrc.json",
            "application_default_credentials.json",
            "client_secret*.json",
            "service-account*.json",
            "service_account*.json",
            "*-firebase-adminsdk-*.json",
            "gha-creds-*.json",
        ),
    ),
    NameRule(
        "secrets-file",
        (
            ".secrets",
            *(f"secrets.{kind}" for kind in (*_KINDS, "env", "properties")),
            *(f"{before}.{kind}" for before in (".secrets", "*.secrets") for kind in _KINDS),
            *(f"secrets.*.{kind}" for kind in _KINDS),
        ),
    ),
    NameRule(
        "account-file",
        (
            ".netrc",
            "_netrc",
            ".pgpass",
            "pgpass.conf",
            ".my.cnf",
            ".mylogin.cnf",
            ".pypirc",
            ".npmrc",
            ".yarnrc.yml",
            ".git-credentials",
            ".htpasswd",
            ".htdigest",
            ".dockercfg",
            ".dockerconfigjson",
            ".vault-token",
            ".s3cfg",
            ".boto",
            ".passwd-s3fs",
            ".databrickscfg",
            ".terraformrc",
            "rclone.conf",
            "local.settings.json",
            ".m2/settings.xml",
            ".m2/settings-security.xml",
            ".docker/config.json",
            ".aws/config",
            ".config/gh/hosts.yml",
            ".dbt/profiles.yml",
            ".snowsql/config",
            ".vnc/passwd",
            "composer/auth.json",
            ".composer/auth.json",
            "containers/auth.json",
        ),
    ),
    NameRule("kubeconfig", ("kubeconfig", "kubeconfig.*", "*.kubeconfig", ".kubeconfig", ".kube/config")),
    NameRule("terraform-state", ("*.tfstate", "*.tfstate.*", "*.tfvars", "*.tfvars.json")),
    NameRule("shell-history", (".*_history", "fish_history", "consolehost_history.txt", ".dbshell")),
)

_AT_THE_ROOT = {"auth.json": "account-file"}
"""Paths that only count at the root of a repository. Composer's auth.json is beside composer.json. Deeper down, files
with that name are mostly translations of a user interface."""

_COPY_SUFFIX = re.compile(r"(?:~|\.(?:bak|backup|old|orig|save|swp|tmp|copy|\d+))+$|^\.#", re.IGNORECASE)
"""What programs and people append to the name of a backup copy."""

_HARMLESS = re.compile(
    r"(?:^|[._-])(?:examples?|samples?|templates?|tmpl|tpl|dist|schema|skel)(?:[._-]|$)|defaults?$|\.(?:pub|erb|j2)$"
)
"""Names of templates, which somebody has to fill in, and of public keys."""

_CODE = re.compile(
    r"\.(c|cc|cpp|cs|css|ex|exs|go|h|hpp|html?|java|js|jsx|kt|lua|m|md|mjs|mm|php|pl|py|pyi|rb|rs|rst|scala|sh|svg|swift|"
    r"tf|ts|tsx|vue)$"
)
"""Names of source code: `id_rsa_test.go` is about keys, but contains none."""


def secret_name(path: str) -> str | None:
    """The name of the rule that says that a file at this path (relative to the root) holds secrets; None if none
    does."""
    lower = path.lower()
    name = _COPY_SUFFIX.sub("", lower.rpartition("/")[2])
    found = _whole_names().fullmatch(name) or _path_ends().search(lower)
    rule = found.lastgroup if found else _AT_THE_ROOT.get(lower)
    if rule is None or _HARMLESS.search(name) or _CODE.search(name):
        return None
    return rule.replace("_", "-")


@cache
def _whole_names() -> re.Pattern[str]:
    return re.compile("|".join(_group(rule, [p for p in rule.patterns if "/" not in p]) for rule in NAMES))


@cache
def _path_ends() -> re.Pattern[str]:
    rules = [(rule, [p for p in rule.patterns if "/" in p]) for rule in NAMES]
    return re.compile("(?:^|/)(?:" + "|".join(_group(rule, ends) for rule, ends in rules if ends) + ")")


def _group(rule: NameRule, patterns: list[str]) -> str:
    return f"(?P<{rule.name.replace('-', '_')}>{'|'.join(map(fnmatch.translate, patterns))})"
