"""The three MongoDB collections as ``mongoexport`` writes them: reader and writer.

A folder holds ``tasks``, ``meta`` and ``annotation_data`` as JSON lines or JSON arrays, plain or gzipped, with or
without the database's name in front (``annotations.tasks.json``). Extended JSON (``{"$oid": ...}``, ``{"$date": ...}``)
is understood.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bson import json_util

from obdb_lib.cache import atomic_writer
from obdb_lib.errors import FormatError
from obdb_lib.formats import _shared
from obdb_lib.formats._collections import join_collections
from obdb_lib.records import Document, Problem, ReadResult, TaskRecord

COLLECTIONS = ("tasks", "meta", "annotation_data")
FILE_NAME = re.compile(r"^(?:[^/]*\.)?(tasks|meta|annotation_data)(?:[._-][^/]*)?\.(?:json|jsonl|ndjson)(?:\.gz)?$")
EXTENDED_JSON = json_util.JSONOptions(tz_aware=True)


def find_collections(folder: Path) -> dict[str, list[Path]]:
    """Files of each collection in ``folder``, by their names; empty when there is no ``annotation_data``.

    Raises:
        FormatError: the folder cannot be listed.
    """
    found: dict[str, list[Path]] = {}
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise FormatError(f"{folder} cannot be listed: {error.strerror or error}. Check the path.") from error
    for path in paths:
        match = FILE_NAME.match(path.name)
        if match and path.is_file():
            found.setdefault(match.group(1), []).append(path)
    return found if "annotation_data" in found else {}


def read(folder: Path) -> ReadResult:
    """Tasks of the three collections in ``folder`` (or of the folder that the given file lies in).

    A missing or incomplete ``tasks`` or ``meta`` is made up for from the annotations (frames without annotations
    are then unknown, and a problem says so). ``_id`` is left out: the store gives its own.

    Returns:
        Tasks not yet checked by ``records.check_task``, and every line and document that was set aside.

    Raises:
        FormatError: there is no ``annotation_data``, all collections are empty, or a file has no usable line.
    """
    folder = folder if folder.is_dir() else folder.parent
    found = find_collections(folder)
    if not found:
        raise FormatError(
            f"{folder} holds no annotation_data*.json, .jsonl or .jsonl.gz. Export the collections tasks, meta and "
            "annotation_data with mongoexport into one folder."
        )
    result = ReadResult()
    documents: dict[str, list[Document]] = {}
    for name in COLLECTIONS:
        paths = found.get(name, [])
        if not paths:
            result.problems.append(Problem(str(folder), f"has no {name}*.json; made up for from annotation_data"))
        for other in paths[1:]:
            result.problems.append(Problem(str(other), f"not read, because {paths[0].name} is read as {name}"))
        documents[name] = read_documents(paths[0], result.problems) if paths else []
    if not any(documents.values()):
        raise FormatError(f"{folder}: its collections hold no documents. Check the database's name and export again.")
    date = _shared.file_date(found["annotation_data"][0])
    result.tasks = join_collections(
        documents["tasks"], documents["meta"], documents["annotation_data"], date, result.problems
    )
    return result


def read_documents(path: Path, problems: list[Problem]) -> list[Document]:
    """Documents of one collection's file; a malformed line becomes a problem with its number.

    Raises:
        FormatError: nothing in the file could be read.
    """
    text = _shared.decode_text(_shared.read_bytes(path, may_be_empty=True), path)
    if not text.strip():
        problems.append(Problem(str(path), "is empty: the collection held no documents when it was exported"))
        return []
    if text.lstrip().startswith("["):
        return _from_array(_shared.parse_json(text, path), path, problems)
    documents: list[Document] = []
    failed = 0
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json_util.loads(line, json_options=EXTENDED_JSON)
        except Exception as error:  # bson's hooks raise many types for a malformed {"$...": ...}
            failed += 1
            problems.append(Problem(f"{path}, line {number}", f"set aside: not valid JSON ({str(error)[:120]})"))
            continue
        if isinstance(value, dict):
            documents.append(value)
        else:
            failed += 1
            problems.append(Problem(f"{path}, line {number}", f"set aside: a {type(value).__name__}, not a document"))
    if not documents and failed:
        raise FormatError(
            f"{path} is not JSON lines: none of its {failed} lines is a JSON document (the first: "
            f"{problems[-failed].what}). Export it with mongoexport without --pretty, or with --jsonArray."
        )
    return documents


def _from_array(values: Any, path: Path, problems: list[Problem]) -> list[Document]:
    documents: list[Document] = []
    for number, value in enumerate(values):
        try:
            document = extended(value)
        except Exception as error:  # as above
            problems.append(Problem(f"{path}, document {number}", f"set aside: not extended JSON ({str(error)[:120]})"))
            continue
        if isinstance(document, dict):
            documents.append(document)
        else:
            problems.append(
                Problem(f"{path}, document {number}", f"set aside: a {type(value).__name__}, not a document")
            )
    return documents


def extended(value: Any) -> Any:
    """Decoded JSON with its ``{"$...": ...}`` turned into values, inside out as a JSON hook would."""
    if isinstance(value, list):
        return [extended(item) for item in value]
    if isinstance(value, dict):
        return json_util.object_hook({key: extended(item) for key, item in value.items()}, EXTENDED_JSON)
    return value


def write(tasks: Sequence[TaskRecord], folder: Path) -> list[Path]:
    """Write ``tasks.jsonl.gz``, ``meta.jsonl.gz`` and ``annotation_data.jsonl.gz``, as ``mongoimport`` takes them.

    All three are written beside their places first and put there together at the end; equal data gives equal bytes.

    Raises:
        CacheError: a file cannot be written; the older ones are untouched.
    """
    contents: dict[str, list[Document]] = {
        "tasks": [task.task for task in tasks],
        "meta": [task.meta for task in tasks],
        "annotation_data": [annotation for task in tasks for annotation in task.annotations],
    }
    paths = {name: folder / f"{name}.jsonl.gz" for name in COLLECTIONS}
    with ExitStack() as stack:
        for name, documents in contents.items():
            file = stack.enter_context(atomic_writer(paths[name]))
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
                for document in documents:
                    line = json_util.dumps(document, json_options=json_util.RELAXED_JSON_OPTIONS)
                    packed.write(line.encode("ascii") + b"\n")
    return list(paths.values())
