"""Scripted experts: they see the simulator's true state and produce the demonstrations."""

from realdiff_sim_bridge.experts.pick_and_place import ExpertStep, PickAndPlaceExpert

__all__ = ["ExpertStep", "PickAndPlaceExpert"]
