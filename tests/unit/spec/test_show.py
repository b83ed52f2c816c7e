"""Text of a message: escaped, short, without secrets."""

from __future__ import annotations

import pytest

from mlspec.spec.show import escape, holds_secret, names_secret, redact, show


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ü 日本", "plain ü 日本"),
        ("a\x1b[31mb", "a\\e[31mb"),
        ("a\nb\tc\x00", "a\\nb\\tc\\0"),
        ("\u202e\u200b\x9b", "\\u202e\\u200b\\x9b"),
    ],
)
def test_escape(text: str, shown: str) -> None:
    assert escape(text) == shown


def test_show_is_quoted_and_at_most_80_characters() -> None:
    assert show("a") == '"a"'
    assert len(show("x" * 1000)) == 82


@pytest.mark.parametrize(
    "secret",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "ghp_" + "a" * 36,
        "glpat-" + "a" * 20,
        "xoxb-1234567890-abc",
        "hf_" + "a" * 34,
        "sk-" + "a" * 40,
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc",
        "--password=hunter2hunter2",
        "https://user:hunter2@example.org/x",
        "https://example.org/a?token=0123456789",
    ],
)
def test_secrets_are_seen_and_starred_out(secret: str) -> None:
    assert holds_secret(secret)
    hidden = redact(f"before {secret} after")
    assert len(hidden) == len(f"before {secret} after")
    assert "*" * 7 in hidden
    assert not holds_secret(hidden) or "*" in hidden


@pytest.mark.parametrize(
    "text",
    [
        "tokens = words", "https://example.org:8080/a@b", "git@example.org:team/a.git",
        "the password of the export", "--tokenizer=wordpiece-uncased", "--token=$TOKEN",
        "sk-learn", "risk-assessment-of-a-loan-with-a-long-name", "AKIA", "ssh://git@example.org/a",
    ],
)  # fmt: skip
def test_ordinary_text_is_no_secret(text: str) -> None:
    assert not holds_secret(text)
    assert redact(text) == text


@pytest.mark.parametrize(
    ("key", "secret"),
    [("password", True), ("db_password", True), ("api-key", True), ("tokenizer", False),
     ("key", False), ("pull_secret", False), ("secret_santa", False), ("max_tokens", False)],
)  # fmt: skip
def test_names_of_secrets(key: str, secret: bool) -> None:
    assert names_secret(key) is secret
