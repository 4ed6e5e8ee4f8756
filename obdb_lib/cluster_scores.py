"""Where on the map a detector fails: average precision of each cluster of annotated plants."""

from __future__ import annotations

import numpy as np
import pandas as pd

from obdb_lib.curves import CURVE_IOU
from obdb_lib.matches import NOTHING, Matches, average_precision

OUTLIERS = "outlier"
"""Name of what is in no cluster."""


def cluster_scores(
    matches: Matches, truth: pd.DataFrame, labels: pd.Series, *, iou: float = CURVE_IOU, min_score: float = 0.5
) -> pd.DataFrame:
    """AP50 and recall of each cluster.

    A false detection belongs to no cluster by itself. So a cluster is judged on the frames that show it: their false
    detections count against it, detections of other clusters' plants do not count at all. AP is the mean over the
    classes that the cluster has there, weighted by their boxes: one stray box of another class is no half of a cluster.

    Args:
        matches: of ``match_detections(detections, truth, ...)``.
        truth: the same table that was matched, with ``annotation_id``.
        labels: annotation_id -> cluster (-1 or missing: in none).
        iou: one of the overlaps matched.
        min_score: threshold of ``recall`` and ``missed``.

    Returns:
        One row a cluster, the worst AP first: cluster (text), ap, truth (boxes), frames, false (detections of
        ``min_score`` or more on its frames that found nothing), missed (boxes), recall (0..1).
    """
    found = matches.at(iou)
    of_truth = _names(truth["annotation_id"].map(labels)).to_numpy(object)[matches.truth_row]
    hit = found != NOTHING
    of_found = np.full(len(found), "", dtype=object)
    of_found[hit] = of_truth[found[hit]]
    sure = matches.score >= min_score - 1e-7
    rows = []
    for name in sorted(set(of_truth)):
        mine = of_truth == name
        shown = np.zeros(len(matches.img_paths), dtype=bool)
        shown[matches.truth_image[mine]] = True
        here = shown[matches.image]
        counted = (hit & (of_found == name)) | (~hit & here)
        classes, boxes = np.unique(matches.truth_label[mine], return_counts=True)
        scores = [
            average_precision(hit[counted & (matches.label == k)], int(count))
            for k, count in zip(classes, boxes, strict=True)
        ]
        reached = int((sure & hit & (of_found == name)).sum())
        false = int((sure & ~hit & here).sum())
        total = int(mine.sum())
        rows.append(
            (
                name,
                float(np.average(scores, weights=boxes)),
                total,
                int(shown.sum()),
                false,
                total - reached,
                reached / total,
            )
        )
    names = ["cluster", "ap", "truth", "frames", "false", "missed", "recall"]
    return pd.DataFrame(rows, columns=names).sort_values(["ap", "cluster"]).reset_index(drop=True)


def _names(labels: pd.Series) -> pd.Series:
    """Cluster names as the map shows them."""
    known = labels.notna() & (labels != -1)
    return labels.where(known, -1).astype(float).astype(int).astype(str).where(known, OUTLIERS)


def on_map(points: pd.DataFrame, truth: pd.DataFrame, matches: Matches, scores: pd.DataFrame) -> pd.DataFrame:
    """The map's points on judged frames, with what became of each: for ``ClusterMap`` and ``static_map``.

    Returns:
        ``points`` (those of ``read_map``) with the columns of ``truth``, ``cluster`` as text, ``cluster_ap`` (0..1) and
        ``result``: "found", "found, unsure" (below .5), or "missed".
    """
    found = matches.at(CURVE_IOU)
    hit = np.flatnonzero(found != NOTHING)
    score = np.full(len(matches.truth_row), np.nan)
    score[found[hit]] = matches.score[hit]
    ids = truth["annotation_id"].to_numpy(object)[matches.truth_row]
    result = np.where(np.isnan(score), "missed", np.where(score >= 0.5, "found", "found, unsure"))
    judged = pd.DataFrame({"annotation_id": ids, "result": result, "score": score})
    table = points.assign(cluster=_names(points["cluster"])).merge(judged, on="annotation_id")
    table["cluster_ap"] = table["cluster"].map(scores.set_index("cluster")["ap"]).astype(float)
    return table.merge(truth, on="annotation_id")
