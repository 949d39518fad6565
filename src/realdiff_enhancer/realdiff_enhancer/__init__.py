"""Enhances clean depth so that it looks like a real camera's: models, trainer, metrics, bag enhancer, node."""
