"""Upstream's tables as Parquet: the columns of its pickles, in a file that is data alone."""

from __future__ import annotations

from pathlib import Path

from obdb_lib.errors import FormatError
from obdb_lib.formats import upstream_pickle
from obdb_lib.formats._shared import clean
from obdb_lib.formats.upstream_pickle import COLUMNS, MAX_PICKLE_BYTES, OPTIONAL_COLUMNS, UPSTREAM_PREFIX
from obdb_lib.records import ReadResult

SUFFIX = ".parquet"
MAX_BYTES = MAX_PICKLE_BYTES
"""Largest table that is read, unpacked: a small file can hold much of the same."""


def read_parquet(path: Path) -> ReadResult:
    """Checked tasks of one table: a row an image, ``bboxes`` and ``labels`` as lists (see ``upstream_pickle.read``).

    Raises:
        FormatError: no Parquet file, too large, or a column is lacking.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            groups = range(file.metadata.num_row_groups)
            size = sum(file.metadata.row_group(number).total_byte_size for number in groups)
            if size > MAX_BYTES:
                raise FormatError(f"{path} holds {size:,} bytes unpacked, more than {MAX_BYTES:,}; split it by task")
            there = file.schema_arrow.names
            missing = [name for name in COLUMNS if name not in there]
            if missing:
                raise FormatError(
                    f"{path} is not one of upstream's tables: it lacks {', '.join(missing)} among its columns "
                    f"({', '.join(there[:20])})"
                )
            wanted = [name for name in (*COLUMNS, *OPTIONAL_COLUMNS) if name in there]
            rows = file.read(columns=wanted).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise FormatError(f"{path} is no Parquet file that can be read ({str(error)[:200]}); write it again") from error
    return clean(upstream_pickle._tasks(rows, UPSTREAM_PREFIX, path))
