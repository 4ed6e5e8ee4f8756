"""Vectors that the user made elsewhere, checked against the snapshot before anything is drawn from them.

Three kinds of files: ``.npz`` with arrays ``ids`` and ``vectors``; ``.parquet`` with a column ``annotation_id`` and
either one column ``vector`` of lists or one column for each value; ``.npy`` of the vectors with ``<name>.ids.npy``
beside it.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from obdb_lib.boxes import FloatArray
from obdb_lib.embeddings import Embeddings
from obdb_lib.errors import DatasetError
from obdb_lib.networks import unit
from obdb_lib.records import Problem
from obdb_lib.snapshots import Snapshot

ID_COLUMN, VECTOR_COLUMN = "annotation_id", "vector"
SUFFIXES = (".npz", ".parquet", ".npy")


def own_vectors(path: Path | str, snapshot: Snapshot) -> Embeddings:
    """Embeddings of a snapshot's annotations from a file of the user's own, in the snapshot's order, at length 1.

    Annotations without a vector are told in ``problems``; vectors of other annotations are left out.

    Raises:
        DatasetError: the file is missing, of another kind or damaged; ids repeat or do not fit the vectors; a value is
            not a finite number; a vector is all zeros; or no id is an annotation of the snapshot.
    """
    path = Path(path).expanduser()
    ids, vectors = _read(path)
    _check(path, ids, vectors)
    place = pd.Series(np.arange(len(ids)), index=pd.Index(ids))
    wanted = snapshot.annotations[ID_COLUMN].to_numpy(object)
    rows = place.reindex(wanted)
    there = rows.notna().to_numpy(bool)
    if not there.any():
        like = repr(wanted[0]) if len(wanted) else "none, it has no annotations"
        raise DatasetError(
            f"none of the {len(ids)} ids in {path} is an annotation of snapshot {snapshot.id}: ids such as {ids[0]!r} "
            f"were found, such as {like} are wanted (snapshot.annotations.annotation_id)"
        )
    problems = []
    if not there.all():
        what = f"{(~there).sum()} of {len(there)} annotations have no vector there and are left out"
        problems.append(Problem(str(path), what))
    return Embeddings(wanted[there], unit(vectors[rows[there].to_numpy(np.int64)]), path.name, problems)


def _read(path: Path) -> tuple[list[str], FloatArray]:
    if path.suffix not in SUFFIXES:
        raise DatasetError(f"own vectors must be a file {', '.join(SUFFIXES)}; got {path}")
    beside = path.with_suffix(".ids.npy")
    for needed in (path, *([beside] if path.suffix == ".npy" else [])):
        if not needed.is_file():
            raise DatasetError(f"own vectors: {needed} does not exist; it should hold {_content(needed)}")
    try:
        if path.suffix == ".parquet":
            return _read_table(pd.read_parquet(path), path)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as stored:
                ids, vectors = stored["ids"], stored["vectors"]
        else:
            ids, vectors = np.load(beside, allow_pickle=False), np.load(path, allow_pickle=False)
        return [str(one) for one in ids.tolist()], np.asarray(vectors, dtype=np.float32)
    except (OSError, ValueError, TypeError, KeyError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        # pyarrow's errors are children of ValueError and OSError; a pickled array is a ValueError
        raise DatasetError(f"own vectors {path} cannot be read ({error}); it should hold {_content(path)}") from error


def _content(path: Path) -> str:
    if path.name.endswith(".ids.npy"):
        return "the annotation ids of the vectors, as an array of strings"
    return {
        ".npz": "the arrays 'ids' (N strings) and 'vectors' (N x D numbers), without pickle",
        ".npy": "an array of N x D numbers, with the ids in <name>.ids.npy beside it",
        ".parquet": f"a column {ID_COLUMN!r} and either a column {VECTOR_COLUMN!r} of lists or a column for each value",
    }[path.suffix]


def _read_table(table: pd.DataFrame, path: Path) -> tuple[list[str], FloatArray]:
    ids = table[ID_COLUMN].astype(str).tolist()
    if VECTOR_COLUMN in table:
        return ids, np.stack([np.asarray(value, dtype=np.float32) for value in table[VECTOR_COLUMN]])
    values = table.drop(columns=ID_COLUMN)
    return ids, values.to_numpy(np.float32)


def _check(path: Path, ids: list[str], vectors: FloatArray) -> None:
    if vectors.ndim != 2 or len(vectors) != len(ids) or not vectors.size:
        raise DatasetError(
            f"own vectors {path}: wanted one row of numbers for each of the {len(ids)} ids; got an array of shape "
            f"{vectors.shape}"
        )
    repeated = pd.Series(ids)[pd.Series(ids).duplicated()]
    if len(repeated):
        raise DatasetError(f"own vectors {path}: {len(repeated)} ids are there twice, such as {repeated.iloc[0]!r}")
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(broken):
        raise DatasetError(
            f"own vectors {path}: {len(broken)} vectors hold NaN or infinity, such as that of {ids[broken[0]]!r}"
        )
    empty = np.flatnonzero(~vectors.any(axis=1))
    if len(empty):
        raise DatasetError(
            f"own vectors {path}: {len(empty)} vectors are all zeros and point nowhere, such as that of "
            f"{ids[empty[0]]!r}; leave them out"
        )
