"""Sealed texts between maker and taker. What a stranger wrote is made harmless before anybody reads it."""

import unicodedata

from dhtex import limits
from dhtex.market.identity import Identity, seal


def seal_text(text: str, recipient: bytes, entropy32: bytes) -> bytes | None:
    """Seal a text; empty bytes for an empty one, None when the recipient's key cannot be used."""
    return seal(recipient, text.encode(), entropy32) if text else b""


def open_text(identity: Identity, sealed: bytes) -> str:
    """The text that was sealed to us, or an empty one. Control and invisible characters are replaced."""
    clear = identity.open(sealed) if sealed else None
    if clear is None or len(clear) > limits.MESSAGE_BYTES_MAX:
        return ""
    text = clear.decode("utf-8", "replace")
    return "".join("\ufffd" if unicodedata.category(character)[0] == "C" else character for character in text)
