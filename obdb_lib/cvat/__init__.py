"""The bridge to CVAT: ``client`` (the only HTTP), ``labels`` (ids by name), ``pull`` (tasks in), ``push`` (out)."""
