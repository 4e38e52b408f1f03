"""What must never be in an index: files that hold secrets, told by name or by content.

`NAMES` and `RULES` are the tables; `secret_in` says which of their rows a file meets, and never what the secret is. The
forms of tokens (prefix, alphabet, length) are those that their issuers publish, and that gitleaks, detect-secrets and
ripsecrets look for. What such a form matches may still be a placeholder, of which documentation and tests are full;
whether it is one is decided from the match alone.

What has no form of its own is not looked for: words such as `password = "..."`, and strings of high entropy, most of
which are hashes in source. Nor are JSON web tokens: they expire, and most of those in source are examples.

All rules are one regular expression, which re2 looks for in linear time, at some 500 MB/s. Only a file that it matches
is looked at rule by rule. Raise `reposyncd.tree.VERSION` with every change here.
"""

from __future__ import annotations

import base64
import fnmatch
import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import re2


class NameRule(NamedTuple):
    """Files that are there to hold secrets."""

    name: str
    patterns: tuple[str, ...]
    """as in fnmatch, in lower case; one with a `/` is the end of a path, any other a whole name"""


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
"""Composer's, beside composer.json. Deeper down, files of that name are mostly texts of a user interface."""

_COPY = re.compile(r"(?:~|\.(?:bak|backup|old|orig|save|swp|tmp|copy|\d+))+$|^\.#", re.IGNORECASE)
"""What programs and people add to the name of a copy."""

_HARMLESS = re.compile(
    r"(?:^|[._-])(?:examples?|samples?|templates?|tmpl|tpl|dist|schema|skel)(?:[._-]|$)|defaults?$|\.(?:pub|erb|j2)$"
)
"""Names of what is there to be filled in, and of public keys."""

_CODE = re.compile(
    r"\.(c|cc|cpp|cs|css|ex|exs|go|h|hpp|html?|java|js|jsx|kt|lua|m|md|mjs|mm|php|pl|py|pyi|rb|rs|rst|scala|sh|svg|swift|"
    r"tf|ts|tsx|vue)$"
)
"""`id_rsa_test.go` is about keys, and is none."""


class Rule(NamedTuple):
    """Contents that are secrets by their form."""

    name: str
    pattern: bytes
    """of RE2, over bytes"""
    why: str
    """what the secret gives access to"""
    is_real: Callable[..., bool]
    """Given the groups of a match: whether it is no placeholder."""


def secret_in(path: str, data: bytes) -> str | None:
    """The rule by which a file of this path (relative to the root, with `/`) and content (UTF-8) holds a secret; None:
    by none. A function of its arguments."""
    return secret_name(path) or secret_content(data)


def secret_name(path: str) -> str | None:
    """The rule by which a file of this path is there to hold secrets."""
    lower = path.lower()
    name = _COPY.sub("", lower.rpartition("/")[2])
    found = _names().fullmatch(name) or _places().search(lower)
    rule = found.lastgroup if found else _AT_THE_ROOT.get(lower)
    if rule is None or _HARMLESS.search(name) or _CODE.search(name):
        return None
    return rule.replace("_", "-")


def secret_content(data: bytes) -> str | None:
    """The rule by which the content (UTF-8) holds a private key, a token of a well-known form, or a URL with a
    password."""
    if _any().search(data) is None:
        return None
    # A set may run out of memory, and finds nothing then; a pattern goes on, slowly.
    for at in _which().Match(data) or range(len(RULES)):
        rule = RULES[at]
        if any(rule.is_real(*match.groups()) for match in _matches(_compiled(rule.pattern), data)):
            return rule.name
    return None


def _matches(pattern: re2.Pattern[bytes], data: bytes) -> Iterator[re2.Match[bytes]]:
    """As `finditer`, but the character that ends one match may be the one that the next begins behind."""
    match = pattern.search(data)
    while match:
        yield match
        match = pattern.search(data, match.end() - 1)


