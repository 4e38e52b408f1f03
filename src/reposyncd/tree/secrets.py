"""What must never be in an index: files that hold secrets, told by name or by content.

The formats are the well-known ones that have a fixed form, so that ordinary source is not taken for a secret.
detect-secrets was tried and is two orders of magnitude too slow for a first index: it runs some twenty regular
expressions over each line, about 0.3 MB/s, where this module runs at some hundred.
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
    "credentials",
    "credentials.json",
    "credentials.toml",
    "credentials.db",
    "client_secret*.json",
    "service-account*.json",
    "service_account*.json",
    "kubeconfig",
    "*.tfstate",
    "*.tfvars",
    "secrets.yml",
    "secrets.yaml",
    "secrets.json",
    "secrets.toml",
    "master.key",
)
_PLACES = (".docker/config.json", ".kube/config", ".aws/config", ".config/gh/hosts.yml")
_HARMLESS = re.compile(r"(example|sample|template|dist|defaults?|schema|\.pub)$", re.IGNORECASE)

_TOKENS = (
    rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
    rb"(?:\\[rn]|[\s\"'+,\\])*(?:[A-Za-z0-9-]+: [^\n]*\s+)*[A-Za-z0-9+/=]{40}",
    rb"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b",
    rb"\bgh[pousr]_[A-Za-z0-9]{36}\b",
    rb"\bgithub_pat_[A-Za-z0-9_]{82}\b",
    rb"\bglpat-[A-Za-z0-9_-]{20}\b",
    rb"\bxox[abeoprs]-[0-9]{6,}-[A-Za-z0-9-]{10,}",
    rb"\bhooks\.slack\.com/services/T[A-Z0-9]{8,}/B[A-Z0-9]{8,}/[A-Za-z0-9]{24}",
    rb"\b[sr]k_live_[A-Za-z0-9]{24,}",
    rb"\bAIza[A-Za-z0-9_-]{35}\b",
    rb"\bsk-(?:ant-|proj-)[A-Za-z0-9_-]{40,}",
    rb"\bsk-[A-Za-z0-9]{48}\b",
    rb"\bnpm_[A-Za-z0-9]{36}\b",
    rb"\bpypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,}",
    rb"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}\b",
    rb"\bdop_v1_[a-f0-9]{64}\b",
    rb"\bhf_[A-Za-z]{34}\b",
)
_HINTS = (
    b"PRIVATE KEY",
    b"AKIA",
    b"ASIA",
    b"ghp_",
    b"gho_",
    b"ghu_",
    b"ghs_",
    b"ghr_",
    b"github_pat_",
    b"glpat-",
    b"xox",
    b"hooks.slack.com",
    b"k_live_",
    b"AIza",
    b"sk-",
    b"npm_",
    b"pypi-",
    b"SG.",
    b"dop_v1_",
    b"hf_",
)
"""Every token holds one of these; looking for them first is what makes this fast."""


def has_secret_name(path: str) -> bool:
    """Whether a file of this path (relative, with `/`) is there to hold secrets."""
    name = path.rpartition("/")[2].lower()
    if not _names().match(name) and not path.lower().endswith(_PLACES):
        return False
    return not _HARMLESS.search(name)


def has_secret(data: bytes) -> bool:
    """Whether the content holds a private key, or a token of a well-known form."""
    return any(hint in data for hint in _HINTS) and _tokens().search(data) is not None


@cache
def _names() -> re.Pattern[str]:
    return re.compile("|".join(map(fnmatch.translate, _NAMES)))


@cache
def _tokens() -> re.Pattern[bytes]:
    return re.compile(b"|".join(_TOKENS))
