"""Text from outside, made fit to be shown: escaped, shortened, without secrets."""

from __future__ import annotations

import re

LIMIT = 80

FORBIDDEN = (
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # C0 and C1 controls, except tab and line ends
    "\u2028\u2029"  # line ends to some readers and not to others
    "\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c"  # change the direction of the text after them
    "\u200b\u2060-\u2064\ufeff"  # not visible
    "\ud800-\udfff\ufffe\uffff"  # not characters
)
"""The inside of a character class: what no text of a spec may hold."""

_UNSHOWABLE = re.compile(f"[{FORBIDDEN}\t\n\r\u200c\u200d]")
_ESCAPES = {"\t": "\\t", "\n": "\\n", "\r": "\\r", "\x1b": "\\e", "\x00": "\\0"}

_SECRET = re.compile(
    r"""
      \b(?:AKIA|ASIA)[0-9A-Z]{16}\b                      # AWS
    | -----BEGIN\ [A-Z ]{0,30}PRIVATE\ KEY-----.*        # PEM
    | \bgh[pousr]_[A-Za-z0-9]{20,}                       # GitHub
    | \bgithub_pat_[A-Za-z0-9_]{20,}
    | \bglpat-[A-Za-z0-9_-]{20,}                         # GitLab
    | \bxox[abeprs]-[A-Za-z0-9-]{10,}                    # Slack
    | \bsk-[A-Za-z0-9_-]{20,}                            # OpenAI and others
    | \bhf_[A-Za-z0-9]{30,}                              # Hugging Face
    | \bAIza[A-Za-z0-9_-]{30,}                           # Google
    | \beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}     # JSON web token
    | \b(?:password|passwd|secret|token|api[_-]?key|access[_-]?key|sig|signature)=[^\s&"'$]{8,}
    | (?<=://)[^\s/@:"']*:[^\s/@"'$]+(?=@)               # user:password of a URL
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SECRET_KEY = re.compile(
    r"(?!pull_secret\b)(?:[a-z0-9]+[_-])*(?:password|passwd|secret|api[_-]?key|secret[_-]?key|"
    r"access[_-]?(?:token|key)|auth[_-]?token|private[_-]?key|credentials?)",
    re.IGNORECASE,
)
_SECRET_ENTRY = re.compile(rf"\b{_SECRET_KEY.pattern}[\"']?\s*:\s*([^,}}]+)", re.IGNORECASE)


def escape(text: str) -> str:
    """The text with every control, bidirectional and invisible character written out."""
    return _UNSHOWABLE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    return _ESCAPES.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def shorten(text: str, limit: int = LIMIT) -> str:
    """The text, cut to `limit` characters, the last of them then `…`."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def show(text: str) -> str:
    """A text from outside, in quotes, for a message."""
    return f'"{shorten(escape(redact(text)))}"'


_HINTS = (
    *("akia", "asia", "-----begin", "github_pat_", "glpat-", "hf_", "aiza", "eyj"),
    *("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "xox", "://"),
    *("password=", "passwd=", "secret=", "token=", "key=", "sig=", "signature="),
)
"""Whatever looks like a secret holds one of these, in small letters, or matches the next."""
_HINT = re.compile(r"sk-[a-z0-9_-]{20}")


def holds_secret(text: str) -> bool:
    """Whether the text looks as if it holds a password, a key or a token."""
    if text.isascii():
        small = text.lower()
        if not any(hint in small for hint in _HINTS) and not _HINT.search(small):
            return False
    return _SECRET.search(text) is not None


def names_secret(key: str) -> bool:
    """Whether the value of a key with this name would be a secret."""
    return _SECRET_KEY.fullmatch(key) is not None


def redact(text: str) -> str:
    """The text with everything that looks like a secret starred out, its length unchanged."""
    text = _SECRET.sub(lambda match: "*" * len(match[0]), text)
    return _SECRET_ENTRY.sub(
        lambda match: match[0][: match.start(1) - match.start()] + "*" * len(match[1]), text
    )
