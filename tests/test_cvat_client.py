"""The CVAT client against the stand-in: logging in, every form of refusal, waiting, lists in pages."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator

import pytest

from obdb_lib.cvat.client import CvatClient, NoAnswerError, RefusedError, connect
from obdb_lib.cvat.labels import match_labels
from obdb_lib.errors import CvatError
from obdb_lib.paths import CvatAccess
from tests.cvat_server import Fault, StandIn
from tests.cvat_server.answers import Answer, as_json, detail, page, server_error, text
from tests.cvat_server.helpers import PASSWORD, log_in


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as found:
        yield found


@pytest.fixture
def client(server: StandIn) -> CvatClient:
    return log_in(server)


def test_connect__password_logs_in_once_and_never_out(server: StandIn) -> None:
    client = log_in(server)
    assert client.user == "admin"
    client.tasks()
    logins = [path for _, path in server.log if "auth" in path]
    assert logins == ["/api/auth/login"]


@pytest.mark.parametrize("kind", ["login", "personal"])
def test_connect__token_of_either_kind(server: StandIn, kind: str) -> None:
    token, _ = server.world.log_in(server.world.users[1])
    if kind == "personal":
        client = log_in(server)
        token = client.request("POST", "auth/access_tokens", body={"name": "lab"})["value"]
    assert connect(CvatAccess(server.url, token=token)).user == "admin"


@pytest.mark.parametrize("token", ["a" * 40, "nope.nope"])
def test_connect__bad_token(server: StandIn, token: str) -> None:
    with pytest.raises(CvatError, match=r"401 Invalid token.*CVAT_TOKEN") as caught:
        connect(CvatAccess(server.url, token=token))
    assert token not in str(caught.value)


def test_connect__wrong_password(server: StandIn) -> None:
    with pytest.raises(CvatError, match="does not accept the password of 'admin'") as caught:
        connect(CvatAccess(server.url, "admin", "sesame-open"))
    assert "sesame-open" not in str(caught.value)


def test_connect__no_credentials() -> None:
    with pytest.raises(CvatError, match="CVAT_TOKEN, or CVAT_USERNAME"):
        connect(CvatAccess("http://127.0.0.1:1"))


def test_connect__unreachable() -> None:
    with socket.socket() as taken:  # bound but not listening: nobody answers there
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(NoAnswerError, match=r"no answer from http.*run this step again"):
            connect(CvatAccess(f"http://127.0.0.1:{taken.getsockname()[1]}", "admin", "x"))


def test_connect__no_scheme_means_https() -> None:
    with pytest.raises(CvatError, match=r"https://127\.0\.0\.1:1"):
        connect(CvatAccess("127.0.0.1:1", "admin", "x"))
    with pytest.raises(CvatError, match="not usable"):
        connect(CvatAccess("ftp://127.0.0.1", "admin", "x"))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (as_json({"hello": 1}), "not as a CVAT server"),
        (page("Welcome", "to nginx", 200), "no JSON.*Welcome"),
        (Answer(301, headers=(("Location", "https://elsewhere/api/server/about"),)), "redirects to https://elsewhere"),
    ],
)
def test_connect__something_else_answers(server: StandIn, answer: Answer, message: str) -> None:
    server.faults.append(Fault("GET", "server/about", answer=answer))
    with pytest.raises(CvatError, match=message):
        log_in(server)


def test_secrets_stay_out_of_repr_logs_and_errors(server: StandIn, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        client = log_in(server)
        token = server.world.users[1].token or ""
        server.faults.append(Fault("GET", "tasks", answer=detail(f"you sent {PASSWORD} and {token}", 400)))
        with pytest.raises(CvatError) as caught:
            client.tasks()
    seen = f"{client!r} {caught.value} {caplog.text} {CvatAccess(server.url, 'admin', PASSWORD)!r}"
    assert PASSWORD not in seen
    assert token not in seen
    assert "***" in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (detail("No way.", 403), "403 No way"),
        (as_json(["first", "second"], 400), "400 first, second"),
        (as_json("a bare string", 400), "400 a bare string"),
        (as_json({"name": ["too long"], "labels": [{}, {"type": ["bad"]}]}, 400), "name: too long; labels: type: bad"),
        (text("gone for good", 410), "410 gone for good"),
        (server_error(), r"500 Server Error \(500\).*broke"),
        (Answer(502), "502"),
    ],
)
def test_refusals_of_every_form(server: StandIn, client: CvatClient, answer: Answer, message: str) -> None:
    server.faults.append(Fault("GET", "tasks", answer=answer))
    with pytest.raises(RefusedError, match=message):
        client.tasks()


def test_not_json(server: StandIn, client: CvatClient) -> None:
    server.faults.append(Fault("GET", "tasks", answer=page("Sign in", "please", 200)))
    with pytest.raises(CvatError, match=r"no JSON.*Sign in"):
        client.tasks()


def test_throttled__waits_as_told_and_asks_again(server: StandIn) -> None:
    slept: list[float] = []
    client = log_in(server, sleep=slept.append)
    throttled = detail("Request was throttled.", 429, ("Retry-After", "7"))
    server.faults.append(Fault("GET", "tasks", answer=throttled, times=2))
    assert client.tasks() == []
    assert slept == [7.0, 7.0]


def test_throttled__for_ever_or_for_long_is_an_error(server: StandIn) -> None:
    slept: list[float] = []
    client = log_in(server, sleep=slept.append)
    server.faults.append(Fault("GET", "tasks", answer=detail("slow", 429, ("Retry-After", "1")), times=100))
    with pytest.raises(CvatError, match="429"):
        client.tasks()
    assert len(slept) == 4
    server.faults[:] = [Fault("GET", "tasks", answer=detail("slow", 429, ("Retry-After", "900")))]
    with pytest.raises(CvatError, match="900 s to wait"):
        client.tasks()
    assert len(slept) == 4


def test_throttled__real_limit_of_anonymous_calls(server: StandIn) -> None:
    """A hundred log-ins in a minute from one address: the client waits as long as the server says."""
    for _ in range(50):
        log_in(server)
    assert log_in(server, sleep=server.clock.advance).user == "admin"
    assert any(path == "/api/auth/login" for _, path in server.log[-3:])


def test_connection_broken__is_told_and_a_write_is_not_repeated(server: StandIn, client: CvatClient) -> None:
    server.faults.append(Fault("POST", "tasks", kind="drop_after"))
    with pytest.raises(NoAnswerError, match="no answer"):
        client.create_task("once", labels=["a"])
    assert [task.name for task in server.world.tasks.values()] == ["once"]


def test_lists_come_whole(server: StandIn, client: CvatClient) -> None:
    for number in range(230):
        client.create_task(f"task {number}", labels=[])
    assert [task["name"] for task in client.tasks()] == [f"task {number}" for number in range(230)]
    assert [task["id"] for task in client.tasks("task 7")] == [8]


def test_task_that_is_gone(client: CvatClient) -> None:
    made = client.create_task("short-lived", labels=["a"])
    client.delete_task(made["id"])
    client.delete_task(made["id"])
    assert client.task(made["id"]) is None


def test_labels_of_a_task_in_a_project_are_the_projects(client: CvatClient) -> None:
    project = client.request("POST", "projects", body={"name": "p", "labels": [{"name": "weed"}]})
    task = client.create_task("t", labels=["ignored"], project_id=project["id"])
    labels = client.labels(task_id=task["id"])
    assert [label["name"] for label in labels] == ["weed"]
    assert match_labels(["weed"], labels, where="task 't'") == {"weed": labels[0]["id"]}


def test_match_labels__names_what_is_missing() -> None:
    labels = [{"id": 4, "name": "Dandelion"}, {"id": 5, "name": "Cleavers"}]
    with pytest.raises(CvatError, match=r"project 3 has no label 'dandelion' \(did you mean 'Dandelion'\?\)"):
        match_labels(["dandelion", "Cleavers"], labels, where="project 3")
    assert match_labels(["Cleavers"], labels, where="x") == {"Cleavers": 5}
