"""TensorBoard beside the notebook: served by this process (``paths.page_host``), so that it ends with the kernel."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from obdb_lib.errors import TrainingError
from obdb_lib.paths import LOOPBACK, page_host

logger = logging.getLogger(__name__)

PORT = 6006
"""TensorBoard's usual port; another free one is taken where something else listens there."""
RELOAD_S = 1
"""How often the logs are read: by TensorBoard's own 5 s, a page unfolded right after the first epoch shows no data."""


@dataclass(frozen=True)
class Board:
    """A running TensorBoard.

    Attributes:
        url: its address, on this machine alone.
        folder: what it shows.
    """

    url: str
    folder: Path


_running: dict[Path, Board] = {}


def open_board(folder: Path | str, *, port: int = PORT) -> Board:
    """TensorBoard over ``folder`` (made when it is not there); the one that already runs over it, if any.

    Raises:
        TrainingError: it cannot be started.
    """
    from tensorboard import program  # two seconds to import, and only for this

    path = Path(folder).resolve()
    if path in _running:
        return _running[path]
    path.mkdir(parents=True, exist_ok=True)
    for chosen in (port, 0):
        server = program.TensorBoard()
        # Without the fast loader, which is a process of its own and would outlive a killed kernel.
        where = [f"--logdir={path}", f"--host={page_host()}", f"--port={chosen}"]
        server.configure(argv=["tensorboard", *where, "--load_fast=false", f"--reload_interval={RELOAD_S}"])
        try:
            # 0.0.0.0 is where it listens in a container, not where a browser finds it.
            url = server.launch().replace(f"//{page_host()}:", f"//{LOOPBACK}:")
            _running[path] = Board(url, path)
            return _running[path]
        except program.TensorBoardPortInUseError:
            logger.info("port %d is taken; TensorBoard looks for another one", chosen)
        except program.TensorBoardServerException as error:
            raise TrainingError(f"TensorBoard cannot be started over {path}: {error}") from error
    raise TrainingError(f"TensorBoard finds no free port on {page_host()}; end other servers and run this cell again")
