"""Secrets in the content of files, recognised by their form. Such files are never indexed, unless the user allows it.

`RULES` is the table. `secret_content` returns which rule a content matches, and never the secret itself.

The forms of tokens (prefix, alphabet, length) are those that their issuers publish, and that gitleaks, detect-secrets
and ripsecrets search for. Two things are not searched for, because they have no form of their own: assignments such as
`password = "..."`, and strings of high entropy, most of which are hashes in source code. JSON web tokens are left out
too: they expire, and most of those in source code are examples.

All rules together are one regular expression, which re2 searches for at about 500 MB/s. Only a file that it matches is
checked rule by rule. Raise `reposyncd.tree.VERSION` with every change here.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from reposyncd.tree.placeholders import is_account, is_key, is_password, is_token
from reposyncd.tree.regex import byte_options, compiled

if TYPE_CHECKING:
    import re2


class Rule(NamedTuple):
    """One form of secret."""

    name: str
    pattern: bytes
    """a regular expression of RE2, over bytes"""
    why: str
    """what the secret gives access to"""
    is_real: Callable[..., bool]
    """takes the groups of a match, and returns whether it is a secret and not a placeholder"""


_TOKEN_START = rb"(?:^|[^0-9A-Za-z]|\\[abfnrtv]|%[0-9A-Fa-f]{2})"
"""What precedes a token: anything but a letter or digit, unless that belongs to an escape sequence."""

_END = rb"(?:[^0-9A-Za-z]|$)"

_NOISE = (
    rb"(?:\\[nrt]|&#(?:10|13|x[AaDd]);|&nbsp;|<br ?/?>|\xc2\xa0|\xe2\x80\x8b|\xef\xbf\xbd|[0-9]{1,5}[\s:|]"
    rb"""|[bru]["']|[\s"'`+,\\#*/;:|.!%()\[\]{}<>=-])*"""
)
"""What may be between the lines of a key: quotes, comment signs, diff marks, escaped line ends, line numbers, spaces
beyond ASCII, and characters that could not be decoded."""

_HEADERS = rb"(?:[A-Za-z][0-9A-Za-z-]*: ?[^\n\\\"']*" + _NOISE + rb")*"
"""Header lines of RFC 1421 and OpenPGP, before the key itself."""


def _token(name: str, prefix: bytes, secret: bytes, why: str) -> Rule:
    return Rule(name, _TOKEN_START + prefix + b"(" + secret + b")", why, is_token)


