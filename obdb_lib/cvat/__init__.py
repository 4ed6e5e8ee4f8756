"""The bridge to CVAT: ``client`` (the only HTTP), ``labels`` (ids by name), ``pull``, ``push``, ``merge``, ``undo``."""
