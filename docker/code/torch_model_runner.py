"""Tune and train the variants: upstream's command, in the container at /code/torch_model_runner.py."""

import sys

from obdb_lib.cli.torch_model_runner import main

if __name__ == "__main__":
    sys.exit(main())
