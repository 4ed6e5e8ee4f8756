"""Measurements, each runnable as ``python -m tests.benchmarks.NAME --json``; its last line is one JSON object."""
