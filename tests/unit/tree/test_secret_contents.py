"""The tokens here are made up, and put together at run time, so that no scanner takes this file for a leak."""

from __future__ import annotations

import base64
import random
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reposyncd.tree.secret_contents import RULES, secret_content

ALNUM = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
BASE64 = ALNUM + "+/"
UPPER = string.ascii_uppercase + "234567"


def some(count: int, alphabet: str = ALNUM) -> str:
    """As a generator of tokens makes it; the same in each run."""
    return "".join(random.Random(count).choices(alphabet, k=count))


BEGIN, END = "-----BEGIN " + "RSA PRIVATE KEY-----", "-----END " + "RSA PRIVATE KEY-----"
BODY = ["MIIEpAIBAAKCAQEA" + some(48, BASE64), some(64, BASE64), some(30, BASE64) + "=="]


KEYS = {
    "plain": "\n".join([BEGIN, *BODY, END]),
    "dos": "\r\n".join([BEGIN, *BODY, END]),
    "string": 'key = "' + "\\n".join([BEGIN, *BODY, END]) + '"',
    "strings": "\n".join(f'    "{line}\\n"' for line in [BEGIN, *BODY, END]),
    "python": "\n".join(f"    b'{line}\\n'" for line in [BEGIN, *BODY, END]),
    "java": "\n".join(f'    "{line}\\n" +' for line in [BEGIN, *BODY, END]),
    "javascript": ",\n".join(f"  '{line}'" for line in [BEGIN, *BODY, END]),
    **{
        f"behind {mark!r}": "\n".join(mark + line for line in [BEGIN, *BODY])
        for mark in ("# ", "// ", " * ", "> ", "+", "-")
    },
    "diff of a comment": "\n".join("+  # " + line for line in [BEGIN, *BODY]),
    "yaml": "key: |-\n" + "\n".join("    " + line for line in [BEGIN, *BODY, END]),
    "xml": "<key>" + "&#xA;".join([BEGIN, *BODY]),
    "encrypted": "\n".join([BEGIN, "Proc-Type: 4,ENCRYPTED", "DEK-Info: AES-128-CBC,00", "", *BODY]),
    "with an id": "\n".join([BEGIN, "keyID: AWX2:I27X", "", *BODY]),
    "openpgp": "\n".join([BEGIN.replace("RSA PRIVATE KEY", "PGP PRIVATE KEY BLOCK"), "Version: GnuPG v2", "", *BODY]),
    "one line": " ".join([BEGIN, *BODY]),
    "numbered": "\n".join(f"{number:3} {line}" for number, line in enumerate([BEGIN, *BODY])),
    "html": "<br>\n".join([BEGIN, *BODY]),
    "off a page": "\n\u00a0\u00a0".join([BEGIN, *BODY]),
    "what nobody sees": "\u200b\n".join([BEGIN, *BODY]),
    "not decoded": BEGIN + "\n\ufffd" + BODY[0],
}


@pytest.mark.parametrize("text", KEYS.values(), ids=KEYS.keys())
def test_a_private_key_is_found_however_it_is_written_down(text: str) -> None:
    assert secret_content(f"before\n{text}\nafter".encode()) == "private-key"


@pytest.mark.parametrize("before", ["", "\n", "x\n"])
@pytest.mark.parametrize("kind", ["RSA PRIVATE KEY", "PRIVATE KEY", "EC PRIVATE KEY", "PGP PRIVATE KEY BLOCK"])
def test_a_private_key_in_base64_is_found_wherever_it_begins(kind: str, before: str) -> None:
    pem = before + "\n".join([BEGIN.replace("RSA PRIVATE KEY", kind), *BODY])
    assert secret_content(b"client-key-data: " + base64.b64encode(pem.encode())) == "private-key-base64"


def test_the_lines_around_a_key_are_no_key_in_base64_either() -> None:
    assert secret_content(b"tls.key: " + base64.b64encode(f"{BEGIN}\n{END}".encode())) is None


def test_a_password_of_many_words_is_told_from_others_in_the_time_that_it_takes_to_read_it() -> None:
    assert secret_content(b"x://u:" + b"username" * 1000 + b"@db") is None
    assert secret_content(b"x://u:" + b"username" * 1000 + b"q@db") == "url-password"


def test_a_certificate_in_base64_is_none() -> None:
    pem = "\n".join([BEGIN.replace("RSA PRIVATE KEY", "CERTIFICATE"), *BODY])
    assert secret_content(b"certificate-authority-data: " + base64.b64encode(pem.encode())) is None


