"""Text of a PDF, by pypdfium2."""

import re
from threading import Lock
from typing import Any

from orchestrator.contracts.errors import DocumentError

__all__ = ["pdf_text"]

_PDFIUM = Lock()  # PDFium may be entered by one thread at a time
_LINE_HYPHEN = re.compile("[\x02\ufffe](.?)", re.S)  # where PDFium joined a word that was hyphenated at a line's end


def pdf_text(content: bytes) -> tuple[str, int]:
    """The text of the pages with a blank line between them, and the number of pages.

    Raises:
        DocumentError: the PDF is damaged, has a password, or has no text.
    """
    import pypdfium2

    with _PDFIUM:
        try:
            document = pypdfium2.PdfDocument(content)
        except pypdfium2.PdfiumError as error:
            if "password" in str(error).lower():
                raise DocumentError("parse", "is a PDF with a password; remove the password first") from error
            raise DocumentError("parse", f"is a PDF that cannot be read: {error}") from error
        try:
            pages = [_page_text(document, number) for number in range(len(document))]
        except pypdfium2.PdfiumError as error:
            raise DocumentError("parse", f"is a PDF of which a page cannot be read: {error}") from error
        finally:
            document.close()
    text = "\n\n".join(page for page in pages if page)
    if not text:
        raise DocumentError(
            "parse", f"is a PDF without text: {len(pages)} page(s) of images alone; run it through OCR first"
        )
    return text, len(pages)


def _page_text(document: Any, number: int) -> str:
    page = document[number]
    try:
        textpage = page.get_textpage()
        try:
            text: str = textpage.get_text_bounded()
        finally:
            textpage.close()
    finally:
        page.close()
    return _LINE_HYPHEN.sub(_join, text.replace("\r\n", "\n")).strip()


def _join(match: re.Match[str]) -> str:
    """A capital after the hyphen tells a compound, whose hyphen stays."""
    following = match[1]
    return f"-{following}" if following.isupper() else following
