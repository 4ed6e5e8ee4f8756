"""OBDB Lab's library: what stands behind the notebooks. Importing it loads neither torch nor Jupyter."""

__version__ = "0.1.0"
