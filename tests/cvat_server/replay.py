"""Hold the stand-in against recorded traffic of a real server: same requests in the same order, answers compared.

Ids, dates, tokens, hosts and generated colours differ between two servers; ids are mapped one to one, the rest is
compared by form. Status, content type, keys, types of values and all other values must be equal.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from .app import StandIn
from .world import Project, Task

SKIPPED_STEPS = {
    "export": "export is not part of the stand-in: the product reads the annotations' JSON",
    "import": "import is not part of the stand-in: the product writes by PATCH",
    "edge:2:job export/import": "export and import, as above",
    "edge:2:import 409": "import, as above",
    "edge:2:download": "downloads of exports, as above",
}
SKIPPED_NUMBERS = {
    6: "export",
    186: "export",
    331: "state of an export",
    139: "list of import and export formats",
    141: "health check, not used",
    142: "health page, not used",
    282: "list that holds exports, too",
    285: "list of exports",
    413: "zipped chunk of frames, not used",
    415: "preview, not used",
    416: "recorded body was cut short",
    417: "recorded answer was cut short, to the request before",
    419: "recorded body was cut short",
}
KIND_OF_PLACE = {"tasks": "task", "projects": "project", "jobs": "job", "labels": "label", "users": "user"}
KIND_OF_KEY = {
    "label_id": "label",
    "task_id": "task",
    "project_id": "project",
    "job_id": "job",
    "spec_id": "attribute",
    "data": "data",
}
KIND_OF_CHILD = {"owner": "user", "assignee": "user", "tags": "tag", "shapes": "shape", "tracks": "track"}
DATES = ("_date", "last_login", "date_joined")
DATE_FORM = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
FORM_ONLY = ("description", "key", "value")
EARLY = ("queued", "started")
PASSWORDS = {"admin": "admin-password", "user1": "user1-password", "user2": "user2-password"}
SEEDED = 4
RECORDED_HOST = "http://127.0.0.1:8080"


def skip_reason(record: dict[str, Any]) -> str | None:
    """Why a recorded request is not replayed; None when it is."""
    if record["n"] in SKIPPED_NUMBERS and record["n"] > 15:
        return SKIPPED_NUMBERS[record["n"]]
    if record["step"] == "sdk.errors" and "export" in record["path"]:
        return SKIPPED_NUMBERS[6]
    names = (record["step"], record["step"].removeprefix("edge:"))
    return next((why for step, why in SKIPPED_STEPS.items() for name in names if name.startswith(step)), None)


@dataclass
class Ids:
    """One-to-one map of recorded ids to the stand-in's, by kind; learned from answers."""

    there: dict[tuple[str, int], int] = field(default_factory=dict)
    back: dict[tuple[str, int], int] = field(default_factory=dict)

    def map(self, kind: str, recorded: int) -> int:
        return self.there.get((kind, recorded), recorded)

    def same(self, kind: str, recorded: int, actual: int) -> bool:
        """Whether the two stand for the same thing; learns a pair when neither was met before."""
        if (kind, recorded) not in self.there and (kind, actual) not in self.back:
            self.there[kind, recorded], self.back[kind, actual] = actual, recorded
        return self.there.get((kind, recorded)) == actual

    def in_text(self, text: str) -> str:
        """Recorded ids in addresses and messages put into the stand-in's."""

        def place(match: re.Match[str]) -> str:
            kind = KIND_OF_PLACE.get(match[2]) or match[2]
            return f"{match[1]}{match[2]}{match[3]}{self.map(kind, int(match[4]))}"

        text = re.sub(r"(/)(tasks|projects|jobs|labels|users)(/)(\d+)", place, text)
        text = re.sub(r"()(task|project|job)(_id=)(\d+)", place, text)
        text = re.sub(r"((?:target(?:=|%3D)))(task)((?:&|%26)target_id(?:=|%3D))(\d+)", place, text)
        text = re.sub(r"(label)(_id `)(\d+)", lambda m: f"{m[1]}{m[2]}{self.map('label', int(m[3]))}", text)
        return re.sub(r"(Key \(id\)=\()(\d+)", lambda m: f"{m[1]}{self.map('shape', int(m[2]))}", text)

    def in_body(self, value: Any, kind: str = "") -> Any:
        """A request's JSON with its ids put into the stand-in's."""
        if isinstance(value, list):
            return [self.in_body(item, kind) for item in value]
        if not isinstance(value, dict):
            return value
        changed = {}
        for key, item in value.items():
            if isinstance(item, int) and (key == "id" or key in KIND_OF_KEY):
                changed[key] = self.map(KIND_OF_KEY.get(key, kind), item)
            else:
                changed[key] = self.in_body(item, KIND_OF_CHILD.get(key, "label" if key == "labels" else ""))
        return changed


