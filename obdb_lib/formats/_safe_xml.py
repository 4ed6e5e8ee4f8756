"""XML that may come from anyone: a tree, with document types refused, and text that XML can hold."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from obdb_lib.errors import FormatError
from obdb_lib.formats import _shared

LOOKED_AT = 4096
FIRST_ELEMENT = re.compile(rb"<([A-Za-z_][A-Za-z0-9_.-]*)")
COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)
ILLEGAL_IN_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def parse(data: bytes, path: Path) -> Element:
    """The document's tree.

    expat itself is used, because ElementTree's parser has no way to refuse a document type, which is the door to entity
    bombs and to outside files.

    Raises:
        FormatError: the XML is malformed (with line and column), or declares a document type.
    """

    def refuse(*_: object) -> None:
        raise FormatError(
            f"{path}, line {parser.CurrentLineNumber}: refused, because it declares a document type (<!DOCTYPE>), "
            "which CVAT never writes and which can fill the memory or read other files. Export it again from CVAT."
        )

    builder = TreeBuilder()
    try:
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = refuse
        parser.EntityDeclHandler = refuse
        parser.StartElementHandler = builder.start
        parser.EndElementHandler = builder.end
        parser.CharacterDataHandler = builder.data
        parser.Parse(data, True)
        return builder.close()
    except expat.ExpatError as error:
        raise FormatError(
            f"{path}, line {error.lineno}, column {error.offset}: not valid XML ({expat.ErrorString(error.code)}). "
            "Was the download cut off? Export it again."
        ) from error
    except (LookupError, ValueError, TypeError, AssertionError) as error:  # an encoding that Python or expat lacks
        raise FormatError(f"{path} is not readable XML ({error}). Export it again as UTF-8.") from error


def root_of(path: Path) -> str:
    """Name of the first element, from the first bytes of the file; "" when there is none (or it cannot be read)."""
    try:
        with path.open("rb") as file:
            start = file.read(LOOKED_AT)
        if start.startswith(_shared.GZIP_MAGIC):
            start = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(start, LOOKED_AT)
    except (OSError, ValueError, zlib.error):
        return ""
    found = FIRST_ELEMENT.search(COMMENT.sub(b"", start))
    return found[1].decode("ascii") if found else ""


def legal(value: object) -> str:
    """``value`` as text for an element or attribute.

    Raises:
        FormatError: it holds a control character, which XML cannot carry.
    """
    text = str(value)
    found = ILLEGAL_IN_XML.search(text)
    if found:
        raise FormatError(f"{text!r} cannot be written as XML: it holds {found.group()!r}. Rename it first.")
    return text
