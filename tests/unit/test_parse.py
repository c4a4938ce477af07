"""Parse: what becomes of every kind of file, and of characters that cannot be stored."""

import zipfile
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.contracts.errors import DocumentError
from orchestrator.contracts.nodes import Node
from workers.transformations import Parse
from workers.transformations import docx_text as docx_module

DOCX_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
FRENCH = "Voilà un résumé très court des événements où l'été fut chaud. Ça va déjà mieux, n'est-ce pas?\n"
LEGACY = {
    "cp1252": FRENCH,
    "cp1251": "Это небольшой русский текст для проверки кодировки. Он состоит из нескольких предложений.",
    "koi8_r": "Это небольшой русский текст для проверки кодировки. Он состоит из нескольких предложений.",
    "cp1250": "Příliš žluťoučký kůň úpěl ďábelské ódy. To je krátký český text.",
    "cp1253": "Αυτό είναι ένα μικρό ελληνικό κείμενο.",
    "cp932": "これは日本語の文章です。文字コードの判定を試験します。",
    "euc_jp": "これは日本語の文章です。文字コードの判定を試験します。",
    "big5": "這是一個用來測試編碼檢測的句子。裡面有一些常見的詞語。",
    "cp949": "이것은 한국어 문장입니다. 인코딩 감지를 시험합니다.",
}


def parse(content: bytes, source: object = None, **metadata: Any) -> Node:
    """The node that Parse makes of the bytes of one file."""
    if source is not None:
        metadata["source"] = source
    (node,) = Parse()([Node(text="", metadata=metadata, content=content)])
    return node


def refused(content: bytes, source: str | None = None) -> str:
    """Why Parse refuses the bytes of one file."""
    with pytest.raises(DocumentError) as caught:
        parse(content, source)
    assert caught.value.stage == "parse"
    return caught.value.reason


def make_pdf(pages: list[str], *, encrypted: bool = False) -> bytes:
    """A small PDF, one line of text a page; where encrypted, under a password that nobody knows."""
    count = len(pages)
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Count {count}/Kids[{' '.join(f'{4 + 2 * i} 0 R' for i in range(count))}]>>".encode(),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    for index, text in enumerate(pages):
        stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode() if text else b""
        objects.append(
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F1 3 0 R>>>>/Contents %d 0 R>>"
            % (5 + 2 * index)
        )
        objects.append(b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream))
    out, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj%s\nendobj\n" % (number, body)
    locked = b"/Encrypt<</Filter/Standard/V 1/R 2/P -4/O<%s>/U<%s>>>/ID[<00><00>]" % (b"00" * 32, b"11" * 32)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    trailer = b"trailer<</Size %d/Root 1 0 R%s>>\n" % (len(objects) + 1, locked if encrypted else b"")
    return out + head + table + trailer + b"startxref\n%d\n%%%%EOF\n" % len(out)


def make_zip(**files: str) -> bytes:
    """A ZIP archive; `__` in a name stands for a slash, and `_` for a dot."""
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), content)
    return out.getvalue()


def make_docx(body: str, prolog: str = '<?xml version="1.0" encoding="UTF-8"?>') -> bytes:
    space = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    return make_zip(word__document_xml=f'{prolog}<w:document xmlns:w="{space}"><w:body>{body}</w:body></w:document>')


def paragraph(text: str) -> str:
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


# Text


def test_a_text_file_becomes_its_text() -> None:
    """UTF-8 is read as it stands, the span is the whole text, and the bytes are let go."""
    node = parse("Größe 👍\r\n".encode(), "a.txt", author="x")
    assert (node.text, node.start, node.end, node.content) == ("Größe 👍\r\n", 0, 9, None)
    assert node.metadata == {"source": "a.txt", "author": "x", "media_type": "text/plain"}


@pytest.mark.parametrize(
    ("source", "media_type"),
    [
        *((f"a.{suffix}", "text/markdown") for suffix in ("md", "MD", "markdown")),
        *((f"a.{suffix}", "text/plain") for suffix in ("txt", "rst", "json", "csv", "xml", "py", "pdf", "docx")),
        ("https://host/page.md?x=1#y", "text/markdown"),
        ("https://host.md/page", "text/plain"),
        ("a.htm", "text/html"),
        (None, "text/plain"),
    ],
)
def test_suffixes_tell_texts_apart(source: str | None, media_type: str) -> None:
    """Content that is text is Markdown or HTML by the suffix of its source, and plain text else."""
    assert parse(b"# A heading\n\nand text.", source).metadata["media_type"] == media_type


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_unicode_is_read_with_and_without_a_mark(codec: str) -> None:
    """UTF-16 and UTF-32 are known by their mark, UTF-16 of Latin text without one too; marks are no text."""
    text = "Hello wörld, this is a text.\n" * 3
    node = parse(text.encode(codec))
    assert node.text == text
    assert node.metadata.get("encoding", "utf-8") in codec


