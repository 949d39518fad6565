"""Learns how a real depth camera corrupts depth (two-stage diffusion, coarse to fine) and enhances clean depth: models, trainer, metrics, bag enhancer, node."""