TOKENS = {
    "private-key-putty": [f"Public-Lines: 1\nAAAA\nPrivate-Lines: 14\n{BODY[1]}\n"],
    "private-key-jwk": [
        f'{{"kty": "EC", "crv": "P-256", "d": "{some(43)}"}}',
        f'{{"d": "{some(43)}", "kty": "OKP"}}',
        f'"{{\\"kty\\":\\"oct\\",\\"k\\":\\"{some(43)}\\"}}"',
    ],
    "private-key-wireguard": [f"PrivateKey = {some(42, BASE64)}8="],
    "private-key-age": ["AGE-SECRET-KEY-1" + some(58, "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L")],
    "aws-key": ["AKIA" + some(16, UPPER), "ASIA" + some(16, UPPER)],
    "aws-secret-key": [f"aws_secret_access_key = {some(40, BASE64)}", f'"SecretAccessKey": "{some(40, BASE64)}"'],
    "azure-key": [f"AccountKey={some(86, BASE64)}==", f"SharedAccessKey={some(43, BASE64)}="],
    "azure-signature": [f"https://a.blob.core.windows.net/c?sv=2022&sig={some(43)}%3D"],
    "azure-secret": [f"abc8Q~{some(34)}"],
    "github-token": [
        *("gh" + kind + "_" + some(36) for kind in "pousr"),
        "gho_" + some(60),
        "ghs_" + some(200),
        "github_pat_" + some(22) + "_" + some(59),
    ],
    "gitlab-token": ["glpat-" + some(20), "glrt-" + some(20), "gldt-" + some(20), f"glpat-{some(40)}.01.{some(9)}"],
    "google-key": ["AIza" + some(35)],
    "google-secret": ["GOCSPX-" + some(28)],
    "google-token": ["ya29." + some(60)],
    "vault-token": ["hvs." + some(90)],
    "databricks-token": ["dapi" + some(32, HEX)],
    "atlassian-token": ["ATATT3" + some(186)],
    "slack-token": [
        f"xoxb-{some(12, HEX[:10])}-{some(24)}",
        f"xoxc-{some(12, HEX[:10])}-{some(12, HEX[:10])}-{some(64, HEX)}",
        f"xapp-1-A{some(10, UPPER)}-{some(13, HEX[:10])}-{some(64, HEX)}",
    ],
    "slack-webhook": [f"https://hooks.slack.com/services/T{some(8)}/B{some(9)}/{some(24)}"],
    "stripe-key": ["sk_live_" + some(24), "rk_live_" + some(99)],
    "stripe-secret": ["whsec_" + some(32)],
    "npm-token": ["npm_" + some(36), f"//registry.npmjs.org/:_authToken={some(36)}"],
    "pypi-token": ["pypi-AgEIcHlwaS5vcmc" + some(70)],
    "anthropic-key": ["sk-ant-api03-" + some(93)],
    "openai-key": ["sk-proj-" + some(80), "sk-" + some(48)],
    "sendgrid-key": [f"SG.{some(22)}.{some(43)}"],
    "docker-token": ["dckr_pat_" + some(27)],
    "docker-auth": [f'{{"auths": {{"r.io": {{"auth": "{base64.b64encode(b"me:" + some(12).encode()).decode()}"}}}}}}'],
    "composer-auth": [f'{{"github-oauth": {{"github.com": "{some(40, HEX)}"}}}}'],
    "huggingface-token": ["hf_" + some(34, string.ascii_letters)],
    "twilio-key": ["SK" + some(32, HEX)],
    "mailchimp-key": [some(32, HEX) + "-us12"],
    "url-password": [
        f"postgres://app:{some(12)}@db.prod.internal:5432/app",
        "https://deploy:" + "kitchenstapler" + "@git.nimbus.io/x.git",
        "redis://:" + "hT%23" + some(8) + "@redis:6379",
        "amqp://svc:" + "pl4in-Word!" + "@10.0.0.7/",
    ],
}


@pytest.mark.parametrize(("rule", "text"), [(rule, text) for rule, texts in TOKENS.items() for text in texts])
def test_keys_and_tokens_are_known_by_their_form(rule: str, text: str) -> None:
    for around in ("before\n{}\nafter", "{}", 'x = "{}"'):
        assert secret_content(around.replace("{}", text).encode()) == rule


