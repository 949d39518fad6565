"""From episode bags to training batches."""
