"""Evaluation of enhancer models on held-out clean/real pairs: scenes, runs, scores, tables, figures."""
