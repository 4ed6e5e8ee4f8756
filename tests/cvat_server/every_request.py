"""Every request of an action goes wrong once, in every way; repeated, the action ends as an undisturbed one does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from obdb_lib.cvat import transport
from obdb_lib.errors import ObdbError
from obdb_lib.store import Store

from .app import StandIn
from .faults import ANY, KINDS, Fault, happens_to
from .state import server_state, store_state

MAX_TRIES = 5
"""An action must end well at its first repeat or soon after: the fault happens once."""
SHORT_TIMEOUT_S = 0.1
"""How long the client waits for an answer while "slow" is tried."""


@dataclass
class Scene:
    """An action in a world of its own.

    Attributes:
        run: the action, log-in included where that is to be disturbed, too; called again after an accident as by a new
            process, so it must keep nothing but what is on disk, in MongoDB, in a journal or on the server.
        store: its MongoDB, compared at the end and emptied by whoever made it.
        more: what else is compared at the end, for example files.
    """

    run: Callable[[], object]
    store: Store | None = None
    more: Callable[[], Any] = lambda: None

    def state(self, server: StandIn) -> Any:
        return {
            "server": server_state(server),
            "store": store_state(self.store) if self.store else None,
            "more": self.more(),
        }


@dataclass
class Runs:
    """What was tried: the requests of an undisturbed run, and numbers of disturbed runs by kind."""

    requests: list[tuple[str, str]] = field(default_factory=list)
    by_kind: Counter[str] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        return self.by_kind.total()


def every_request(
    make: Callable[[StandIn], Scene],
    kinds: Sequence[str] = KINDS,
    *,
    skip: Callable[[str, str], bool] = lambda method, path: False,
    delay: int = 0,
    each: Callable[[StandIn, Scene], None] = lambda server, scene: None,
) -> Runs:
    """Run the scene undisturbed, then in a fresh world for every request and kind with this fault at this request.

    Args:
        make: arranges a fresh server (and store) for the action; its requests are not counted.
        kinds: of faults, from ``KINDS``.
        skip: requests to leave alone.
        delay: of the kind "late": how many requests later the server does it.
        each: called at the end of each run, for what else must hold.

    Raises:
        AssertionError: an end state that differs from the undisturbed one, a fault that was not met, or an action that
            does not end well; the message names request and kind.
    """
    runs = Runs()
    with StandIn() as server:
        scene = make(server)
        server.log.clear()
        scene.run()
        runs.requests = list(server.log)
        wanted = scene.state(server)
        each(server, scene)
    for number, (method, path) in enumerate(runs.requests):
        for kind in kinds:
            if happens_to(kind, method, path) and not skip(method, path):
                _disturbed(make, number, kind, delay, wanted, each)
                runs.by_kind[kind] += 1
    return runs


def _disturbed(
    make: Callable[[StandIn], Scene],
    number: int,
    kind: str,
    delay: int,
    wanted: Any,
    each: Callable[[StandIn, Scene], None],
) -> None:
    with StandIn() as server:
        scene = make(server)
        fault = Fault(ANY, "", kind=kind, skip=number, delay=delay)
        server.faults.append(fault)
        what = f"{kind} at request {number}"
        told: list[str] = []
        with _impatient(fault):
            while True:
                try:
                    scene.run()
                    break
                except ObdbError as error:  # anything else is a traceback for the user, and fails the test
                    told.append(str(error))
                    assert len(told) < MAX_TRIES, f"{what}: no good end after {told}"
        assert fault.met, f"{what} was not met"
        what = f"{what} ({' '.join(fault.met[0])})"
        assert scene.state(server) == wanted, f"{what}, told {told}: another end than undisturbed"
        each(server, scene)


@contextmanager
def _impatient(fault: Fault) -> Iterator[None]:
    """While "slow" is tried, the client gives up soon, until the fault was met: a busy machine is slow by itself."""
    waits = transport.Connection.request

    def request(self: transport.Connection, *args: Any, **more: Any) -> Any:
        if not fault.met:
            more["_request_timeout"] = SHORT_TIMEOUT_S
        return waits(self, *args, **more)

    with pytest.MonkeyPatch.context() as patch:
        if fault.kind == "slow":
            patch.setattr(transport.Connection, "request", request)
        yield