@pytest.mark.parametrize("codec", LEGACY)
def test_legacy_encodings_are_detected(codec: str) -> None:
    """Texts of before Unicode are read in the encoding they are in, which the metadata name."""
    node = parse((LEGACY[codec] * 10).encode(codec))
    assert node.text == LEGACY[codec] * 10
    assert node.metadata == {"media_type": "text/plain", "encoding": codec}


def test_a_declared_encoding_is_believed_if_it_fits() -> None:
    """XML and HTML may declare their encoding; a name that is unknown or does not fit is passed over."""
    xml = '<?xml version="1.0" encoding="iso-8859-15"?><price>5 €, café</price>'
    assert parse(xml.encode("iso-8859-15")).text == xml
    for lie in ("utf-8", "no-such-encoding"):
        assert parse(xml.replace("iso-8859-15", lie).encode("cp1252")).metadata["encoding"] == "cp1252"


def test_damaged_utf8_stays_utf8() -> None:
    """A few broken bytes in UTF-8 are replaced and counted; the rest is not read in another encoding."""
    node = parse("Zażółć gęślą jaźń. ".encode() * 5 + b"\xff and \xc3(")
    assert node.text.endswith("jaźń. \ufffd and \ufffd(")
    assert node.metadata == {"media_type": "text/plain", "replaced_characters": 2}


def test_replacement_characters_of_the_author_are_not_counted() -> None:
    """U+FFFD that stands in the document is text like any other."""
    assert "replaced_characters" not in parse("a \ufffd b".encode()).metadata


def test_nuls_and_surrogates_are_replaced_everywhere() -> None:
    """NULs and lone surrogates become U+FFFD in texts, metadata and their keys; pairs become their character."""
    node = Node(
        text="a\x00b \ud800 \ud83d\ude00", metadata={"x": ["\x00", {"\udc00k": "v\x00"}], "n": 1, "t": True, "z": None}
    )
    (node,) = Parse()([node])
    assert node.text == "a\ufffdb \ufffd 😀"
    assert node.metadata == {
        "x": ["\ufffd", {"\ufffdk": "v\ufffd"}],
        "n": 1,
        "t": True,
        "z": None,
        "replaced_characters": 5,
    }
    assert (node.start, node.end) == (0, 7)


def test_nuls_in_a_file_are_replaced() -> None:
    """A stray NUL does not make a text file binary."""
    node = parse(b"hello\x00world, this is a text")
    assert node.text == "hello\ufffdworld, this is a text"
    assert node.metadata["replaced_characters"] == 1


def test_a_text_of_the_caller_gets_no_media_type() -> None:
    """A text that came without a file is passed on as it is."""
    (node,) = Parse()([Node(text="<html>as it is", metadata={"source": "a.html"})])
    assert (node.text, node.metadata, node.end) == ("<html>as it is", {"source": "a.html"}, 14)


@pytest.mark.parametrize("content", [b"", b" \n\t", b"\xef\xbb\xbf", "\u00a0\u3000".encode()])
def test_files_without_text_are_refused(content: bytes) -> None:
    """An empty file and one of white space are refused, as is such a text."""
    assert "has no text" in refused(content)
    with pytest.raises(DocumentError, match="has no text"):
        Parse()([Node(text=content.decode())] if content.decode().isspace() else [Node(text="")])


# HTML


def test_html_becomes_text_without_noise() -> None:
    """Scripts, styles, navigation and form controls are dropped; blocks, cells and lines keep their borders."""
    page = """<!-- c --><!DOCTYPE html><html><head><title> The \n title </title><style>p {}</style></head><body>
      <nav>Home</nav><h1>Head</h1><p>One <b>bo</b>ld\n  line.</p><p>Two<br>lines&nbsp;&amp; more</p>
      <ul><li>a</li><li>b</li></ul><script>var x = "<p>no</p>";</script>
      <table><tr><th>k</th><td>v</td></tr><tr><td>1</td><td>2</td></tr></table>
      <pre>def f():\n    return <i>1</i>\n</pre><select><option>no</option></select><div>in<div>ner</div>end</div>"""
    node = parse(page.encode(), "a.bin")
    assert node.text == (
        "Head\n\nOne bold line.\n\nTwo\nlines\u00a0& more\n\na\nb\n\nk\tv\n1\t2\n\n"
        "def f():\n    return 1\n\nin\nner\nend"
    )
    assert node.metadata == {"source": "a.bin", "media_type": "text/html", "title": "The title"}


