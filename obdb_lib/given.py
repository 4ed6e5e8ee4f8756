"""Strategy ``given``: a split that somebody else made, from lists of frames.

Understood are upstream's ``.npy`` lists, text with a path a line, CSV, JSON and our own manifests. Lists name frames by
the paths of another machine, so a name means the frame whose path it is, else the one frame that ends with it (or that
it ends with), in whole folders: ``/weed_data/fielddata/x.png`` is ``fielddata/x.png``. Nothing is guessed beyond that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from obdb_lib.cache import content_hash
from obdb_lib.errors import SplitError
from obdb_lib.formats import frame_lists
from obdb_lib.paths import locate
from obdb_lib.records import Problem
from obdb_lib.snapshots import Snapshot
from obdb_lib.splits import PARTS, Split, make_split

REFUSE = "refuse"
"""For ``conflicts``: a frame in two lists is an error."""
ALIASES = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}
"""Other people's words for our parts."""
SHOWN = 5
"""Names shown in a message; all of them are in ``Given.problems``."""

Lists = Mapping[str, Path | str | Sequence[str]]


@dataclass(frozen=True)
class Given:
    """What lists gave.

    Attributes:
        split: strategy ``given``.
        problems: one for each name that means no frame or several, and for each frame that stood in two lists.
    """

    split: Split
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class _Matched:
    found: dict[str, list[str]]
    problems: list[Problem]


def given(snapshot: Snapshot, lists: Lists | Path | str, *, rest: str = "excluded", conflicts: str = REFUSE) -> Given:
    """The split that ``lists`` describe.

    Args:
        lists: ``{"train": ..., "val": ...}`` with a file or the names themselves for each part, or one file that holds
            all parts (CSV with columns img_path and part, JSON with a list a part, a manifest of ours).
        rest: part of the frames that no list names.
        conflicts: part of the frames that two lists name, or REFUSE.

    Raises:
        SplitError: an unknown part, a frame in two lists (unless ``conflicts`` names a part), or not one name means a
            frame of this snapshot.
        FormatError: a file is malformed.
    """
    for name, value in (("rest", rest), ("conflicts", conflicts)):
        if value not in PARTS and not (name == "conflicts" and value == REFUSE):
            raise SplitError(f"{name} must be one of {', '.join(PARTS)}; got {value!r}")
    names = _named(lists)
    matched = _match(names, snapshot.frames["img_path"].tolist())
    if not any(matched.found.values()):
        listed = next(name for part in names.values() for name in part)
        own = snapshot.frames["img_path"].iloc[0] if len(snapshot.frames) else "(no frame at all)"
        raise SplitError(
            f"not one of the {sum(map(len, names.values()))} listed names means a frame of snapshot {snapshot.id}: "
            f"they read like {listed!r}, its frames like {own!r}. Load the tasks that the lists were made for."
        )
    parts, clashes = _assign(matched.found)
    if clashes and conflicts == REFUSE:
        first = ", ".join(f"{path} ({' and '.join(sorted(both))})" for path, both in list(clashes.items())[:SHOWN])
        raise SplitError(
            f"{len(clashes)} frames stand in two lists: {first}{' ...' if len(clashes) > SHOWN else ''}. Take them "
            "out of one, or say conflicts='excluded' (or another part)."
        )
    parts |= dict.fromkeys(clashes, conflicts)
    problems = [
        Problem(path, f"stands in the lists of {' and '.join(sorted(both))}; put into {conflicts}")
        for path, both in clashes.items()
    ]
    table = pd.DataFrame({"img_path": snapshot.frames["img_path"]})
    table["part"] = [parts.get(path, rest) for path in table["img_path"]]
    parameters = {
        "listed": {part: len(set(found)) for part, found in names.items()},
        "lists_hash": content_hash({part: sorted(set(found)) for part, found in names.items()}),
        "unmatched": len(matched.problems),
        "conflicts": len(clashes),
        "rest": rest,
    }
    return Given(make_split(snapshot.id, "given", table, parameters), [*matched.problems, *problems])


def lists_from(texts: Sequence[str]) -> Lists | Path:
    """What ``given`` takes, from plain texts such as a notebook's parameter.

    Args:
        texts: ``["split.csv"]``, one file of all parts; or a file a part, ``["train=train.npy", "val=val.npy"]``.
            Relative paths start at the project (paths.locate).

    Raises:
        SplitError: several files of which one names no part, or a part named twice.
    """
    pairs = [text.partition("=") for text in texts]
    if len(texts) == 1 and (not pairs[0][1] or locate(texts[0]).exists()):
        return locate(texts[0])
    lists = {part.strip(): locate(name.strip()) for part, equals, name in pairs if equals and name.strip()}
    if not texts or len(lists) < len(texts):
        raise SplitError(
            f"lists of frames are one file for all parts, such as ['split.csv'], or one for each part, such as "
            f"['train=train.npy', 'val=val.npy']; got {list(texts)}"
        )
    return lists


