"""What every benchmark prints: bars with value, wanted limit, and whether it was met."""

from __future__ import annotations

import argparse
import json
import operator
from dataclasses import asdict, dataclass

COMPARE = {">=": operator.ge, "<=": operator.le, "<": operator.lt, ">": operator.gt}


@dataclass(frozen=True)
class Bar:
    """One measured number; ``value`` None means it could not be measured in this run."""

    name: str
    value: float | None
    want: str
    ok: bool
    note: str = ""


def bar(name: str, value: float | None, want: str, note: str = "") -> Bar:
    """Judge ``value`` by a limit such as ``">= 0.5"``."""
    sign, limit = want.split()
    met = value is not None and bool(COMPARE[sign](value, float(limit)))
    return Bar(name, None if value is None else round(value, 3), want, met, note)


def arguments(doc: str | None) -> argparse.Namespace:
    """``--json`` (the last line only) and ``--quick``."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON line")
    parser.add_argument("--quick", action="store_true", help="a smaller run of under a minute")
    return parser.parse_args()


def report(benchmark: str, bars: list[Bar], *, only_json: bool) -> None:
    """Print a table for a person (unless ``only_json``) and the JSON line."""
    if not only_json:
        for one in bars:
            print(f"{'ok  ' if one.ok else 'FAIL'} {one.name}: {one.value} (want {one.want}) {one.note}")
    print(json.dumps({"benchmark": benchmark, "bars": [asdict(one) for one in bars]}))