@pytest.mark.parametrize("before", ["_", "=", "TOKEN_", '"', "/", "é", "\\n", "a\\t", "%20", "?t%3D"])
def test_a_token_is_found_right_behind_whatever_is_no_part_of_it(before: str) -> None:
    assert secret_content((before + "ghp_" + some(36)).encode()) == "github-token"


@pytest.mark.parametrize(
    "text",
    [
        f'if line.startswith("{BEGIN}"):\n    parse(line)\n',
        "\n".join([BEGIN, "X" * 64, "X" * 64, END]),
        "\n".join([BEGIN, "MII...", END]),
        "-----BEGIN PUBLIC KEY-----\n" + BODY[0],
        "ghp_short, AKIAlower, sk-learn, npm_config_registry, xoxo",
        "the task-ant-colony algorithm in ask-questions",
        "AKIA" + some(16, UPPER) + "ANDLONGER",
        "AKIA" + "IOSFODNN7EXAMPLE",
        "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYEXAMPLEKEY",
        "token: " + "ghp_" + "x" * 36,
        "token: " + "ghp_" + "0123456789" * 4,
        "glpat-" + "abcdefghijklmnopqrst",
        "glpat-" + "your_token_here_12345",
        "xoxb-" + "1234-56789abcdefghij",
        "sk_test_" + "0" * 24,
        "//registry.npmjs.org/:_authToken=${NPM_TOKEN}",
        '{"kty": "EC", "crv": "P-256", "x": "' + some(43) + '"}',
        '{"auth": "dXNlcjpwYXNzd29yZA=="}',
        "self.force_basic_auth = force_basic_auth_of_the_module",
    ],
)
def test_code_about_secrets_is_not_one(text: str) -> None:
    assert secret_content(text.encode()) is None


@pytest.mark.parametrize(
    "url",
    [
        "https://user:password@host/path",
        "postgres://user:pass@localhost:5432/db",
        "mysql://root:secret123@db:3306/x",
        "postgres://postgres:postgres@postgres:5432",
        "https://${USER}:${PASSWORD}@registry.nimbus.io/",
        "https://{user}:{password}@registry.nimbus.io/",
        "https://%s:%s@registry.nimbus.io/",
        "https://<user>:<password>@registry.nimbus.io/",
        "https://me:xxxxxxxx@registry.nimbus.io/",
        "https://me:********@registry.nimbus.io/",
        "https://me:REDACTED@registry.nimbus.io/",
        "https://me:my-secret-password@registry.nimbus.io/",
        "dynamodb://aws_access_key_id:aws_secret_access_key@region:8000/table",
        "https://me:p4ssw0rd@registry.nimbus.io/",
        "https://admin:s3cr3t!@registry.nimbus.io/",
        "ftp://joe:" + some(12) + "@ftp.example.com/",
        "http://joe:" + some(12) + "@127.0.0.1:8000/",
        "http://one:two%3F@www.site.com/",
        "https://host.name:8080/user@page",
        "git+ssh://git@github.com:org/repo.git",
        "socks5://proxy.nimbus.io:1080",
    ],
)
def test_a_url_of_the_documentation_is_no_secret(url: str) -> None:
    assert secret_content(f"see {url} for more".encode()) is None


def test_a_placeholder_does_not_hide_the_secret_behind_it() -> None:
    text = "ghp_" + "x" * 36 + "\nghp_" + some(36)
    assert secret_content(text.encode()) == "github-token"


@pytest.mark.parametrize("between", ["\n", ",", " ", "'", ", "])
def test_a_placeholder_does_not_hide_the_secret_beside_it(between: str) -> None:
    placeholder = "AK" + "IA" + "IOSFODNN7EXAMPLE"
    assert secret_content(f"{placeholder}{between}{placeholder}".encode()) is None
    assert secret_content(f"{placeholder}{between}{'AK' + 'IA'}{some(16, UPPER)}".encode()) == "aws-key"


def test_every_rule_has_a_name_and_says_what_it_protects() -> None:
    for rule in RULES:
        assert rule.name and rule.why


@settings(deadline=None)  # the first example compiles the rules
@given(data=st.binary(max_size=300), at=st.integers(0, 300), rule=st.sampled_from(sorted(TOKENS)))
def test_a_token_is_found_in_the_midst_of_anything(data: bytes, at: int, rule: str) -> None:
    text = TOKENS[rule][0].encode()
    assert secret_content(data[:at] + b"\n" + text + b"\n" + data[at:]) is not None