@cache
def _names() -> re.Pattern[str]:
    return re.compile("|".join(_group(rule, [p for p in rule.patterns if "/" not in p]) for rule in NAMES))


@cache
def _places() -> re.Pattern[str]:
    rules = [(rule, [p for p in rule.patterns if "/" in p]) for rule in NAMES]
    return re.compile("(?:^|/)(?:" + "|".join(_group(rule, places) for rule, places in rules if places) + ")")


def _group(rule: NameRule, patterns: list[str]) -> str:
    return f"(?P<{rule.name.replace('-', '_')}>{'|'.join(map(fnmatch.translate, patterns))})"


@cache
def _any() -> re2.Pattern[bytes]:
    """Finds whatever one of the rules finds."""
    tokens = [rule.pattern.removeprefix(_BEFORE) for rule in RULES if rule.pattern.startswith(_BEFORE)]
    others = [rule.pattern for rule in RULES if not rule.pattern.startswith(_BEFORE)]
    return _compiled(b"|".join([_BEFORE + b"(?:" + b"|".join(tokens) + b")", *others]))


@cache
def _which() -> re2.Set:
    """Tells which of the rules match, by their places in the table."""
    import re2

    patterns = re2.Set.SearchSet(_options())
    for rule in RULES:
        patterns.Add(rule.pattern)
    patterns.Compile()
    return patterns


@cache
def _compiled(pattern: bytes) -> re2.Pattern[bytes]:
    import re2

    return re2.compile(pattern, options=_options())


def _options() -> re2.Options:
    import re2

    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1  # bytes
    options.max_mem = _RE2_MEMORY_BYTES
    return options


_RE2_MEMORY_BYTES = 64 << 20
"""What re2 may use for the states that it builds; ordinary source takes 4 MiB. Out of it, re2 forgets them, and in
the end searches without them, a hundred times slower."""


# What is no placeholder ---------------------------------------------------------------------------------------------

_WORDS = re.compile(
    rb"example|sample|dummy|placeholder|redacted|removed|masked|change[_-]?me|replace|your[_-]?(?:own|token|key|secret|pass|api)|"
    rb"my[_-]?(?:token|secret|key)|not[_-]?a?[_-]?real|fake|t0ken|foobar|deadbeef|cafebabe|lorem|qwerty|x{4}|\*{3}|\.{3}|"
    rb"(?:test|demo|mock)[_-]?(?:token|key|secret)|12345678|98765432|abcdefg|a1b2c3",
    re.IGNORECASE,
)
"""What a generator of tokens writes by chance once in a hundred thousand, and people write where they mean no token."""

_REPEATED = re.compile(rb"(.)\1{5}", re.DOTALL)

_LEAST_DISTINCT = 8
"""Characters that differ in a token. Of twenty random hexadecimal digits, fewer do once in 2000 times."""


