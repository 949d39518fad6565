"""Command lines of this package, one module a verb."""
