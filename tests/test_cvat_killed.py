"""kill -9 of a pushing process at random moments, then the push once more: nothing twice, nothing lost."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from obdb_lib.cvat.push import StoreJournal, pushed_suggestions, send, undo_push
from obdb_lib.store import Store
from tests.conftest import PROJECT
from tests.cvat_server import StandIn
from tests.cvat_server.helpers import connect_to, two_frame_plan
from tests.cvat_server.state import server_state
from tests.push_script import NOON

MOMENTS = 50
SEED = 6
SETTLE_S = 0.02
"""For the server to end what the killed process had asked for last; a request that comes later still is another one."""


class Pushes:
    """Pushes in processes of their own."""

    def __init__(self, process: subprocess.Popen[str], store: Store) -> None:
        assert process.stdin
        assert process.stdout
        self._in, self._out = process.stdin, process.stdout
        self._store = store

    def run(self, server: StandIn, *, kill_after_s: float | None = None) -> int:
        """Exit status of a push; -9 when it was killed."""
        places = {"mongodb": self._store._address, "database": self._store._database}
        self._in.write(json.dumps({"server": server.url, **places}) + "\n")
        self._in.flush()
        number = int(self._out.readline())
        if kill_after_s is not None:
            time.sleep(kill_after_s)
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        return int(self._out.readline())


@contextmanager
def pushes(store: Store, images: Path) -> Iterator[Pushes]:
    command = [sys.executable, "-m", "tests.push_script", str(images)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT) as process:
        yield Pushes(process, store)


@pytest.mark.slow
def test_push_killed_at_random_moments(store: Store, tmp_path: Path) -> None:
    plan = two_frame_plan(tmp_path / "here", now=NOON)
    moments = random.Random(SEED)
    killed_with_notes = 0
    with pushes(store, tmp_path / "there") as process:
        with StandIn() as server:
            process.run(server)  # the first one loads what the others find loaded
        with StandIn() as server:
            begun = time.monotonic()
            assert process.run(server) == 0
            takes_s = time.monotonic() - begun
            wanted = server_state(server)
        for place in range(MOMENTS):
            store._db.pushes.delete_many({})  # a port may come again, and with it another server of this address
            with StandIn() as server:
                status = process.run(server, kill_after_s=moments.uniform(0, takes_s))
                assert status in (0, -signal.SIGKILL)
                time.sleep(SETTLE_S)
                journal = StoreJournal(store)
                killed_with_notes += status != 0 and bool(journal.entries())
                client = connect_to(server.url)
                if place % 5 == 4:  # undone instead of repeated, and then pushed after all
                    if journal.entries():
                        undo_push(client, plan.push_id, journal=journal, confirm=True)
                    assert server.world.tasks == {}, place
                    assert pushed_suggestions(journal.entries()) == set()
                send(plan, client, journal=journal, confirm=True, shapes_per_request=1)
                assert server_state(server) == wanted, place
                assert pushed_suggestions(journal.entries()) == {"s1", "s2", "s3", "s4"}
    assert killed_with_notes >= MOMENTS / 3, "most moments lie within the push"
