"""Free text that people type: reasons and comments."""

from __future__ import annotations

import html
import unicodedata

import bleach

_MOST_LAYERS = 10


def cleaned(text: str) -> str:
    """Without tags and comments, as people read it: `Smith & Sons` stays, `<b>urgent</b>` becomes `urgent`.

    bleach answers in HTML, so its entities are decoded again; that is repeated until nothing changes, because decoding
    `&lt;script&gt;` makes a tag where there was none.
    """
    text = unicodedata.normalize("NFC", text)
    for _ in range(_MOST_LAYERS):
        if "<" not in text and "&" not in text:
            return text.strip()
        plain = html.unescape(bleach.clean(text, tags=set(), attributes={}, strip=True, strip_comments=True))
        if plain == text:
            return text.strip()
        text = plain
    return text.replace("<", "").strip()  # somebody is playing: nothing that opens a tag is left


def is_printable(text: str) -> bool:
    """No control characters but line breaks and tabs, no broken Unicode."""
    return not any(unicodedata.category(char) in ("Cc", "Cs") and char not in "\t\n\r" for char in text)
