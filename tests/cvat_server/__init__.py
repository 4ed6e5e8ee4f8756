"""A stand-in CVAT server for tests, on a loopback port and out of the standard library (plus Pillow for image sizes).

It answers as a real CVAT 2.73 was recorded to answer: forms of JSON, status codes, error bodies of every kind, silent
drops. ``tests/test_cvat_replay.py`` holds it against the recording. Start one with ``StandIn()`` as a context manager.
"""

from .app import StandIn
from .every_request import Runs, Scene, every_request
from .faults import KINDS, Fault

__all__ = ["KINDS", "Fault", "Runs", "Scene", "StandIn", "every_request"]
