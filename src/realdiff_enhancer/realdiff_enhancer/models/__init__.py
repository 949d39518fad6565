"""Enhancer models behind one interface."""

from realdiff_enhancer.models.base import DepthFrames, DepthModel, EnhancedFrames
from realdiff_enhancer.models.registry import DEFAULT_MODEL, create_model, model_descriptions, model_names

__all__ = [
    "DEFAULT_MODEL",
    "DepthFrames",
    "DepthModel",
    "EnhancedFrames",
    "create_model",
    "model_descriptions",
    "model_names",
]
