"""Judge a model: upstream's command, in the container at /code/test_model.py."""

import sys

from obdb_lib.cli.test_model import main

if __name__ == "__main__":
    sys.exit(main())
