"""What a file is: by its content first, by the suffix of its name second."""

import lzma
import re
import struct
import zipfile
import zlib
from enum import StrEnum
from io import BytesIO
from posixpath import splitext
from urllib.parse import urlsplit

from orchestrator.contracts.errors import DocumentError

__all__ = ["DAMAGED_ZIP", "MediaType", "refusal", "sniff_binary", "sniff_text"]


class MediaType(StrEnum):
    """What `parse` can read. JSON, CSV, XML, source code and the like are plain text."""

    TEXT = "text/plain"
    MARKDOWN = "text/markdown"
    HTML = "text/html"
    PDF = "application/pdf"
    DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


_ALLOWED = "text in any encoding, Markdown, HTML, PDF and DOCX"

_HEAD_BYTES = 1024  # Acrobat looks for %PDF- this far, browsers for <meta charset>
_SUFFIXES = {
    **dict.fromkeys((".md", ".markdown", ".mdown", ".mkd", ".mdx"), MediaType.MARKDOWN),
    **dict.fromkeys((".html", ".htm", ".xhtml"), MediaType.HTML),
}
# Only comments, an XML declaration and white space may stand before the root of an HTML page.
_HTML_START = re.compile(r"(?>\s+|<\?xml[^>]*>|<!--.*?-->)*+<(?:!doctype\s+html|html|head|body)\b", re.I | re.S)

_MAGIC = (
    (b"{\\rtf", "RTF"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF87a", "a GIF image"),
    (b"GIF89a", "a GIF image"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh91AY&SY", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"\x7fELF", "a program"),
    (b"OggS\x00", "an Ogg recording"),
    (b"ID3\x03", "an MP3 recording"),
    (b"ID3\x04", "an MP3 recording"),
)
_MAGICS = tuple(magic for magic, _ in _MAGIC)
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
# What `zipfile` raises on damaged archives, besides RuntimeError on encrypted ones; OSError is that of bzip2.
DAMAGED_ZIP = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, NotImplementedError, OSError, ValueError),
)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def refusal(appearance: str) -> DocumentError:
    """The error for a file that `parse` does not read."""
    return DocumentError("parse", f"looks like {appearance}; allowed: {_ALLOWED}")


def sniff_binary(content: bytes) -> MediaType | None:
    """PDF or DOCX; None for what may be a text.

    Raises:
        DocumentError: the content is of another kind; the message names it.
    """
    head = content[:_HEAD_BYTES]
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"%PDF-"):
        return MediaType.PDF
    if b"%PDF-" in head and b"%%EOF" in content[-2 * _HEAD_BYTES :]:  # mailers and printers put lines in front
        return MediaType.PDF
    if content.startswith(_ZIP):
        return _sniff_zip(content)
    if content.startswith(_OLE):
        if "EncryptedPackage".encode("utf-16-le") in content:
            raise refusal("an Office document with a password")
        raise refusal("an Office or Outlook file of the old kind (doc, xls, ppt, msg)")
    if content[:4] == b"RIFF" and content[8:12] in (b"WEBP", b"WAVE", b"AVI "):
        raise refusal("a RIFF image, recording or film")
    if content[4:8] == b"ftyp":
        raise refusal("an MP4 film")
    if content.startswith(_MAGICS):
        raise refusal(next(kind for magic, kind in _MAGIC if content.startswith(magic)))
    return None


def _sniff_zip(content: bytes) -> MediaType:
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            names = archive.namelist()
    except DAMAGED_ZIP as error:
        raise refusal(f"a damaged ZIP archive or Office document ({error})") from error
    folders = {name.partition("/")[0] for name in names}
    if "word" in folders:
        return MediaType.DOCX
    if "ppt" in folders:
        raise refusal("PPTX, a presentation")
    if "xl" in folders:
        raise refusal("XLSX, a spreadsheet")
    if "mimetype" in names:
        raise refusal("EPUB, a book" if "META-INF/container.xml" in names else "an OpenDocument file (odt, ods, odp)")
    raise refusal("a ZIP archive")


def sniff_text(text: str, source: object) -> MediaType:
    """HTML by how a text begins; else Markdown or HTML by the suffix of its source, a path or an address."""
    if _HTML_START.match(text, 0, 4 * _HEAD_BYTES):
        return MediaType.HTML
    if not isinstance(source, str):
        return MediaType.TEXT
    path = urlsplit(source).path if "://" in source else source
    return _SUFFIXES.get(splitext(path.rstrip("/"))[1].lower(), MediaType.TEXT)