def _base64_of(text: bytes) -> bytes:
    """A pattern that finds the text inside a longer text in base64. The encoded form depends on the offset of the text,
    modulo three, so there are three alternatives."""
    forms = []
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + text)
        forms.append(encoded[(before * 8 + 5) // 6 : (before + len(text)) * 8 // 6])
    return b"(?:" + b"|".join(forms) + b")"


def _is_encoded_key(secret: bytes) -> bool:
    """Whether there is a key, in base64, between the first and the last line of a PEM file in base64."""
    return is_key(secret) and not re.search(_base64_of(b"-----END"), secret)


RULES: tuple[Rule, ...] = (
    Rule(
        "private-key",
        rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----" + _NOISE + _HEADERS + rb"([0-9A-Za-z+/=]{40})",
        "a key of TLS, SSH or OpenPGP in PEM, between quotes, comment signs or diff marks too",
        is_key,
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
        is_key,
    ),
    Rule(
        "private-key-jwk",
        rb"""["']kty\\?["']\s*:\s*\\?["'](?:RSA|EC|OKP)\\?["'][^{}]*["']d\\?["']\s*:\s*\\?["']([0-9A-Za-z_-]{40,})""",
        "a JSON web key",
        is_key,
    ),
    Rule(
        "private-key-jwk",
        rb"""["']d\\?["']\s*:\s*\\?["']([0-9A-Za-z_-]{40,})\\?["'][^{}]*["']kty\\?["']""",
        "a JSON web key",
        is_key,
    ),
    Rule(
        "private-key-jwk",
        rb"""["']kty\\?["']\s*:\s*\\?["']oct\\?["'][^{}]*["']k\\?["']\s*:\s*\\?["']([0-9A-Za-z_-]{20,})""",
        "a symmetric JSON web key",
        is_key,
    ),
    Rule(
        "private-key-jwk",
        rb"""["']k\\?["']\s*:\s*\\?["']([0-9A-Za-z_-]{20,})\\?["'][^{}]*["']kty\\?["']\s*:\s*\\?["']oct\\?["']""",
        "a symmetric JSON web key",
        is_key,
    ),
    Rule(
        "private-key-wireguard",
        rb"PrivateKey\s*=\s*([0-9A-Za-z+/]{42}[AEIMQUYcgkosw048])=",
        "a key of WireGuard",
        is_key,
    ),
    Rule("private-key-age", rb"AGE-SECRET-KEY-1([0-9A-Z]{58})", "a key of age", is_token),
    Rule(
        "url-password",
        rb"""://([^\s/?#@:"'`<>\\,;()|{}$*]*):([^\s/?#@"'`<>\\{}()|*]{6,})@([0-9A-Za-z_.-]+|\[)""",
        "an account at the host of a URL",
        is_password,
    ),
    Rule(
        "npm-token",
        rb"(?:^|[\n:'\"])_(?:authToken|auth|password)[\"']?\s*[=:]\s*[\"']?([0-9A-Za-z/+_.-]{16,})",
        "a package registry",
        is_token,
    ),
    Rule(
        "docker-auth",
        rb"""["']auth\\?["']\s*:\s*\\?["']([0-9A-Za-z+/]{16,}={0,2})\\?["']""",
        "a container registry",
        is_account,
    ),
    Rule(
        "composer-auth",
        rb"""["'](?:github-oauth|gitlab-token|bearer)["']\s*:\s*\{\s*["'][^"'{}]*["']\s*:\s*["']([0-9A-Za-z_-]{20,})["']""",
        "a package registry",
        is_token,
    ),
    Rule(
        "azure-key",
        rb"(?:AccountKey|SharedAccessKey|SharedSecretKey)=([0-9A-Za-z+/]{43}(?:[0-9A-Za-z+/]{43}=)?)=",
        "a storage account, a service bus, an event hub, or the like",
        is_token,
    ),
    Rule("azure-secret", rb"[0-9]Q~([0-9A-Za-z_~.-]{31})", "an application at Entra", is_token),
    Rule(
        "azure-signature",
        rb"[?&;]sig=((?:[0-9A-Za-z+/]|%2[BbFf]){43})(?:%3[Dd]|=)",
        "what a shared access signature was made for",
        is_token,
    ),
    Rule(
        "aws-secret-key",
        rb"(?i:secret_?access_?key)[\"']?\s{0,5}[:=]>?\s{0,5}[\"']?([0-9A-Za-z+/]{40})(?:[^0-9A-Za-z+/=]|$)",
        "an AWS account",
        is_token,
    ),
    Rule(
        "slack-webhook",
        rb"hooks\.slack\.com/(?:services|workflows|triggers)/([0-9A-Za-z]{8,}/[0-9A-Za-z]{8,}/[0-9A-Za-z]{20,})",
        "a channel",
        is_token,
    ),
    Rule(
        "discord-webhook",
        rb"discord(?:app)?\.com/api/webhooks/[0-9]{17,20}/([0-9A-Za-z_-]{60,})",
        "a channel",
        is_token,
    ),
    Rule(
        "teams-webhook",
        rb"\.webhook\.office\.com/webhookb2/[0-9a-f@-]{30,}/IncomingWebhook/([0-9a-f]{32})",
        "a channel",
        is_token,
    ),
    Rule("terraform-token", rb"\.atlasv1\.([0-9A-Za-z_=-]{60})", "Terraform Cloud", is_token),
    # All tokens below have a prefix of their own.
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


def secret_content(data: bytes) -> str | None:
    """The name of the rule that finds a secret in the content (UTF-8); None if there is none.

    Secrets are private keys, tokens of a well-known form, and URLs with a password.
    """
    if _any_rule().search(data) is None:
        return None
    # If the set runs out of memory, it finds nothing. Then each pattern is tried: they still work, but slowly.
    for number in _rule_set().Match(data) or range(len(RULES)):
        rule = RULES[number]
        if any(rule.is_real(*match.groups()) for match in _matches(compiled(rule.pattern), data)):
            return rule.name
    return None


def _matches(pattern: re2.Pattern[bytes], data: bytes) -> Iterator[re2.Match[bytes]]:
    """Like `finditer`, but the last character of a match may also be the first character of the next match."""
    match = pattern.search(data)
    while match:
        yield match
        match = pattern.search(data, match.end() - 1)


@cache
def _any_rule() -> re2.Pattern[bytes]:
    """One pattern that finds everything that any of the rules finds."""
    tokens = [rule.pattern.removeprefix(_TOKEN_START) for rule in RULES if rule.pattern.startswith(_TOKEN_START)]
    others = [rule.pattern for rule in RULES if not rule.pattern.startswith(_TOKEN_START)]
    return compiled(b"|".join([_TOKEN_START + b"(?:" + b"|".join(tokens) + b")", *others]))


@cache
def _rule_set() -> re2.Set:
    """Finds which of the rules match, by their index in `RULES`."""
    import re2

    patterns = re2.Set.SearchSet(byte_options())
    for rule in RULES:
        patterns.Add(rule.pattern)
    patterns.Compile()
    return patterns
