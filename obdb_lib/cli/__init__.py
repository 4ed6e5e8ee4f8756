"""Command lines. Each prints one clear sentence for an error and returns an exit code."""
