"""What must never be in an index: files that hold secrets, told by name or by content.

The formats are the well-known ones that have a fixed form, so that ordinary source is not taken for a secret.
detect-secrets was tried and is three orders of magnitude too slow for a first index: it runs some twenty regular
expressions over each line, 0.2 MB/s, where re2 looks for all of these at once at some 400 MB/s. On the sources of
Linux 6.1 (78,495 files), mypy and tokio this finds one file, which is a private key. JSON web tokens and high entropy
are not looked for: most of those in source are examples, and hashes.
"""

from __future__ import annotations

import fnmatch
import re
from functools import cache

_NAMES = (
    ".env",
    ".env.*",
    "*.env",
    ".envrc",
    "*.pem",
    "*.key",
    "*.p8",
    "*.p12",
    "*.pfx",
    "*.jks",
    "*.keystore",
    "*.kdbx",
    "*.ppk",
    "*.ovpn",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    ".netrc",
    "_netrc",
    ".pgpass",
    ".my.cnf",
    ".pypirc",
    ".npmrc",
    ".yarnrc.yml",
    ".git-credentials",
    ".htpasswd",
    ".dockercfg",
    ".vault-token",
    ".s3cfg",
    ".boto",
    "credentials",
    "credentials.json",
    "credentials.toml",
    "credentials.db",
    "credentials.tfrc.json",
    "client_secret*.json",
    "service-account*.json",
    "service_account*.json",
    "kubeconfig",
    "*.tfstate",
    "*.tfstate.backup",
    "*.tfvars",
    "secrets.yml",
    "secrets.yaml",
    "secrets.json",
    "secrets.toml",
)
_PLACES = (".docker/config.json", ".kube/config", ".aws/config", ".config/gh/hosts.yml")
_HARMLESS = re.compile(r"(example|sample|template|dist|defaults?|schema|\.pub)$", re.IGNORECASE)

_CODE = re.compile(r"\.(c|cc|cpp|cs|go|h|hpp|java|js|jsx|kt|md|mjs|php|py|pyi|rb|rs|rst|scala|sh|swift|ts|tsx)$")
"""`id_rsa_test.go` is about keys, and is none."""

_TOKENS = (
    rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
    rb"(?:\\[rn]|[\s\"'+,\\])*(?:[A-Za-z0-9-]+: [^\n]*\s+)*[A-Za-z0-9+/=]{40}",
    rb"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b",
    rb"\bAccountKey=[A-Za-z0-9+/]{86}==",
    rb"\bgh[pousr]_[A-Za-z0-9]{36}\b",
    rb"\bgithub_pat_[A-Za-z0-9_]{82}\b",
    rb"\bglpat-[A-Za-z0-9_-]{20,}",
    rb"\bxox[abeoprs]-[0-9]{6,}-[A-Za-z0-9-]{10,}",
    rb"\bxapp-[0-9]-[A-Z0-9]{8,}-[0-9]{10,}-[a-f0-9]{32,}",
    rb"\bhooks\.slack\.com/services/T[A-Z0-9]{8,}/B[A-Z0-9]{8,}/[A-Za-z0-9]{24}",
    rb"\b[sr]k_live_[A-Za-z0-9]{24,}",
    rb"\bAIza[A-Za-z0-9_-]{35}(?:[^A-Za-z0-9_-]|$)",
    rb"\bsk-(?:ant|proj|svcacct|admin)-[A-Za-z0-9_-]{40,}",
    rb"\bsk-[A-Za-z0-9]{48}\b",
    rb"\bnpm_[A-Za-z0-9]{36}\b",
    rb"\bpypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,}",
    rb"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}(?:[^A-Za-z0-9_-]|$)",
    rb"\bdop_v1_[a-f0-9]{64}\b",
    rb"\bdckr_pat_[A-Za-z0-9_-]{27}(?:[^A-Za-z0-9_-]|$)",
    rb"\bshpat_[a-fA-F0-9]{32}\b",
    rb"\bhf_[A-Za-z]{34}\b",
    rb"\bAGE-SECRET-KEY-1[0-9A-Z]{58}\b",
)


def has_secret_name(path: str) -> bool:
    """Whether a file of this path (relative, with `/`) is there to hold secrets."""
    name = path.rpartition("/")[2].lower()
    if not _names().match(name) and not path.lower().endswith(_PLACES):
        return False
    return not _HARMLESS.search(name) and not _CODE.search(name)


def has_secret(data: bytes) -> bool:
    """Whether the content (UTF-8) holds a private key, or a token of a well-known form."""
    return _tokens().search(data) is not None


@cache
def _names() -> re.Pattern[str]:
    return re.compile("|".join(map(fnmatch.translate, _NAMES)))


@cache
def _tokens() -> re.Pattern[bytes]:
    import re2

    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1  # bytes
    options.never_capture = True
    found: re.Pattern[bytes] = re2.compile(b"|".join(_TOKENS), options=options)
    return found
