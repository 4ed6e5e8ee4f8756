"""How alike the parts of a split are: mix of classes and clusters, sizes and places of boxes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon

from obdb_lib.snapshots import Snapshot

USED = ("train", "val", "test")
OUTLIERS = -1
SIZE_BINS = 20
Counts = dict[str, dict[str, int]]
"""Name of a class or cluster -> boxes by part."""


@dataclass(frozen=True)
class Fairness:
    """One judging part against train; shares are 0..1 of the boxes in train, val and test together.

    Attributes:
        part: val or test.
        target: wanted share of the frames; None where the split was made without one.
        frame_share: share of the frames reached.
        class_share: share of each class's boxes that is in this part.
        smallest_class, smallest_share, smallest_count: the class with the smallest share (of equal shares the one with
            fewest boxes here), and its boxes here; "" and 0 without boxes. Share 0: a class that is never judged.
        class_jsd, cluster_jsd: Jensen-Shannon divergence of the mix from train's, bit (base 2), 0 = the same, 1 =
            nothing in common; None without clusters.
        cluster_coverage: share of the clusters (outliers not counted) with at least one crop here.
        missing_clusters: those without.
        size_distance: Wasserstein distance of box sizes (root of the area) from train's, pixels.
        size_distance_relative: the same by train's median size.
        x_distance, y_distance: Wasserstein distance of the boxes' centres from train's, in frame widths and heights;
            None where frames have no size.
    """

    part: str
    target: float | None
    frame_share: float
    class_share: dict[str, float]
    smallest_class: str
    smallest_share: float
    smallest_count: int
    class_jsd: float
    cluster_jsd: float | None
    cluster_coverage: float | None
    missing_clusters: list[str]
    size_distance: float | None
    size_distance_relative: float | None
    x_distance: float | None
    y_distance: float | None


@dataclass(frozen=True)
class Sizes:
    """Histogram of box sizes (root of the area, px): ``edges`` (SIZE_BINS + 1), and boxes by part."""

    edges: list[float]
    counts: dict[str, list[int]]


def count_by_part(names: pd.Series, parts: pd.Series) -> Counts:
    """Boxes of each name in each used part; names sorted by falling number."""
    used = parts.isin(USED) & names.notna()
    table = pd.crosstab(names[used].astype(str), parts[used]).reindex(columns=list(USED), fill_value=0)
    counts = table.to_numpy(np.int64)
    order = sorted(range(len(table)), key=lambda row: (-int(counts[row].sum()), str(table.index[row])))
    return {str(table.index[row]): dict(zip(USED, counts[row].tolist(), strict=True)) for row in order}


def fairness(
    part: str,
    boxes: pd.DataFrame,
    classes: Counts,
    clusters: Counts | None,
    frames: Mapping[str, int],
    target: float | None,
) -> Fairness:
    """One part against train.

    Args:
        boxes: columns part, size (px), x, y (centres in frame widths and heights, NaN where unknown).
        classes, clusters: of ``count_by_part``.
        frames: number by part.
    """
    shares = {name: row[part] / max(sum(row.values()), 1) for name, row in classes.items()}
    smallest = min(shares, key=lambda name: (shares[name], classes[name][part]), default="")
    missing = [name for name, row in (clusters or {}).items() if name != str(OUTLIERS) and not row[part]]
    known = [name for name in clusters or {} if name != str(OUTLIERS)]
    own, train = boxes[boxes["part"] == part], boxes[boxes["part"] == "train"]
    size = distance(own["size"], train["size"])
    middle = float(train["size"].median()) if len(train) else 0.0
    return Fairness(
        part=part,
        target=target,
        frame_share=frames.get(part, 0) / max(sum(frames.get(name, 0) for name in USED), 1),
        class_share=shares,
        smallest_class=smallest,
        smallest_share=shares.get(smallest, 0.0),
        smallest_count=classes[smallest][part] if smallest else 0,
        class_jsd=divergence(classes, part),
        cluster_jsd=None if clusters is None else divergence(clusters, part),
        cluster_coverage=1 - len(missing) / len(known) if known else None,
        missing_clusters=missing,
        size_distance=size,
        size_distance_relative=size / middle if size is not None and middle else None,
        x_distance=distance(own["x"], train["x"]),
        y_distance=distance(own["y"], train["y"]),
    )


def divergence(counts: Counts, part: str, other: str = "train") -> float:
    """Jensen-Shannon divergence (J. Lin 1991) of two parts' mixes, bit; 1 when one of them has nothing."""
    mine = np.array([row[part] for row in counts.values()], dtype=float)
    theirs = np.array([row[other] for row in counts.values()], dtype=float)
    if not mine.sum() or not theirs.sum():
        return 1.0
    root: float = jensenshannon(theirs, mine, base=2)
    return float(root**2)


def distance(first: pd.Series, second: pd.Series) -> float | None:
    """Wasserstein-1 distance of two samples, in their unit; None when one has no known value."""
    from scipy.stats import wasserstein_distance  # half a second to import

    known = [values.dropna().to_numpy(float) for values in (first, second)]
    if not all(len(values) for values in known):
        return None
    return float(wasserstein_distance(*known))


def measure_boxes(snapshot: Snapshot, parts: pd.Series) -> pd.DataFrame:
    """One row per annotation: annotation_id, object_class, part, size (root of the area, px), x, y (0..1)."""
    table = snapshot.annotations
    frame = snapshot.frames.set_index("img_path")[["width", "height"]].reindex(table["img_path"])
    width, height = (frame[name].to_numpy(float, na_value=np.nan) for name in ("width", "height"))
    x1, y1, x2, y2 = (table[name].to_numpy(np.float64) for name in ("x1", "y1", "x2", "y2"))
    return pd.DataFrame(
        {
            "annotation_id": table["annotation_id"],
            "object_class": table["object_class"],
            "part": table["img_path"].map(parts),
            "size": np.sqrt((x2 - x1) * (y2 - y1)),
            "x": _relative(x1 + x2, width),
            "y": _relative(y1 + y2, height),
        }
    )


def size_histogram(boxes: pd.DataFrame) -> Sizes:
    """Sizes of boxes by part, in bins of equal ratio."""
    sizes = boxes["size"].clip(lower=1).to_numpy(float)
    low, high = (float(sizes.min()), float(sizes.max())) if len(sizes) else (1.0, 2.0)
    edges = np.geomspace(low, max(high, low * 1.01), SIZE_BINS + 1)
    edges[0], edges[-1] = low, max(high, low * 1.01)  # rounding must not put the extremes outside
    counts = {
        part: np.histogram(sizes[(boxes["part"] == part).to_numpy(bool)], edges)[0].tolist()
        for part in USED
        if (boxes["part"] == part).any()
    }
    return Sizes([round(float(edge), 2) for edge in edges], counts)


def _relative(twice: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole > 0, twice / 2 / whole, np.nan)
