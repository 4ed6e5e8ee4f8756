"""Start and stop the lab: ``python -m obdb_lib.cli.lab start|stop|sample`` (``make lab``, ``make stop``)."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from obdb_lib import mongod, paths
from obdb_lib.cache import write_json
from obdb_lib.collect import collect_sample
from obdb_lib.errors import ObdbError
from obdb_lib.progress import LogProgress
from obdb_lib.store import Store

ANNOUNCEMENTS = "@jupyterlab/apputils-extension:announcements"
STOP_TIMEOUT_S = 15


def load_sample(store: Store) -> int:
    """Draw the built-in field if it is not there and put it into the store; returns the number of tasks."""
    return len(collect_sample(store, progress=LogProgress()).tasks)


def jupyter_environment() -> dict[str, str]:
    """The environment with Jupyter's folders inside data_cache, so that the lab touches nothing of the user's own."""
    home = paths.data_cache() / "jupyter"
    paths.share_cores()
    environment = paths.environment() | {
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
    }
    # The announcements extension asks the internet for news; the lab works offline.
    write_json(home / "config" / "labconfig" / "page_config.json", {"disabledExtensions": {ANNOUNCEMENTS: True}})
    return environment


def lab_command(*, port: int = 8888, browser: bool = True) -> list[str]:
    """JupyterLab on loopback with a token (Jupyter makes one), opened on the notebooks."""
    command = [
        *(sys.executable, "-m", "jupyterlab"),
        *("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"),
        f"--ServerApp.root_dir={paths.PROJECT_ROOT}",
        "--LabApp.default_url=/lab/tree/notebooks/01_collect_annotations.ipynb",
        "--ServerApp.terminals_enabled=False",
        # Encrypted even on loopback, where other users of the machine could listen.
        "--KernelManager.transport_encryption=auto",
    ]
    if not browser:
        command.append("--no-browser")
    if os.geteuid() == 0:
        command.append("--allow-root")
    return command


def start(port: int, browser: bool) -> int:
    """Database, sample, then JupyterLab in the foreground; Ctrl-C ends Lab, ``make stop`` also the database."""
    with Store() as store:
        if not store.task_names():
            print("Drawing the built-in sample field (about a minute, once) ...")
            print(f"{load_sample(store)} sample tasks are in the store.")
    print("JupyterLab starts. Open the address with ?token=... that it prints below, if no browser opens.")
    return subprocess.call(lab_command(port=port, browser=browser), env=jupyter_environment(), cwd=paths.PROJECT_ROOT)


def stop() -> int:
    """End the labs and the database that were started from this folder."""
    for pid in _lab_pids():
        process = psutil.Process(pid)
        process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while process.is_running() and time.monotonic() < deadline:
            time.sleep(0.1)
        print(f"JupyterLab (process {pid}) stopped.")
    print("MongoDB stopped." if mongod.stop() else "No embedded MongoDB was running.")
    return 0


def _lab_pids() -> list[int]:
    pids = []
    for path in (paths.data_cache() / "jupyter" / "runtime").glob("jpserver-*.json"):
        try:
            pid = int(json.loads(Path(path).read_text())["pid"])
            if any("jupyter" in part for part in psutil.Process(pid).cmdline()):
                pids.append(pid)
        except (OSError, ValueError, KeyError, psutil.Error):
            continue
    return pids


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m obdb_lib.cli.lab", description=__doc__)
    acts = parser.add_subparsers(dest="act", required=True)
    lab = acts.add_parser("start", help="database, sample field and JupyterLab")
    lab.add_argument("--port", type=int, default=8888, help="loopback port of JupyterLab")
    lab.add_argument("--no-browser", action="store_true", help="do not open a browser")
    acts.add_parser("stop", help="end the lab and its database")
    acts.add_parser("sample", help="draw the sample field and put it into the store")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("obdb_lib").setLevel(logging.INFO)
    try:
        if options.act == "start":
            return start(options.port, not options.no_browser)
        if options.act == "stop":
            return stop()
        with Store() as store:
            print(f"{load_sample(store)} sample tasks are in the store.")
        return 0
    except ObdbError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
