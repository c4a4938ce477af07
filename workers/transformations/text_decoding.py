"""Bytes to text: UTF-8 wherever it can be, else what the document declares, else what its bytes look like."""

import codecs
import re
from typing import NamedTuple

from workers.transformations.media_type import refusal

__all__ = ["DecodedText", "decode_text"]

_SAMPLE_BYTES = 256 * 1024  # detection reads no further: 30 ms at most
_MAX_CONTROL_SHARE = 0.05  # random bytes have 0.11; texts with a few NULs or escape sequences in them far less
_MAX_REPLACED_SHARE = 0.3  # a text of which more cannot be decoded is none

_BOMS = (  # UTF-32 first: its mark begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# All of C0 but what texts contain: backspace, tab, line feed, vertical tab, form feed, carriage return, escape.
_CONTROLS = bytes(code for code in range(32) if code not in b"\b\t\n\v\f\r\x1b") + b"\x7f"
_DECLARED = re.compile(rb"""(?:charset\s*=|encoding\s*=)\s*["']?([\w.:-]+)""", re.I)

# Encodings that files are found in. Of those that fit a text equally well, the one named first is taken.
_LEGACY = [
    *("cp932", "euc_jp", "gb18030", "big5", "cp949", "cp1252"),
    *("cp1255", "cp1251", "koi8_r", "cp1250", "iso8859_2", "cp1253", "cp1254", "cp1256", "cp874"),
]
# Differences of charset-normalizer's marks below which two encodings fit equally well; found by trial on short
# texts in 18 encodings.
_EQUAL_CHAOS = 0.06
_EQUAL_COHERENCE = 0.01


class DecodedText(NamedTuple):
    """A text, the encoding it was in, and how many U+FFFD stand where bytes could not be decoded."""

    text: str
    encoding: str
    replaced: int


def decode_text(content: bytes) -> DecodedText:
    """The text in these bytes.

    Raises:
        DocumentError: they are no text.
    """
    decoded = _decode(content)
    if decoded.replaced > _MAX_REPLACED_SHARE * len(decoded.text):
        raise refusal(f"binary data, or damaged {decoded.encoding} text")
    return decoded


def _decode(content: bytes) -> DecodedText:
    for mark, codec in _BOMS:
        if content.startswith(mark):
            return _replacing(content, codec)
    sample = content[:_SAMPLE_BYTES]
    if 0 in sample and (wide := _utf16_without_mark(sample)):
        return _replacing(content, wide)
    controls = len(sample) - len(sample.translate(None, _CONTROLS))
    if controls > _MAX_CONTROL_SHARE * len(sample):
        raise refusal("binary data")
    try:
        return DecodedText(content.decode(), "utf-8", 0)
    except UnicodeDecodeError:
        return _replacing(content, _legacy_encoding(sample))


def _replacing(content: bytes, codec: str) -> DecodedText:
    text = content.decode(codec, "replace")
    known = content.count(b"\xef\xbf\xbd") if codec.startswith("utf-8") else 0
    return DecodedText(text, codec.removesuffix("-sig"), text.count("\ufffd") - known)


def _utf16_without_mark(sample: bytes) -> str | None:
    """UTF-16 of a Latin script, told by the zeros in every other byte."""
    pairs = len(sample) // 2
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    if odd > 0.5 * pairs and even < 0.05 * pairs:
        return "utf-16-le"
    if even > 0.5 * pairs and odd < 0.05 * pairs:
        return "utf-16-be"
    return None


def _legacy_encoding(sample: bytes) -> str:
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(sample)
    broken = text.count("\ufffd")
    if sum(not character.isascii() for character in text) > 2 * broken:
        return "utf-8"  # damaged, but too much of it is valid to be chance
    declared = _DECLARED.search(sample[:1024])
    if declared and _decodes(sample, declared[1].decode("ascii", "replace")):
        return declared[1].decode("ascii").lower()
    return _detected(sample)


def _decodes(sample: bytes, codec: str) -> bool:
    try:
        codecs.getincrementaldecoder(codec)("strict").decode(sample)
    except (LookupError, UnicodeError):  # an unknown name, or one that lies
        return False
    return True


def _detected(sample: bytes) -> str:
    import charset_normalizer

    whole_lines = sample[: sample.rfind(b"\n") + 1] or sample  # a cut character would rule its encoding out
    matches = charset_normalizer.from_bytes(whole_lines, cp_isolation=_LEGACY)
    best = matches.best()
    if best is None:
        return "cp1252"  # what browsers do
    fitting = {
        encoding
        for match in matches
        if match.chaos <= best.chaos + _EQUAL_CHAOS and match.coherence >= best.coherence - _EQUAL_COHERENCE
        for encoding in match.could_be_from_charset
    }
    return next((encoding for encoding in _LEGACY if encoding in fitting), best.encoding)
