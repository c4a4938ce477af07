"""Text of an HTML page, by selectolax: blocks become lines and paragraphs, so that sentences do not run together."""

import re

__all__ = ["html_text"]

_NOISE = "script, style, noscript, template, svg, canvas, iframe, object, nav, head, button, select, textarea, dialog"
_PARAGRAPHS = (
    "p, h1, h2, h3, h4, h5, h6, pre, blockquote, table, ul, ol, dl, section, article, main, aside, header, footer, "
    "figure, form, fieldset, details, hr, address"
)
_LINES = "div, li, tr, dt, dd, br, caption, figcaption, summary, legend, option, center, thead, tbody, tfoot"
_CELLS = "td, th"

# Noncharacters of Unicode, free for use within a program: they mark borders while white space is being collapsed.
_PARAGRAPH, _LINE, _CELL, _NEWLINE, _SPACE, _TAB = "\ufdd0", "\ufdd1", "\ufdd2", "\ufdd3", "\ufdd4", "\ufdd5"
_PRESERVE = str.maketrans({"\n": _NEWLINE, " ": _SPACE, "\t": _TAB})
_RESTORE = str.maketrans({_NEWLINE: "\n", _SPACE: " ", _TAB: "\t", _CELL: "\t"})
_ANY_MARK = re.compile("[\ufdd0-\ufdd5]")
_WHITE = "\t\n\r\f"  # what HTML takes for a space; the no-break space is none
_SPACES = re.compile(" {2,}")
_BORDER = re.compile(f" ?[{_PARAGRAPH}{_LINE}{_CELL}][ {_PARAGRAPH}{_LINE}{_CELL}]*")


def html_text(html: str) -> tuple[str, str | None]:
    """The text of the page's body, and its title. Scripts, styles, navigation and form controls are left out."""
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(_ANY_MARK.sub("\ufffd", html))
    heading = tree.css_first("title")
    title = " ".join(heading.text().split()) if heading else ""
    for node in tree.css(_NOISE):
        node.decompose()
    for node in tree.css("pre"):
        node.replace_with(_PARAGRAPH + node.text().strip("\n").translate(_PRESERVE) + _PARAGRAPH)
    for selector, mark in ((_PARAGRAPHS, _PARAGRAPH), (_LINES, _LINE)):
        for node in tree.css(selector):
            node.insert_before(mark)
            node.insert_after(mark)
    for node in tree.css(_CELLS):
        node.insert_after(_CELL)
    body = tree.body
    text = body.text() if body else ""
    for character in _WHITE:
        text = text.replace(character, " ")
    text = _BORDER.sub(_border, _SPACES.sub(" ", text))
    return text.translate(_RESTORE).strip("\n\t "), title or None


def _border(match: re.Match[str]) -> str:
    marks = match[0]
    if _PARAGRAPH in marks:
        return "\n\n"
    return "\n" if _LINE in marks else _CELL