@pytest.mark.parametrize("name", ["page.html", "data.xml"])
def test_entities_of_a_text_are_not_resolved(name: str) -> None:
    """A page or an XML file that declares entities gets none of them: none swells, and none reaches for a file."""
    declared = [f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12)]
    bomb = "".join(['<!ENTITY a0 "lol">', *declared, '<!ENTITY file SYSTEM "file:///etc/hostname">'])
    page = f"<!DOCTYPE html [{bomb}]><html><body><p>before &a11; &file; after</p></body></html>"
    node = parse(page.encode(), name)
    assert "before &a11; &file; after" in node.text
    assert len(node.text) <= len(page)


def test_the_title_of_the_caller_stays() -> None:
    """A title in the metadata is not overwritten by the page's."""
    assert parse(b"<html><title>page</title><p>x", title="mine").metadata["title"] == "mine"


def test_markdown_with_html_in_it_stays_markdown() -> None:
    """HTML elements in Markdown do not make a page of it."""
    text = '<div align="center">\n\n# Readme\n\n</div>\n'
    node = parse(text.encode(), "README.md")
    assert (node.text, node.metadata["media_type"]) == (text, "text/markdown")


def test_html_in_a_legacy_encoding_is_read_as_it_declares() -> None:
    """The charset that a page's meta element names is used."""
    node = parse('<html><meta charset="windows-1251"><p>Привет'.encode("cp1251"))
    assert (node.text, node.metadata["encoding"]) == ("Привет", "windows-1251")


def test_many_comments_before_html_are_passed_in_no_time() -> None:
    """Telling what a text is takes linear time even where it begins with thousands of comments."""
    assert parse(b"<!---->" * 5000 + b"x").metadata["media_type"] == "text/plain"


# PDF


def test_a_pdf_becomes_the_text_of_its_pages() -> None:
    """Pages are separated by a blank line and counted; lines before the header do no harm."""
    pdf = make_pdf(["First page", "", "Second (text"])
    node = parse(pdf.replace(b"(text", b"text"), "a.txt")
    assert node.text == "First page\n\nSecond text"
    assert node.metadata == {"source": "a.txt", "media_type": "application/pdf", "pages": 3}
    assert parse(b"junk of a mailer\n" + pdf.replace(b"(text", b"text")).text == node.text


def test_pdfs_that_cannot_be_read_are_refused() -> None:
    """A PDF of images alone, one with a password and a damaged one are refused, each with its reason."""
    assert "without text: 2 page(s)" in refused(make_pdf(["", ""]))
    assert "with a password" in refused(make_pdf(["secret"], encrypted=True))
    assert "cannot be read" in refused(make_pdf(["x"])[:200])
    assert "cannot be read" in refused(b"%PDF-1.7\nnothing")


# DOCX


def test_a_docx_becomes_paragraphs_and_rows() -> None:
    """Paragraphs have a blank line between them, rows a line; deleted text, properties and fields are left out."""
    body = (
        paragraph("Größe")
        + "<w:p><w:pPr><w:tabs><w:tab/></w:tabs></w:pPr><w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>c</w:t></w:r>"
        "<w:del><w:r><w:delText>gone</w:delText></w:r></w:del><w:r><w:instrText>PAGE</w:instrText></w:r></w:p>"
        + f"<w:tbl><w:tr><w:tc>{paragraph('k')}</w:tc><w:tc>{paragraph('v')}{paragraph('w')}</w:tc></w:tr>"
        + f"<w:tr><w:tc>{paragraph('1')}</w:tc><w:tc>{paragraph('2')}</w:tc></w:tr></w:tbl>"
        + paragraph("end")
    )
    node = parse(make_docx(body), "a.docx")
    assert node.text == "Größe\n\na\tb\nc\n\nk\tv w\n1\t2\n\nend"
    assert node.metadata == {"source": "a.docx", "media_type": DOCX_TYPE}


