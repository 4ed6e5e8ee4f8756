"""Measurements, each runnable as ``python -m tests.benchmarks.NAME --json``; its last line is one JSON object."""

from obdb_lib import paths

paths.share_cores()  # before a benchmark loads torch: its threads must not spin while others want the cores
