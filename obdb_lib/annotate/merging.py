"""Verified auto tasks into their ground-truth tasks: ``-u True -m PATTERN -d PREFIX``."""

from __future__ import annotations

from obdb_lib.annotate.desk import DONE, DRY_RUN, Desk
from obdb_lib.cvat.merge import merge
from obdb_lib.cvat.merge_plan import DEFAULT_MERGE_IOU, plan_merge
from obdb_lib.cvat.push import StoreJournal


def merge_verified(desk: Desk, *, prefix: str, match: str = "", min_iou: float | None = None) -> int:
    """Add what is verified in auto tasks and does not stand in their ground-truth tasks yet.

    Args:
        prefix: beginning of the auto tasks' names, in whole words.
        match: part of the ground-truth tasks' names; named just as the source task when empty.
        min_iou: overlap from which two boxes of a class are one, above 0 and at most 1; DEFAULT_MERGE_IOU when None.

    Raises:
        CvatError: no such task, a label is lacking, or trouble with the server; run it again, it goes on.
    """
    client, journal = desk.client(), StoreJournal(desk.store)
    plan = plan_merge(
        client,
        source_prefix=prefix,
        target=match or None,
        min_iou=min_iou or DEFAULT_MERGE_IOU,
        journal=journal,
        progress=desk.progress,
    )
    desk.say(f"{plan.summary()}\n{plan.table().to_string(index=False)}" if plan.tasks else plan.summary())
    # Without a box to add it still notes what an earlier try, cut off, has left there.
    if plan.boxes and not desk.agreed(f"Add these {plan.boxes} boxes on {client.url}"):
        return DRY_RUN
    if plan.boxes or desk.sure:
        desk.say(merge(plan, client, journal=journal, confirm=True, progress=desk.progress).summary())
    return DONE