def differences(recorded: Any, actual: Any, ids: Ids, base: str, kind: str = "", at: str = "") -> list[str]:
    """What differs between two JSON values, one line each; ``kind`` says whose ``id`` it is."""
    if type(recorded) is not type(actual):
        return [f"{at}: type {type(recorded).__name__} ({recorded!r}), got {type(actual).__name__} ({actual!r})"]
    if isinstance(recorded, dict):
        return _dict_differences(recorded, actual, ids, base, kind, at)
    if isinstance(recorded, list):
        if len(recorded) != len(actual):
            return [f"{at}: {len(recorded)} items, got {len(actual)}"]
        numbered = all(isinstance(item, dict) and isinstance(item.get("id"), int) for item in recorded + actual)
        if kind in ("shape", "tag", "track") and numbered:
            recorded = sorted(recorded, key=lambda item: ids.map(kind, item["id"]))
            actual = sorted(actual, key=lambda item: item["id"])
        return [
            line
            for number, (left, right) in enumerate(zip(recorded, actual, strict=True))
            for line in differences(left, right, ids, base, kind, f"{at}[{number}]")
        ]
    if isinstance(recorded, str):
        recorded = ids.in_text(recorded.replace(RECORDED_HOST, base))
        for pattern, same in ((r"available in \d+", "available in N"), (r"/data/\d+/raw/", "/data/N/raw/")):
            recorded, actual = re.sub(pattern, same, recorded), re.sub(pattern, same, actual)
    return [] if recorded == actual else [f"{at}: {recorded!r}, got {actual!r}"]


def _dict_differences(recorded: Any, actual: Any, ids: Ids, base: str, kind: str, at: str) -> list[str]:
    found = []
    if set(recorded) != set(actual):
        found.append(f"{at}: keys missing {set(recorded) - set(actual)}, unexpected {set(actual) - set(recorded)}")
    running = recorded.get("status") in EARLY and actual.get("status") in EARLY
    for key in sorted(recorded.keys() & actual.keys(), key=lambda key: (key != "id", key)):
        left, right, where = recorded[key], actual[key], f"{at}.{key}"
        if key.endswith(DATES):
            same_form = (left is None) == (right is None) and (right is None or DATE_FORM.match(right))
            if not same_form and not (running and key == "started_date"):
                found.append(f"{where}: {left!r}, got {right!r}")
        elif (
            (key in FORM_ONLY and isinstance(left, str) and isinstance(right, str) and kind != "attribute")
            or (running and key in ("status", "message"))
            or (key == "color" and isinstance(right, str) and re.match("^#[0-9a-f]{6}$", right) and kind == "label")
        ):
            continue
        elif isinstance(left, int) and not isinstance(left, bool) and (key == "id" or key in KIND_OF_KEY):
            if not isinstance(right, int) or not ids.same(KIND_OF_KEY.get(key, kind), left, right):
                found.append(f"{where}: id {left} is known as {ids.map(kind, left)}, got {right}")
        else:
            child = KIND_OF_CHILD.get(key, kind)
            child = "attribute" if key == "attributes" and kind == "label" else child
            child = "track_shape" if key == "shapes" and kind == "track" else child
            found += differences(left, right, ids, base, child, where)
    return found


