"""Pushes in processes that a test kills: one process loads everything and forks a new one for each line it reads.

Started as ``python -m tests.push_script FOLDER``, which takes the images; a line is JSON with ``server``, ``database``
and ``mongodb``.
Answers each with the new process's id and, when that is over, with its exit status (-9: killed).
"""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from obdb_lib.cvat.push import PushPlan, StoreJournal, send
from obdb_lib.store import Store
from tests.cvat_server.helpers import connect_to, two_frame_plan

NOON = datetime(2026, 5, 20, 12, tzinfo=UTC)


def push(plan: PushPlan, server: str, mongodb: str, database: str) -> None:
    """The whole push, one box a request, from the log-in on."""
    with Store(mongodb, database) as store:
        send(plan, connect_to(server), journal=StoreJournal(store), confirm=True, shapes_per_request=1)


def answer(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def main() -> None:
    plan = two_frame_plan(Path(sys.argv[1]), now=NOON)
    for line in sys.stdin:
        number = os.fork()  # nothing here has threads yet, so this is safe
        if number == 0:
            push(plan, **json.loads(line))
            os._exit(0)
        answer(number)
        _, status = os.waitpid(number, 0)
        answer(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
