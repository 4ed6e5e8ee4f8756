"""What was accepted and what was rejected, as pictures and as one page that needs nothing beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from obdb_lib.cache import atomic_writer
from obdb_lib.errors import ReviewError
from obdb_lib.progress import Progress, track
from widgets._pictures import Pixels, jpeg
from widgets.contact_sheet import MARKS, cropped, grid, proposal, tile

Record = dict[str, Any]
Crop = bytes | str
"""JPEG of a crop, or why there is none."""

VERDICTS = ("accept", "reject")
PAGE_TILES, PAGE_COLUMNS = 100, 10
"""Tiles on a page and in a row; more make a picture too large to look at."""
PAGE_NAME = "contact_sheets.html"
HEADINGS = ("", "what", "file", "task and frame", "score", "probability", "verdict", "decided by")
STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5em; color: #222; background: #fff }
table { border-collapse: collapse; margin-bottom: 2em }
th, td { padding: .3em .7em; text-align: left; vertical-align: top; border-bottom: 1px solid #ddd }
th { position: sticky; top: 0; background: #fff } td.number { text-align: right }
td.file { overflow-wrap: anywhere; max-width: 26em } img { display: block; width: 160px; height: 160px }
.accept { border-left: 6px solid #009E73 } .reject { border-left: 6px solid #D55E00 } .muted { color: #6B6B6B }
"""


def write_contact_sheets(
    folder: Path,
    suggestions: Sequence[Record],
    decisions: Mapping[str, Record],
    load_frame: Callable[[str], Pixels],
    *,
    page_tiles: int = PAGE_TILES,
    columns: int = PAGE_COLUMNS,
    progress: Progress | None = None,
) -> list[Path]:
    """Write what was accepted and what was rejected: ``accepted_01.png`` .. , ``rejected_01.png`` .. and one HTML page.

    Each file appears whole or not at all; pages of an earlier run that are no longer there are removed. A frame that
    fails gets a tile that says so.

    Args:
        suggestions: as for BoxReview, in the order to be shown.
        decisions: suggestion id -> standing entry (``Journal.standing``); class and box are shown as decided.
        load_frame: the frame as (H, W, 3) uint8 RGB, by img_path; each is asked for once.
        page_tiles, columns: tiles on a PNG page, and in a row of it, at least 1.

    Returns:
        Paths of the PNG pages (none for a verdict that nobody gave), then of the HTML page.

    Raises:
        ReviewError: ``page_tiles`` or ``columns`` is below 1.
        CacheError: the folder cannot be written.
    """
    if page_tiles < 1 or columns < 1:
        raise ReviewError(f"a contact sheet needs at least one tile and one column; got {page_tiles} and {columns}")
    shown = {verdict: _decided(suggestions, decisions, verdict) for verdict in VERDICTS}
    crops = _crops([one for some in shown.values() for one in some], load_frame, progress)
    paths = []
    for verdict, some in shown.items():
        word = MARKS[verdict][0]
        pages = [some[start : start + page_tiles] for start in range(0, len(some), page_tiles)]
        written = [folder / f"{word}_{number:02d}.png" for number in range(1, len(pages) + 1)]
        for number, (path, page) in enumerate(zip(written, pages, strict=True), 1):
            head = f"{len(some):,} {word}" + (f", page {number} of {len(pages)}" if len(pages) > 1 else "")
            tiles = (tile(one, _opened(crops[one["_id"]]), verdict) for one in page)
            with atomic_writer(path) as file:
                grid(tiles, len(page), columns, head=head).save(file, "PNG")
        for old in folder.glob(f"{word}_[0-9]*.png"):
            if old not in written:
                old.unlink()
        paths += written
    table = folder / PAGE_NAME
    with atomic_writer(table, "w") as file:
        file.writelines(_page(shown, decisions, crops, len(suggestions)))
    return [*paths, table]


def _decided(suggestions: Sequence[Record], decisions: Mapping[str, Record], verdict: str) -> list[Record]:
    """Suggestions of one verdict, with class and box as decided."""
    found = []
    for one in suggestions:
        decision = decisions.get(one["_id"])
        if decision is not None and decision["verdict"] == verdict:
            changed = {key: decision[key] for key in ("object_class", "points") if decision.get(key)}
            found.append({**one, **changed, "proposed_class": one["object_class"]})
    return found