@dataclass
class Report:
    """How a replay went: numbers compared, reasons of the skipped ones, and every difference."""

    compared: list[int] = field(default_factory=list)
    skipped: dict[str, list[int]] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)


class Replay:
    """Sends recorded requests to a stand-in, in order."""

    def __init__(self, server: StandIn) -> None:
        self.server = server
        self.ids = Ids()
        self.cookie = ""
        self.tokens: dict[str, str] = {}
        self.access_tokens: list[str] = []
        self.report = Report()
        for name in ("user1", "user2"):
            server.world.add_user(name, PASSWORDS[name])
        self._seed()

    def _seed(self) -> None:
        """Four projects with a task each were there before the recording began."""
        world = self.server.world
        admin, now = world.users[1], world.now()
        for _ in range(SEEDED):
            project = Project(world.next_id("project"), "proj1", admin, now, now)
            world.projects[project.id] = project
            task = Task(world.next_id("task"), "task1", admin, now, now, project.id)
            world.tasks[task.id] = task

    def run(self, records: list[dict[str, Any]]) -> Report:
        step = ""
        for record in records:
            if record["step"] != step and not record["step"].startswith("edge:2:"):
                self.server.clock.advance(61)  # the real steps were further apart than the throttle looks back
            step = record["step"]
            reason = skip_reason(record)
            if reason:
                self.report.skipped.setdefault(reason, []).append(record["n"])
                continue
            self._one(record)
        return self.report

    def _one(self, record: dict[str, Any]) -> None:
        path = self.ids.in_text(record["path"])
        headers, body = self._request(record)
        final = isinstance(record["res_body"], dict) and record["res_body"].get("status") in ("finished", "failed")
        for _ in range(4 if final and "/requests/" in path else 1):
            status, got, content = self._send(record["method"], path, headers, body)
            if b'"status": "queued"' not in content and b'"status": "started"' not in content:
                break
        self.report.compared.append(record["n"])
        lines = [] if status == record["status"] else [f"status {record['status']}, got {status} {content[:200]!r}"]
        lines += self._header_differences(record, got) + self._body_differences(record, content)
        place = f"#{record['n']} {record['step']} {record['method']} {record['path']}"
        self.report.differences += [f"{place}: {line}" for line in lines]

    def _send(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(urlsplit(self.server.url).netloc, timeout=10)
        connection.request(method, path, body or None, headers)
        response = connection.getresponse()
        content = response.read()
        cookies = [value.split(";")[0] for key, value in response.getheaders() if key == "Set-Cookie"]
        if cookies:
            self.cookie = "; ".join(cookies)
        connection.close()
        return response.status, {key.lower(): value for key, value in response.getheaders()}, content

    def _request(self, record: dict[str, Any]) -> tuple[dict[str, str], bytes]:
        headers = {key: value for key, value in record["req_headers"].items() if key not in ("Cookie", "Authorization")}
        if "Cookie" in record["req_headers"]:
            headers["Cookie"] = self.cookie
        if "Authorization" in record["req_headers"]:
            headers["Authorization"] = self._authorization(record)
        given = record["req_body"]
        if given is None:
            return headers, b""
        if isinstance(given, dict) and "_multipart" in given:
            return headers, _multipart(given["_multipart"], headers["Content-Type"].split("boundary=")[1])
        if isinstance(given, dict) and "_head" in given:
            return headers, bytes.fromhex(given["_head"])
        if isinstance(given, dict) and "_text" in given:
            return headers, given["_text"].encode()
        if record["path"] == "/api/auth/login":
            password = "wrong" if record["status"] == 400 else PASSWORDS[given["username"]]
            return headers, json.dumps({**given, "password": password}).encode()
        kind = "shape" if "annotations" in record["path"] else "label"
        return headers, json.dumps(self.ids.in_body(given, kind)).encode()

    def _authorization(self, record: dict[str, Any]) -> str:
        """The masked secret, from who was speaking: recorded answers of 401 had a bad one."""
        kind = record["req_headers"]["Authorization"].split()[0]
        who = "user1" if "user1" in record["step"] else "user2" if "logout" in record["step"] else "admin"
        if record["n"] == 334:  # the administrator hands the job to user1
            who = "admin"
        if kind == "Basic":
            return "Basic " + base64.b64encode(f"{who}:{PASSWORDS[who]}".encode()).decode()
        if kind == "Bearer":
            return f"Bearer {self._access_token(record)}"
        if record["status"] == 401 and who == "admin":
            return "Token bad"
        user = next(user for user in self.server.world.users.values() if user.username == who)
        self.tokens[who] = user.token or self.tokens.get(who, "")
        return f"Token {self.tokens[who]}"

    def _access_token(self, record: dict[str, Any]) -> str:
        tokens = list(self.server.world.access_tokens)
        if record["status"] == 401:
            return "bad"
        return tokens[1] if record["status"] == 403 else tokens[0]

    def _header_differences(self, record: dict[str, Any], got: dict[str, str]) -> list[str]:
        recorded = {key.lower(): value for key, value in record["res_headers"]}
        lines = []
        for name in ("content-type", "www-authenticate"):
            if recorded.get(name) != got.get(name):
                lines.append(f"header {name} {recorded.get(name)!r}, got {got.get(name)!r}")
        for name in ("location", "retry-after"):
            if (name in recorded) != (name in got):
                lines.append(f"header {name} {recorded.get(name)!r}, got {got.get(name)!r}")
        return lines

    def _body_differences(self, record: dict[str, Any], content: bytes) -> list[str]:
        recorded = record["res_body"]
        if recorded is None:
            return [] if not content else [f"no body, got {content[:80]!r}"]
        if isinstance(recorded, dict) and "_text" in recorded:
            text = content.decode()
            return [] if text == recorded["_text"] else [f"text {recorded['_text']!r}, got {text!r}"]
        if isinstance(recorded, dict) and "_binary" in recorded:
            return [] if content.startswith(bytes.fromhex(recorded["_head"])) else [f"binary, got {content[:16]!r}"]
        try:
            actual = json.loads(content)
        except ValueError:
            return [f"JSON, got {content[:80]!r}"]
        found = re.match(r"/api/(\w+)(?:/\d+)?", record["path"])
        kind = KIND_OF_PLACE.get(found[1], found[1]) if found else ""
        seeded = self._drop_seeded(recorded, actual, kind)
        return differences(*seeded, self.ids, self.server.url, kind)

    def _drop_seeded(self, recorded: Any, actual: Any, kind: str) -> tuple[Any, Any]:
        """Leave out of lists what was there before the recording: only its number is known."""
        if not isinstance(recorded, dict) or "results" not in recorded or kind not in ("task", "project"):
            return recorded, actual

        def ours(value: Any) -> Any:
            kept = [item for item in value["results"] if item["id"] > SEEDED]
            return {**value, "results": kept}

        return ours(recorded), ours(actual)


def _multipart(parts: list[list[Any]], boundary: str) -> bytes:
    chunks = []
    for name, filename, kind, content in parts:
        if kind != "image/png":
            chunks.append(f'Content-Disposition: form-data; name="{name}"\r\n\r\n{content}'.encode())
            continue
        first = not filename  # the recorder wrote the file's name in place of the field's
        path = name if first else filename
        data = content.encode() if content == "not a png" else _png()
        field_name = "client_files[0]" if first else name
        head = f'Content-Disposition: form-data; name="{field_name}"; filename="{path}"\r\nContent-Type: {kind}\r\n\r\n'
        chunks.append(head.encode() + data)
    mark = f"--{boundary}".encode()
    return b"".join(mark + b"\r\n" + chunk + b"\r\n" for chunk in chunks) + mark + b"--\r\n"


def _png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (320, 240), "green").save(file, "PNG")
    return file.getvalue()


def read_traffic(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
