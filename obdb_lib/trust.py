"""How far to believe detections, in words: who judged which frames, and what that costs."""

from __future__ import annotations

import pandas as pd

from obdb_lib.fold_plan import NO_FOLD, FoldPlan

GROUP_WORDS = {
    "task": "its task",
    "video": "its video",
    "session": "its recording session",
    "camera": "its camera",
    "time_block": "its part of the video",
    "duplicate_group": "a near twin of it",
}
"""What a model of the other folds has not seen, by grouping."""


def folds_sentence(plan: FoldPlan, frames: pd.DataFrame, *, partial: bool, start: str | None = None) -> str:
    """Trust in out-of-fold detections.

    Args:
        frames: as ``OutOfFold.frames``.
        start: the earlier model whose weights all models began with, if any.
    """
    k, looks = len(plan.models), plan.looks
    judged = frames["judges"].map(len) > 0
    inside = frames["fold"] != NO_FOLD
    kept = " or ".join(dict.fromkeys(GROUP_WORDS[name] for name in plan.group_by))
    told = [
        f"{_judged((judged & inside).sum())} by {looks} of {k} models, which trained on neither the frame nor {kept}; "
        f"each learned from about {(k - looks) / k:.0%} of the frames, so a model of all of them would be somewhat "
        "stronger."
    ]
    if start:
        told.append(
            f"But all began with the weights of {start}: if that one was trained on these frames, every model knows "
            "them; leave pretrained_model_path out of the settings to be sure."
        )
    if (~inside).any():
        more = judged & ~inside
        near = f"; {_frames(len(plan.near))} of them look like frames that every model trained on" if plan.near else ""
        told.append(f"{_judged(more.sum(), ' without annotations')} by models that were not trained on them{near}.")
    return " ".join([*told, *_lost(frames, partial)])


def one_model_sentence(frames: pd.DataFrame, *, known: bool, partial: bool) -> str:
    """Trust in the detections of one model on all frames.

    Args:
        frames: as ``OutOfFold.frames``.
        known: which frames it was trained on.
    """
    judged = frames["judges"].map(len) > 0
    seen = int((judged & frames["seen"]).sum())
    if not known:
        told = [
            f"One model of unknown training judged {_frames(judged.sum())}: where it was trained on them, it is shy to "
            "find what it was taught to be background."
        ]
    else:
        told = [
            f"One model judged {_frames(judged.sum())} and was trained on {seen} of them or on near twins: there it is "
            "shy to find a plant that nobody annotated, for it was taught that this is background, and agrees too "
            f"readily with annotations that are wrong. Only {_frames(judged.sum() - seen)} "
            f"{'is' if judged.sum() - seen == 1 else 'are'} out of its sight. out_of_fold costs several trainings and "
            "has every frame judged by a model that never saw it."
        ]
    return " ".join([*told, *_lost(frames, partial)])


def _lost(frames: pd.DataFrame, partial: bool) -> list[str]:
    """What was not judged, or not by all, and why."""
    unreadable = int((frames["unreadable"] != "").sum())
    told = [f"{_frames(unreadable)} could not be read."] if unreadable else []
    if partial:
        left = int(((frames["judges"].map(len) == 0) & (frames["unreadable"] == "")).sum())
        told.append(f"It was stopped: {_frames(left)} not judged yet; the same call goes on.")
    return told


def _judged(count: int, which: str = "") -> str:
    return f"{_frames(count)}{which} {'was' if count == 1 else 'were'} judged"


def _frames(count: int) -> str:
    return f"{count:,} frame{'' if count == 1 else 's'}"