def _is_token(secret: bytes) -> bool:
    """Whether the secret looks random: it has no word in it, and no row of letters, and does not repeat itself."""
    if _WORDS.search(secret) or _REPEATED.search(secret) or _is_a_row(secret):
        return False
    return len(set(secret)) >= min(_LEAST_DISTINCT, len(secret) // 2)


def _is_a_row(text: bytes) -> bool:
    """Whether most of the first characters are in the order of the alphabet, forwards or backwards."""
    text = text[:_LONGEST_ROW]
    return sum(abs(b - a) == 1 for a, b in pairwise(text)) * 2 > len(text)


_LONGEST_ROW = 256
"""Characters: longer than nearly all tokens, and looked at in a few microseconds."""


_LEAST_DISTINCT_IN_KEY = 12
"""Characters that differ in the first of a key in base64."""


def _is_key(secret: bytes) -> bool:
    """Whether it is a key, and not many times `X`, or the alphabet."""
    return len(set(secret)) >= _LEAST_DISTINCT_IN_KEY and not _is_a_row(secret)


def _is_encoded_key(secret: bytes) -> bool:
    """Whether there is a key, in base64, between the lines that it stands between."""
    return _is_key(secret) and not re.search(_base64_of(b"-----END"), secret)


_PASSWORD_WORDS = (
    rb"(?:pass(?:word|wd|phrase|w)?|pwd?|pw|secret|token|api|key|auth|cred(?:ential)?s?|user(?:name)?|usr|login|name|admin"
    rb"|root|test(?:ing|er)?|foo|bar|baz|qux|spam|eggs|example|sample|dummy|fake|mock|demo|guest|default|change|me|let|in"
    rb"|my|your|the|some|any|this|is|a|an|to|new|old|db|database|postgres(?:ql)?|mysql|maria|redis|mongo(?:db)?|rabbit(?:mq)?"
    rb"|amqp|ftp|git(?:hub|lab)?|oauth|basic|bearer|x|abc(?:def?)?|xyz|qwerty|asdf|hunter|placeholder|redacted|removed|masked"
    rb"|hidden|null|none|nil|empty|undefined|todo|super|very|strong|safe|secure|private|docker|service|account|host|port|url"
    rb"|uri|value|string|here|word|wrong|bad|good|right|correct|incorrect|invalid|valid|not|no|real|with|and|or|for|of"
    rb"|special|char(?:acter)?s?|encoded|hello|world|alice|bob|open|sesame|proxy|server|client|local|remote|one|two|three|aws|id|access|deadbeef|[^a-z])+"
)
"""What passwords consist of where none is meant; for re2, since many of the words are made of others."""

_LEET = bytes.maketrans(b"013457@$", b"oleastas")

_PLACEHOLDER_HOSTS = (
    rb"(?i)(?:my|your|some|the)?(?:host|hostname|server|proxy|domain|site|address|url|ip|[a-z])\d*"
    rb"|(?:.*\.)?(?:example|foo|bar|baz|foobar|acme|(?:my|your|some)?(?:domain|host|company|corp|site)|test|testing|fake|dummy"
    rb"|somewhere|[a-z])\d*(?:\.[a-z]{2,7}){1,2}"
    rb"|(?:.*\.)?(?:example|test|invalid|localhost|localdomain)"
    rb"|127\..*|0\.0\.0\.0|1\.2\.3\.4|192\.0\.2\..*|198\.51\.100\..*|203\.0\.113\..*|\["
)
"""Hosts that nobody has (RFC 2606, RFC 5737), that are this machine, or that are called by what they are."""

_ESCAPE = re.compile(rb"%[0-9A-Fa-f]{2}")

_VARIABLE = re.compile(rb"\$[A-Za-z_{(]|%(?:[sdv]|\(|[A-Za-z_]+%)|[{}()\[\]<>*]|\.{2}|#")
"""A place where a program or a reader puts something in."""


def _is_password(user: bytes, secret: bytes, host: bytes) -> bool:
    """Whether a URL has a password that is meant, for a host that is meant."""
    if secret == user or _compiled(_PLACEHOLDER_HOSTS).fullmatch(host):
        return False
    if _VARIABLE.search(user) or _VARIABLE.search(secret) or _WORDS.search(secret) or _is_a_row(secret):
        return False
    plain = _ESCAPE.sub(b"-", secret).lower()
    words = _compiled(_PASSWORD_WORDS)
    return not any(words.fullmatch(form) for form in (plain, plain.translate(_LEET)))


def _is_account(secret: bytes) -> bool:
    """Whether it is a user and a password in base64, and the password is meant."""
    try:
        user, colon, password = base64.b64decode(secret, validate=True).partition(b":")
    except ValueError:
        return False
    return bool(colon) and user.isascii() and _is_password(user, password, b"registry.io")


# The forms ----------------------------------------------------------------------------------------------------------

_BEFORE = rb"(?:^|[^0-9A-Za-z]|\\[abfnrtv]|%[0-9A-Fa-f]{2})"
"""What a token begins behind: no letter or digit, unless it belongs to an escape."""

_END = rb"(?:[^0-9A-Za-z]|$)"

_NOISE = (
    rb"(?:\\[nrt]|&#(?:10|13|x[AaDd]);|&nbsp;|<br ?/?>|\xc2\xa0|\xe2\x80\x8b|\xef\xbf\xbd|[0-9]{1,5}[\s:|]"
    rb"""|[bru]["']|[\s"'`+,\\#*/;:|.!%()\[\]{}<>=-])*"""
)
"""What the lines of a key are put together or set off with: quotes, comment signs, diff marks, escaped line ends, line
numbers, spaces that are none of ASCII's, and what could not be decoded."""

_HEADERS = rb"(?:[A-Za-z][0-9A-Za-z-]*: ?[^\n\\\"']*" + _NOISE + rb")*"
"""Of RFC 1421 and OpenPGP."""


def _token(name: str, prefix: bytes, secret: bytes, why: str) -> Rule:
    return Rule(name, _BEFORE + prefix + b"(" + secret + b")", why, _is_token)


def _base64_of(text: bytes) -> bytes:
    """The forms that a text has within others in base64, as a pattern: one for each of the places modulo three that it
    may begin at."""
    forms = []
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + text)
        forms.append(encoded[(before * 8 + 5) // 6 : (before + len(text)) * 8 // 6])
    return b"(?:" + b"|".join(forms) + b")"


RULES: tuple[Rule, ...] = (
    Rule(
        "private-key",
        rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----" + _NOISE + _HEADERS + rb"([0-9A-Za-z+/=]{40})",
        "a key of TLS, SSH or OpenPGP in PEM, between quotes, comment signs or diff marks too",
        _is_key,
    ),
    Rule(
        "private-key-base64",
        b"(?:" + _base64_of(b"PRIVATE KEY-----") + b"|" + _base64_of(b"PRIVATE KEY BLOCK-----") + b")"
        rb"([0-9A-Za-z+/]{24})",
        "a key in PEM, in base64 once more",
        _is_encoded_key,
    ),
    Rule(
        "private-key-putty",
        rb"Private-Lines: ?[0-9]+" + _NOISE + rb"([0-9A-Za-z+/=]{40})",
        "a key of PuTTY",
        _is_key,
    ),
    Rule(
        "private-key-jwk",
        rb"""["']kty\\?["']\s*:\s*\\?["'](?:RSA|EC|OKP)\\?["'][^{}]*["']d\\?["']\s*:\s*\\?["']([0-9A-Za-z_-]{40,})""",
        "a JSON web key",
        _is_key,
    ),
    Rule(
        "private-key-jwk",
        rb"""["']d\\?["']\s*:\s*\\?["']([0-9A-Za-z_-]{40,})\\?["'][^{}]*["']kty\\?["']""",
        "a JSON web key",
        _is_key,
    ),
    Rule(
        "private-key-jwk",
        rb"""["']kty\\?["']\s*:\s*\\?["']oct\\?["'][^{}]*["']k\\?["']\s*:\s*\\?["']([0-9A-Za-z_-]{20,})""",
        "a symmetric JSON web key",
        _is_key,
    ),
    Rule(
        "private-key-jwk",
        rb"""["']k\\?["']\s*:\s*\\?["']([0-9A-Za-z_-]{20,})\\?["'][^{}]*["']kty\\?["']\s*:\s*\\?["']oct\\?["']""",
        "a symmetric JSON web key",
        _is_key,
    ),
    Rule(
        "private-key-wireguard",
        rb"PrivateKey\s*=\s*([0-9A-Za-z+/]{42}[AEIMQUYcgkosw048])=",
        "a key of WireGuard",
        _is_key,
    ),
    Rule("private-key-age", rb"AGE-SECRET-KEY-1([0-9A-Z]{58})", "a key of age", _is_token),
    Rule(
        "url-password",
        rb"""://([^\s/?#@:"'`<>\\,;()|{}$*]*):([^\s/?#@"'`<>\\{}()|*]{6,})@([0-9A-Za-z_.-]+|\[)""",
        "an account at the host of a URL",
        _is_password,
    ),
    Rule(
        "npm-token",
        rb"(?:^|[\n:'\"])_(?:authToken|auth|password)[\"']?\s*[=:]\s*[\"']?([0-9A-Za-z/+_.-]{16,})",
        "a package registry",
        _is_token,
    ),
    Rule(
        "docker-auth",
        rb"""["']auth\\?["']\s*:\s*\\?["']([0-9A-Za-z+/]{16,}={0,2})\\?["']""",
        "a container registry",
        _is_account,
    ),
    Rule(
        "composer-auth",
        rb"""["'](?:github-oauth|gitlab-token|bearer)["']\s*:\s*\{\s*["'][^"'{}]*["']\s*:\s*["']([0-9A-Za-z_-]{20,})["']""",
        "a package registry",
        _is_token,
    ),
    Rule(
        "azure-key",
        rb"(?:AccountKey|SharedAccessKey|SharedSecretKey)=([0-9A-Za-z+/]{43}(?:[0-9A-Za-z+/]{43}=)?)=",
        "a storage account, a service bus, an event hub, or the like",
        _is_token,
    ),
    Rule("azure-secret", rb"[0-9]Q~([0-9A-Za-z_~.-]{31})", "an application at Entra", _is_token),
    Rule(
        "azure-signature",
        rb"[?&;]sig=((?:[0-9A-Za-z+/]|%2[BbFf]){43})(?:%3[Dd]|=)",
        "what a shared access signature was made for",
        _is_token,
    ),
    Rule(
        "aws-secret-key",
        rb"(?i:secret_?access_?key)[\"']?\s{0,5}[:=]>?\s{0,5}[\"']?([0-9A-Za-z+/]{40})(?:[^0-9A-Za-z+/=]|$)",
        "an AWS account",
        _is_token,
    ),
    Rule(
        "slack-webhook",
        rb"hooks\.slack\.com/(?:services|workflows|triggers)/([0-9A-Za-z]{8,}/[0-9A-Za-z]{8,}/[0-9A-Za-z]{20,})",
        "a channel",
        _is_token,
    ),
    Rule(
        "discord-webhook",
        rb"discord(?:app)?\.com/api/webhooks/[0-9]{17,20}/([0-9A-Za-z_-]{60,})",
        "a channel",
        _is_token,
    ),
    Rule(
        "teams-webhook",
        rb"\.webhook\.office\.com/webhookb2/[0-9a-f@-]{30,}/IncomingWebhook/([0-9a-f]{32})",
        "a channel",
        _is_token,
    ),
    Rule("terraform-token", rb"\.atlasv1\.([0-9A-Za-z_=-]{60})", "Terraform Cloud", _is_token),
    # What follows has a prefix of its own.
    _token("1password-token", rb"ops_eyJ", rb"[0-9A-Za-z+/]{64}", "vaults of 1Password"),
    _token("1password-key", rb"A3-[0-9A-Z]{6}-", rb"[0-9A-Z]{6}-?[0-9A-Z]{5}(?:-[0-9A-Z]{5}){3}" + _END, "1Password"),
    _token("adobe-secret", rb"p8e-", rb"[0-9A-Za-z]{32}", "an application at Adobe"),
    _token("airtable-token", rb"pat[0-9A-Za-z]{14}\.", rb"[0-9a-f]{64}", "Airtable"),
    _token("alibaba-key", rb"LTAI", rb"[0-9A-Za-z]{20}" + _END, "Alibaba Cloud"),
    _token("anthropic-key", rb"sk-ant-", rb"[0-9A-Za-z_-]{40,}", "Anthropic's API"),
    _token("artifactory-token", rb"(?:AKCp|cmVmd)", rb"[0-9A-Za-z]{59}", "Artifactory"),
    _token("atlassian-token", rb"(?:ATATT3|ATCTT3)", rb"[0-9A-Za-z_=-]{64,}", "Jira, Confluence"),
    _token("bitbucket-token", rb"ATBB", rb"[0-9A-Za-z]{32}" + _END, "Bitbucket"),
    _token("aws-key", rb"(?:AKIA|ASIA|ABIA|ACCA)", rb"[A-Z2-7]{16}" + _END, "an AWS account"),
    _token("aws-key", rb"ABSK", rb"[0-9A-Za-z+/]{64}", "Amazon Bedrock"),
    _token("buildkite-token", rb"bk[ua]a_", rb"[0-9a-f]{40}", "Buildkite"),
    _token("circleci-token", rb"CCI(?:PAT|PRJ)_", rb"[0-9A-Za-z]{22}_[0-9a-f]{40}", "CircleCI"),
    _token("clickhouse-key", rb"4b1d", rb"[0-9A-Za-z]{38}" + _END, "ClickHouse Cloud"),
    _token("clojars-token", rb"CLOJARS_", rb"[0-9a-z]{60}", "a package registry"),
    _token("cloudflare-key", rb"v1\.0-", rb"[0-9a-f]{24}-[0-9a-f]{64}", "certificates of Cloudflare"),
    _token("contentful-token", rb"CFPAT-", rb"[0-9A-Za-z_-]{43}", "Contentful"),
    _token("databricks-token", rb"dapi", rb"[0-9a-f]{32}" + _END, "Databricks"),
    _token("digitalocean-token", rb"do[opr]_v1_", rb"[0-9a-f]{64}", "DigitalOcean"),
    _token("docker-token", rb"dckr_[po]at_", rb"[0-9A-Za-z_-]{27}", "Docker Hub"),
    _token("doppler-token", rb"dp\.(?:[cps]t|sa|scim|audit)\.", rb"(?:[0-9a-z_-]{2,35}\.)?[0-9A-Za-z]{40}", "Doppler"),
    _token("dropbox-token", rb"sl\.", rb"[0-9A-Za-z_=-]{64}", "Dropbox"),
    _token("duffel-token", rb"duffel_(?:test|live)_", rb"[0-9A-Za-z_=-]{43}", "Duffel"),
    _token("dynatrace-token", rb"dt0[a-z][0-9]{2}\.[0-9A-Z]{24}\.", rb"[0-9A-Z]{64}", "Dynatrace"),
    _token("easypost-key", rb"EZ[AT]K", rb"[0-9A-Za-z]{54}", "EasyPost"),
    _token("facebook-token", rb"EAA[MC]", rb"[0-9A-Za-z]{64}", "a page at Facebook"),
    _token("figma-token", rb"fig[do]_", rb"[0-9A-Za-z_-]{40}" + _END, "Figma"),
    _token("firebase-key", rb"AAAA[0-9A-Za-z_-]{7}:", rb"[0-9A-Za-z_-]{64}", "Firebase messages"),
    _token("flutterwave-key", rb"FLWSECK(?:_TEST)?-", rb"[0-9a-hA-H]{32}-X", "Flutterwave"),
    _token("fly-token", rb"(?:fo1_|fm1[ar]_|fm2_)", rb"[0-9A-Za-z+/_-]{43}", "Fly.io"),
    _token("frameio-token", rb"fio-u-", rb"[0-9A-Za-z_=-]{64}", "Frame.io"),
    _token("github-token", rb"gh[pousr]_", rb"[0-9A-Za-z_]{36,}", "GitHub"),
    _token("github-token", rb"github_pat_", rb"[0-9A-Za-z_]{82}", "GitHub"),
    _token("gitlab-token", rb"gl(?:pat|dt|rt|ptt|ft|soat|ffct|cbt|wt|rtr)-", rb"[0-9A-Za-z_-]{20,}", "GitLab"),
    _token("gitlab-token", rb"gl(?:imt|agent|oas)-", rb"[0-9A-Za-z_-]{25,}", "GitLab"),
    _token("gitlab-token", rb"GR1348941", rb"[0-9A-Za-z_-]{20,}", "runners of GitLab"),
    _token("google-key", rb"AIza", rb"[0-9A-Za-z_-]{35}(?:[^0-9A-Za-z_-]|$)", "Google Cloud"),
    _token("google-secret", rb"GOCSPX-", rb"[0-9A-Za-z_-]{28}", "an application at Google"),
    _token("google-token", rb"ya29\.", rb"[0-9A-Za-z_-]{30,}", "a Google account"),
    _token("google-token", rb"1//0", rb"[0-9A-Za-z_-]{60,}", "a Google account"),
    _token("grafana-token", rb"(?:glc_|eyJrIjoi)", rb"[0-9A-Za-z+/]{64,}", "Grafana"),
    _token("grafana-token", rb"glsa_", rb"[0-9A-Za-z]{32}_[0-9A-Fa-f]{8}", "Grafana"),
    _token("groq-key", rb"gsk_", rb"[0-9A-Za-z]{52}", "Groq's API"),
    _token("harness-token", rb"[ps]at\.[0-9A-Za-z_-]{22}\.[0-9a-f]{24}\.", rb"[0-9A-Za-z]{20}", "Harness"),
    _token("heroku-key", rb"HRKU-", rb"[0-9A-Za-z_-]{58}", "Heroku"),
    _token("huggingface-token", rb"(?:hf_|api_org_)", rb"[A-Za-z]{34}" + _END, "Hugging Face"),
    _token("infracost-token", rb"ico-", rb"[0-9A-Za-z]{32}" + _END, "Infracost"),
    _token("intra42-secret", rb"s-s4t2(?:ud|af)-", rb"[0-9a-f]{64}", "an application at 42"),
    _token("langsmith-key", rb"lsv2_(?:pt|sk)_", rb"[0-9a-f]{32}_[0-9a-f]{10}", "LangSmith"),
    _token("linear-key", rb"lin_(?:api|oauth)_", rb"[0-9A-Za-z]{40}", "Linear"),
    _token("mailchimp-key", rb"", rb"[0-9a-f]{32}-us[0-9]{1,2}" + _END, "Mailchimp"),
    _token("mapbox-token", rb"sk\.eyJ", rb"[0-9A-Za-z_-]{40,}\.[0-9A-Za-z_-]{22}", "Mapbox"),
    _token("netlify-token", rb"nf[pcobu]_", rb"[0-9A-Za-z]{36}", "Netlify"),
    _token("newrelic-key", rb"NR(?:AK|II)-", rb"[0-9A-Za-z-]{27}", "New Relic"),
    _token("notion-token", rb"ntn_", rb"[0-9]{11}[0-9A-Za-z]{35}", "Notion"),
    _token("npm-token", rb"npm_", rb"[0-9A-Za-z]{36}", "a package registry"),
    _token("nuget-key", rb"oy2", rb"[0-9a-z]{43}" + _END, "a package registry"),
    _token("nvidia-key", rb"nvapi-", rb"[0-9A-Za-z_-]{60}", "NVIDIA's API"),
    _token("octopus-key", rb"API-", rb"[0-9A-Z]{26}" + _END, "Octopus Deploy"),
    _token("openai-key", rb"sk-(?:proj|svcacct|admin)-", rb"[0-9A-Za-z_-]{40,}", "OpenAI's API"),
    _token("openai-key", rb"sk-", rb"[0-9A-Za-z]{48}" + _END, "OpenAI's API"),
    _token("openrouter-key", rb"sk-or-v1-", rb"[0-9a-f]{64}", "OpenRouter"),
    _token("openshift-token", rb"sha256~", rb"[0-9A-Za-z_-]{43}", "OpenShift"),
    _token("perplexity-key", rb"pplx-", rb"[0-9A-Za-z]{48}", "Perplexity's API"),
    _token("planetscale-token", rb"pscale_(?:tkn|oauth|pw)_", rb"[0-9A-Za-z_=.-]{32,}", "PlanetScale"),
    _token("postman-key", rb"PMAK-", rb"[0-9a-f]{24}-[0-9a-f]{34}", "Postman"),
    _token("prefect-token", rb"pn[ub]_", rb"[0-9A-Za-z]{36}", "Prefect"),
    _token("pulumi-token", rb"pul-", rb"[0-9a-f]{40}", "Pulumi"),
    _token("pypi-token", rb"pypi-AgE", rb"[0-9A-Za-z_-]{60,}", "a package registry"),
    _token("readme-token", rb"rdme_", rb"[0-9a-z]{60}", "ReadMe"),
    _token("replicate-token", rb"r8_", rb"[0-9A-Za-z]{37}" + _END, "Replicate"),
    _token("rubygems-key", rb"rubygems_", rb"[0-9a-f]{48}", "a package registry"),
    _token("scalingo-token", rb"tk-us-", rb"[0-9A-Za-z_-]{48}", "Scalingo"),
    _token("sendgrid-key", rb"SG\.[0-9A-Za-z_-]{20,24}\.", rb"[0-9A-Za-z_-]{39,50}", "SendGrid"),
    _token("sendinblue-key", rb"xkeysib-", rb"[0-9a-f]{64}-[0-9A-Za-z]{16}", "Brevo"),
    _token("sentry-token", rb"sntry[su]_", rb"[0-9A-Za-z+/=_]{64,}", "Sentry"),
    _token("settlemint-token", rb"sm_[aps]at_", rb"[0-9A-Za-z]{16}", "SettleMint"),
    _token("shippo-token", rb"shippo_(?:live|test)_", rb"[0-9A-Fa-f]{40}", "Shippo"),
    _token("shopify-token", rb"shp(?:at|ca|pa|ss)_", rb"[0-9A-Fa-f]{32}", "a shop at Shopify"),
    _token("slack-token", rb"xox[abceoprs](?:\.xox[bp])?-", rb"[0-9]+-[0-9A-Za-z-]{10,}", "a workspace of Slack"),
    _token("slack-token", rb"xoxd-", rb"[0-9A-Za-z%/+=-]{40,}", "a workspace of Slack"),
    _token("slack-token", rb"xapp-[0-9]-", rb"[0-9A-Z]{8,}-[0-9]{10,}-[0-9a-f]{32,}", "a workspace of Slack"),
    _token("sourcegraph-token", rb"sgp_", rb"(?:(?:[0-9A-Fa-f]{16}|local)_)?[0-9A-Fa-f]{40}", "Sourcegraph"),
    _token("square-token", rb"(?:EAAA|sq0[a-z]{3}-)", rb"[0-9A-Za-z_-]{22,60}" + _END, "Square"),
    _token("stripe-key", rb"[sr]k_(?:live|test|prod)_", rb"[0-9A-Za-z]{24,}", "Stripe"),
    _token("stripe-secret", rb"whsec_", rb"[0-9A-Za-z+/]{32,}", "what Stripe and others call us with"),
    _token("supabase-token", rb"sb(?:p|_secret)_", rb"[0-9A-Za-z_-]{31,}", "Supabase"),
    _token("tailscale-key", rb"tskey-", rb"[0-9A-Za-z-]{30,}", "a network of Tailscale"),
    _token("telegram-token", rb"[0-9]{8,10}:", rb"A[0-9A-Za-z_-]{34}" + _END, "a bot of Telegram"),
    _token("twilio-key", rb"SK", rb"[0-9a-f]{32}" + _END, "Twilio"),
    _token("typeform-token", rb"tfp_", rb"[0-9A-Za-z_.=-]{44,}", "Typeform"),
    _token("vault-token", rb"hv[sbr]\.", rb"[0-9A-Za-z_-]{24,}", "Vault"),
    _token("xai-key", rb"xai-", rb"[0-9A-Za-z]{60}", "xAI's API"),
)
