"""Diffusion Policy (Chi et al. 2023) with the paper's depth stream."""
