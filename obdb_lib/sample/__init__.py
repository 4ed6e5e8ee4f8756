"""The built-in synthetic field: crop rows and weeds filmed as by a tractor's cameras, with some boxes left out.

It makes the whole loop runnable without data of one's own. Everything is drawn by our own code from a seed.
"""

from obdb_lib.sample.make import Sample, make_sample
from obdb_lib.sample.plan import DEFAULT_SIZE, TINY_SIZE, SampleSize
from obdb_lib.sample.species import CLASSES

__all__ = ["CLASSES", "DEFAULT_SIZE", "TINY_SIZE", "Sample", "SampleSize", "make_sample"]
