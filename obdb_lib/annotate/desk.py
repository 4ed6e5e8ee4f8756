"""What every act of ``auto_annotate`` works at: the store, the settings, CVAT, and a person to tell and to ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from obdb_lib.cvat.client import CvatClient
from obdb_lib.cvat.collect import cvat_address, open_cvat
from obdb_lib.cvat.push import Share
from obdb_lib.progress import Progress
from obdb_lib.settings import Settings
from obdb_lib.store import Store

DONE, DRY_RUN = 0, 3
"""What an act returns: it did what was asked (or there was nothing to do), or it only told what it would do."""


@dataclass
class Desk:
    """Tools of one call of the command.

    Attributes:
        say: tells the person a line or several.
        agreed: asks the person whether an act ("Send these 3 boxes") may be done; False is a dry run.
        share: folders that the CVAT server has mounted as its share; None uploads all images.
        sure: it was agreed beforehand (``--yes``), so nobody will be asked.
    """

    store: Store
    settings: Settings
    say: Callable[[str], None]
    agreed: Callable[[str], bool]
    sure: bool = False
    share: Share | None = None
    progress: Progress | None = None
    _client: CvatClient | None = field(default=None, repr=False)

    def client(self) -> CvatClient:
        """CVAT, logged in once.

        Raises:
            CvatError: no ``CVAT_URL``, or the server cannot be used.
        """
        if self._client is None:
            self._client = open_cvat()
        return self._client

    def client_if_named(self) -> CvatClient | None:
        """CVAT where the environment names one, or where ``sure`` says that it is needed: before long work, not after.

        Raises:
            CvatError: as ``client``.
        """
        return self.client() if self.sure or cvat_address() else None