def _crops(shown: Sequence[Record], load_frame: Callable[[str], Pixels], progress: Progress | None) -> dict[str, Crop]:
    """Each suggestion's crop as JPEG (a few kB, where a frame takes 25 MB); every frame is loaded once."""
    by_frame: dict[str, list[Record]] = {}
    for one in shown:
        by_frame.setdefault(str(one["img_path"]), []).append(one)
    found: dict[str, Crop] = {}
    with track(progress, "contact sheets", len(by_frame)) as task:
        for img_path, some in by_frame.items():
            load = _once(load_frame, img_path)
            for one in some:
                crop = cropped(one, load)
                found[one["_id"]] = crop if isinstance(crop, str) else jpeg(crop)
            task.advance()
    return found


def _once(load_frame: Callable[[str], Pixels], img_path: str) -> Callable[[str], Pixels]:
    """A loader of one frame that remembers it, or that it failed."""
    try:
        pixels = load_frame(img_path)
    except Exception as error:
        failure = error

        def fail(_: str) -> Pixels:
            raise failure

        return fail
    return lambda _: pixels


def _opened(crop: Crop) -> Image.Image | str:
    return crop if isinstance(crop, str) else Image.open(io.BytesIO(crop))


def _page(
    shown: Mapping[str, Sequence[Record]], decisions: Mapping[str, Record], crops: Mapping[str, Crop], total: int
) -> Iterator[str]:
    """The page in pieces; whatever comes from the data is escaped."""
    accepted, rejected = (len(shown[verdict]) for verdict in VERDICTS)
    texts = (str(decisions[one["_id"]].get("rule") or "") for some in shown.values() for one in some)
    rules = {text: number for number, text in enumerate(filter(None, dict.fromkeys(texts)), 1)}
    yield '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Accepted and rejected</title>'
    yield f"<style>{STYLE}</style></head><body>\n<h1>Accepted and rejected</h1>\n"
    yield f"<p>{accepted:,} accepted, {rejected:,} rejected, {total - accepted - rejected:,} skipped or open. "
    yield "Orange: the box as decided. Blue: what is annotated.</p>\n"
    if rules:
        lines = "".join(f"<li>{escape(text)}</li>" for text in rules)
        yield f"<p>Rules that decided:</p><ol>{lines}</ol>\n"
    for verdict in VERDICTS:
        word = MARKS[verdict][0]
        yield f"<h2>{word.capitalize()} ({len(shown[verdict]):,})</h2>\n"
        if not shown[verdict]:
            yield f'<p class="muted">Nothing was {word}.</p>\n'
            continue
        yield f"<table><tr>{''.join(f'<th>{heading}</th>' for heading in HEADINGS)}</tr>\n"
        for one in shown[verdict]:
            yield _row(one, verdict, decisions[one["_id"]], crops[one["_id"]], rules)
        yield "</table>\n"
    yield "</body></html>\n"


def _row(one: Record, verdict: str, decision: Record, crop: Crop, rules: Mapping[str, int]) -> str:
    if isinstance(crop, str):
        picture = f'<span class="muted">{escape(crop)}</span>'
    else:
        picture = f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(crop).decode()}">'
    what = escape(proposal(one))
    if one["proposed_class"] != one["object_class"]:
        what += f'<br><span class="muted">proposed as {escape(str(one["proposed_class"]))}</span>'
    rule, when = decision.get("rule"), decision.get("when")
    who = escape(str(decision.get("who") or ""))
    who += f"<br>by rule {rules[str(rule)]}" if rule else ""
    who += f'<br><span class="muted">{escape(f"{when:%Y-%m-%d %H:%M}")}</span>' if when is not None else ""
    place = f"{escape(str(one.get('task_name') or ''))}<br>frame {escape(str(one.get('frame', '')))}"
    cells = [
        f'<td class="{verdict}">{picture}</td><td>{what}</td><td class="file">{escape(str(one["img_path"]))}</td>',
        f'<td>{place}</td><td class="number">{_number(one.get("score"))}</td>',
        f'<td class="number">{_number(one.get("probability"))}</td><td>{MARKS[verdict][0]}</td><td>{who}</td>',
    ]
    return f"<tr>{''.join(cells)}</tr>\n"


def _number(value: object) -> str:
    return "" if value is None else f"{float(str(value)):.2f}"
