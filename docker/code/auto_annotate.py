"""Auto-annotation and the way to CVAT and back: upstream's command, in the container at /code/auto_annotate.py."""

import sys

from obdb_lib.cli.auto_annotate import main

if __name__ == "__main__":
    sys.exit(main())
