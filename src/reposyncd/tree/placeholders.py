"""Distinguishes secrets from placeholders, which are common in documentation and tests. Decided from the text alone.

Raise `reposyncd.tree.VERSION` with every change here.
"""

from __future__ import annotations

import base64
import re
from itertools import pairwise

from reposyncd.tree.regex import compiled

_WORDS = re.compile(
    rb"example|sample|dummy|placeholder|redacted|removed|masked|change[_-]?me|replace|your[_-]?(?:own|token|key|secret|pass|api)|"
    rb"my[_-]?(?:token|secret|key)|not[_-]?a?[_-]?real|fake|t0ken|foobar|deadbeef|cafebabe|lorem|qwerty|x{4}|\*{3}|\.{3}|"
    rb"(?:test|demo|mock)[_-]?(?:token|key|secret)|12345678|98765432|abcdefg|a1b2c3",
    re.IGNORECASE,
)
"""What people write in placeholders. A random token contains one of these by chance once in a hundred thousand."""

_REPEATED = re.compile(rb"(.)\1{5}", re.DOTALL)

_LEAST_DISTINCT = 8
"""The least number of different characters in a token. Twenty random hexadecimal digits have fewer once in 2000
times."""


def is_token(secret: bytes) -> bool:
    """Whether it looks random: it contains no word, does not repeat itself, and is not in alphabetical order."""
    if _WORDS.search(secret) or _REPEATED.search(secret) or _is_alphabetical(secret):
        return False
    return len(set(secret)) >= min(_LEAST_DISTINCT, len(secret) // 2)


def _is_alphabetical(text: bytes) -> bool:
    """Whether most of its first characters follow the order of the alphabet, forwards or backwards."""
    text = text[:_EXAMINED_AT_MOST]
    return sum(abs(b - a) == 1 for a, b in pairwise(text)) * 2 > len(text)


_EXAMINED_AT_MOST = 256
"""Characters: more than nearly all tokens have, and examined in a few microseconds."""

_LEAST_DISTINCT_IN_KEY = 12
"""The least number of different characters at the beginning of a key in base64."""


def is_key(secret: bytes) -> bool:
    """Whether it is a key, and not, for example, a row of `X`, or the alphabet."""
    return len(set(secret)) >= _LEAST_DISTINCT_IN_KEY and not _is_alphabetical(secret)


_PASSWORD_WORDS = (
    rb"(?:pass(?:word|wd|phrase|w)?|pwd?|pw|secret|token|api|key|auth|cred(?:ential)?s?|user(?:name)?|usr|login|name|admin"
    rb"|root|test(?:ing|er)?|foo|bar|baz|qux|spam|eggs|example|sample|dummy|fake|mock|demo|guest|default|change|me|let|in"
    rb"|my|your|the|some|any|this|is|a|an|to|new|old|db|database|postgres(?:ql)?|mysql|maria|redis|mongo(?:db)?|rabbit(?:mq)?"
    rb"|amqp|ftp|git(?:hub|lab)?|oauth|basic|bearer|x|abc(?:def?)?|xyz|qwerty|asdf|hunter|placeholder|redacted|removed|masked"
    rb"|hidden|null|none|nil|empty|undefined|todo|super|very|strong|safe|secure|private|docker|service|account|host|port|url"
    rb"|uri|value|string|here|word|wrong|bad|good|right|correct|incorrect|invalid|valid|not|no|real|with|and|or|for|of"
    rb"|special|char(?:acter)?s?|encoded|hello|world|alice|bob|open|sesame|proxy|server|client|local|remote|one|two|three|aws|id|access|deadbeef|[^a-z])+"
)
"""What placeholders for passwords consist of. A pattern for re2, since many of the words are made of other ones."""

_LEET = bytes.maketrans(b"013457@$", b"oleastas")

_PLACEHOLDER_HOSTS = (
    rb"(?i)(?:my|your|some|the)?(?:host|hostname|server|proxy|domain|site|address|url|ip|[a-z])\d*"
    rb"|(?:.*\.)?(?:example|foo|bar|baz|foobar|acme|(?:my|your|some)?(?:domain|host|company|corp|site)|test|testing|fake|dummy"
    rb"|somewhere|[a-z])\d*(?:\.[a-z]{2,7}){1,2}"
    rb"|(?:.*\.)?(?:example|test|invalid|localhost|localdomain)"
    rb"|127\..*|0\.0\.0\.0|1\.2\.3\.4|192\.0\.2\..*|198\.51\.100\..*|203\.0\.113\..*|\["
)
"""Hosts that do not exist (RFC 2606, RFC 5737), that are this machine, or whose names say that they are examples."""

_ESCAPE = re.compile(rb"%[0-9A-Fa-f]{2}")

_VARIABLE = re.compile(rb"\$[A-Za-z_{(]|%(?:[sdv]|\(|[A-Za-z_]+%)|[{}()\[\]<>*]|\.{2}|#")
"""A variable, which a program or the reader replaces."""


def is_password(user: bytes, secret: bytes, host: bytes) -> bool:
    """Whether a URL has a real password, for a real host."""
    if secret == user or compiled(_PLACEHOLDER_HOSTS).fullmatch(host):
        return False
    if _VARIABLE.search(user) or _VARIABLE.search(secret) or _WORDS.search(secret) or _is_alphabetical(secret):
        return False
    plain = _ESCAPE.sub(b"-", secret).lower()
    words = compiled(_PASSWORD_WORDS)
    return not any(words.fullmatch(form) for form in (plain, plain.translate(_LEET)))


def is_account(secret: bytes) -> bool:
    """Whether it is a user and a real password, in base64."""
    try:
        user, colon, password = base64.b64decode(secret, validate=True).partition(b":")
    except ValueError:
        return False
    return bool(colon) and user.isascii() and is_password(user, password, b"registry.io")