def _named(lists: Lists | Path | str) -> dict[str, list[str]]:
    """Names by part, in our words for the parts."""
    found: dict[str, list[str]] = {}
    if isinstance(lists, Mapping):
        raw = {
            part: frame_lists.read_list(Path(source)) if isinstance(source, Path | str) else list(source)
            for part, source in lists.items()
        }
    else:
        raw = _one_file(Path(lists))
    for part, names in raw.items():
        known = ALIASES.get(part.strip().lower(), part.strip().lower())
        if known not in PARTS:
            raise SplitError(f"the lists name the part {part!r}; parts are {', '.join(PARTS)}")
        found.setdefault(known, []).extend(names)
    if not any(found.values()):
        raise SplitError("the lists name no frame at all; give at least one name for a part")
    return found


def _one_file(path: Path) -> dict[str, list[str]]:
    from obdb_lib import manifest  # it writes what is read here, and reads it with all its checks

    if manifest.is_manifest(path):
        frames = manifest.read(path).frames
        return {str(part): rows["img_path"].tolist() for part, rows in frames.groupby("part")}
    return frame_lists.read_parts(path)


def _assign(found: Mapping[str, Sequence[str]]) -> tuple[dict[str, str], dict[str, set[str]]]:
    """Part of each frame, and the frames that stand in several lists."""
    parts: dict[str, str] = {}
    clashes: dict[str, set[str]] = {}
    for part, img_paths in found.items():
        for img_path in img_paths:
            if parts.setdefault(img_path, part) != part:
                clashes.setdefault(img_path, {parts[img_path]}).add(part)
    return parts, clashes


def _match(names: Mapping[str, Sequence[str]], img_paths: Sequence[str]) -> _Matched:
    """The frame that each name means; problems for those that mean none or several."""
    index = _Index(img_paths)
    meant = {name: index.meant(name) for listed in names.values() for name in listed}
    sure = {name: paths[0] for name, paths in meant.items() if len(paths) == 1}
    claims = Counter(path for name, path in sure.items() if not index.says_all(name, path))
    found: dict[str, list[str]] = {}
    problems: list[Problem] = []
    for part, listed in names.items():
        for name in dict.fromkeys(listed):
            paths = meant[name]
            if len(paths) == 1 and (index.says_all(name, paths[0]) or claims[paths[0]] == 1):
                found.setdefault(part, []).append(paths[0])
                continue
            what = "is no frame of this snapshot; left out"
            if len(paths) > 1:
                first = ", ".join(sorted(paths)[:SHOWN])
                what = f"could be {len(paths)} frames ({first}); left out, list it with its folders"
            elif paths:
                what = f"is one of {claims[paths[0]]} names that all end with the frame {paths[0]}; left out"
            problems.append(Problem(f"{part} list, {name!r}", what))
    return _Matched(found, problems)


class _Index:
    """Frames by their whole path and by all its endings."""

    def __init__(self, img_paths: Sequence[str]) -> None:
        self.exact = set(img_paths)
        self.whole: dict[str, list[str]] = {}
        self.endings: dict[str, list[str]] = {}
        for path in img_paths:
            self.whole.setdefault(_plain(path), []).append(path)
            for ending in _endings(_plain(path)):
                self.endings.setdefault(ending, []).append(path)

    def meant(self, name: str) -> list[str]:
        """Frames that ``name`` can mean, by the strictest rule that gives any."""
        plain = _plain(name)
        if name in self.exact:
            return [name]
        if plain in self.whole or plain in self.endings:
            return self.whole.get(plain) or self.endings[plain]
        longest = next((ending for ending in _endings(plain) if ending in self.whole), None)
        return self.whole[longest] if longest else []

    @staticmethod
    def says_all(name: str, img_path: str) -> bool:
        """Whether ``name`` is no longer than the frame's path, so that its folders cannot contradict it."""
        return _plain(img_path).endswith(_plain(name))


def _plain(name: str) -> str:
    """With forward slashes, and without what does not name a place: ``./``, ``../``, a leading slash."""
    parts = [part for part in name.strip().replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return "/".join(parts)


def _endings(plain: str) -> list[str]:
    """``a/b/c.png`` -> ``b/c.png``, ``c.png``: the longest first."""
    parts = plain.split("/")
    return ["/".join(parts[start:]) for start in range(1, len(parts))]
