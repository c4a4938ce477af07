"""Text of a DOCX: paragraphs and tables of its body, streamed from the XML."""

import re
import zipfile
from io import BytesIO
from xml.parsers import expat

from orchestrator.contracts.errors import DocumentError
from workers.transformations.media_type import DAMAGED_ZIP

__all__ = ["docx_text"]

_MAX_XML_BYTES = 128 * 1024 * 1024  # a ZIP bomb stops here; the text of a thousand pages is some 20 MB of XML
_CHUNK_BYTES = 1024 * 1024
_BODY = re.compile(r"word/document\d*\.xml")

_TEXT = "t"
_BREAKS = {"br": "\n", "cr": "\n", "tab": "\t", "noBreakHyphen": "-"}
# Properties (where `tab` is a stop, not a character), field codes, and the second copy of a text box for old readers.
_SKIPPED = frozenset({"pPr", "rPr", "tblPr", "trPr", "tcPr", "sectPr", "instrText", "Fallback", "del", "moveFrom"})


def docx_text(content: bytes) -> str:
    """Paragraphs with a blank line between them; a table has a line a row and a tab between cells.

    Raises:
        DocumentError: the file is damaged, encrypted, a bomb, or declares a document type.
    """
    reader = _BodyReader()
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            body = next((name for name in archive.namelist() if _BODY.fullmatch(name)), None)
            if body is None:
                raise DocumentError("parse", "is a DOCX without word/document.xml")
            size = 0
            with archive.open(body) as stream:
                while chunk := stream.read(_CHUNK_BYTES):
                    size += len(chunk)
                    if size > _MAX_XML_BYTES:
                        raise DocumentError(
                            "parse", f"is a DOCX that unpacks to more than {_MAX_XML_BYTES >> 20} MB; split it"
                        )
                    reader.feed(chunk)
            reader.close()
    except (*DAMAGED_ZIP, expat.ExpatError) as error:
        raise DocumentError("parse", f"is a DOCX that cannot be read: {error}") from error
    except RuntimeError as error:  # zipfile's word for an encrypted entry
        raise DocumentError("parse", f"is a DOCX that cannot be read, as it is encrypted: {error}") from error
    return reader.text()


class _BodyReader:
    """Collects the text while expat reads.

    No tree is built, so its depth does not matter; a document type is refused, and with it every entity of its own.
    """

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._in_text = False
        self._skipped = 0  # open elements, counted from the outermost that is skipped
        self._cells = 0  # open table cells; a paragraph within one does not end a line
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = self._refuse_doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters

    def feed(self, data: bytes) -> None:
        self._parser.Parse(data, False)

    def close(self) -> None:
        self._parser.Parse(b"", True)

    def text(self) -> str:
        joined = "".join(self._pieces)
        trimmed = re.sub(r"(?<![ \t])[ \t]+$", "", joined, flags=re.M)
        return re.sub(r"\n{3,}", "\n\n", trimmed).strip("\n")

    def _refuse_doctype(self, *_: object) -> None:
        raise DocumentError("parse", "is a DOCX that declares a document type, which Word never does; refused")

    def _start(self, name: str, _attributes: dict[str, str]) -> None:
        local = name.rpartition(":")[2]
        if self._skipped or local in _SKIPPED:
            self._skipped += 1
        elif local == _TEXT:
            self._in_text = True
        elif local in _BREAKS:
            self._pieces.append(_BREAKS[local])
        elif local == "tc":
            self._cells += 1
        elif local == "tbl" and not self._cells:
            self._pieces.append("\n\n")

    def _end(self, name: str) -> None:
        local = name.rpartition(":")[2]
        if self._skipped:
            self._skipped -= 1
        elif local == _TEXT:
            self._in_text = False
        elif local == "p":
            self._pieces.append(" " if self._cells else "\n\n")
        elif local == "tc":
            self._cells -= 1
            if self._pieces[-1:] == [" "]:
                self._pieces.pop()
            self._pieces.append(" " if self._cells else "\t")
        elif local == "tr":
            self._pieces.append(" " if self._cells else "\n")
        elif local == "tbl" and not self._cells:
            self._pieces.append("\n")

    def _characters(self, data: str) -> None:
        if self._in_text and not self._skipped:
            self._pieces.append(data)