@pytest.mark.parametrize(
    "prolog",
    [
        '<!DOCTYPE x [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;">]>',
        '<?xml version="1.0"?><!DOCTYPE x SYSTEM "file:///etc/passwd">',
    ],
)
def test_a_docx_with_a_document_type_is_refused(prolog: str) -> None:
    """Entities cannot be declared, so none can swell or reach for a file."""
    assert "declares a document type" in refused(make_docx(paragraph("&a;"), prolog))


def test_a_docx_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that unpacks to more than the limit is not read to its end."""
    monkeypatch.setattr(docx_module, "_MAX_XML_BYTES", 2 << 20)
    assert "unpacks to more than 2 MB" in refused(make_docx(paragraph("a" * (8 << 20))))


def test_a_deep_docx_is_read() -> None:
    """However deep the elements are nested, they are read."""
    depth = 50_000
    assert parse(make_docx("<w:r>" * depth + paragraph("deep") + "</w:r>" * depth)).text == "deep"


def test_a_damaged_docx_is_refused() -> None:
    """A DOCX that is cut, garbled, not XML or without a body is refused with its reason."""
    whole = make_docx(paragraph("hello") * 1000)
    garbled = bytearray(whole)
    garbled[80:120] = bytes(40)
    assert "damaged ZIP archive" in refused(whole[:-30])
    assert "cannot be read" in refused(bytes(garbled))
    assert "cannot be read" in refused(make_docx("<w:p>"))
    assert "without word/document.xml" in refused(make_zip(word__styles_xml="<x/>"))


# Everything else


@pytest.mark.parametrize(
    ("content", "appearance"),
    [
        (b"{\\rtf1\\ansi hello}", "RTF"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "a PNG image"),
        (b"\xff\xd8\xff\xe0\x00", "a JPEG image"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "a RIFF image"),
        (b"\x00\x00\x00\x18ftypmp42", "an MP4 film"),
        (b"\x1f\x8b\x08\x00", "a gzip archive"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512), "Office or Outlook file of the old kind"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"),
            "an Office document with a password",
        ),
        (make_zip(a_txt="x"), "a ZIP archive"),
        (make_zip(xl__workbook_xml="x"), "XLSX"),
        (make_zip(ppt__slide_xml="x"), "PPTX"),
        (make_zip(mimetype="x", **{"META-INF__container_xml": "x"}), "EPUB"),
        (make_zip(mimetype="application/vnd.oasis.opendocument.text", content_xml="x"), "an OpenDocument file"),
        (bytes(range(256)) * 8, "binary data"),
        (bytes(100), "binary data"),
        (b"\xff\xfe" + b"\xd8\xd8" * 100, "binary data, or damaged utf-16 text"),
    ],
)
def test_other_kinds_are_refused_by_name(content: bytes, appearance: str) -> None:
    """What is not read is refused; the reason says what it looks like and what is allowed, whatever its name says."""
    reason = refused(content, "report.txt")
    assert reason.startswith("looks like ") and appearance in reason
    assert reason.endswith("; allowed: text in any encoding, Markdown, HTML, PDF and DOCX")


MAGIC = [b"", b"%PDF-1.4\n", b"PK\x03\x04", b"<html>", b"\xff\xfe", b"\xef\xbb\xbf", b"{\\rtf", make_pdf(["x"])]


@given(
    start=st.sampled_from([*MAGIC, make_docx(paragraph("x"))]),
    cut=st.integers(0, 600),
    rest=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
)
@settings(deadline=None, max_examples=500)
def test_any_bytes_are_read_or_refused(start: bytes, cut: int, rest: bytes) -> None:
    """Whatever the bytes, the document is refused, or becomes a text that UTF-8 and SQL can hold."""
    try:
        node = parse(start[: cut or None] + rest)
    except DocumentError as error:
        assert error.reason
    else:
        assert node.text.strip() and "\x00" not in node.text
        assert node.text.encode()
        assert (node.start, node.end) == (0, len(node.text))


@pytest.mark.parametrize("source", ["/no/such/file.md", 7, None, ["x.md"], {"a": 1}])
def test_the_source_is_only_a_name(source: object) -> None:
    """Nothing is opened at the source, and any JSON value may stand there."""
    expected = "text/markdown" if source == "/no/such/file.md" else "text/plain"
    assert parse(b"text", source).metadata["media_type"] == expected
