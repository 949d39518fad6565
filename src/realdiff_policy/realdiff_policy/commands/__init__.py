"""Command lines of the package."""
