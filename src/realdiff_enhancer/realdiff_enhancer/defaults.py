"""Defaults that the library and a command's --help both name. It imports nothing: --help is quick."""

#: Making pairs: frames fused together, half of them from window to window; side of a voxel, end of clean depth [m].
PAIR_WINDOW = 14
VOXEL_M = 0.006
CLEAN_FAR_M = 2.6

#: Fitting a camera: optimiser steps of the fine stage, crops a step, height and width of a crop, px.
FIT_STEPS = 1500
FIT_BATCH = 16
FIT_CROP = (352, 480)

#: Bootstrap resamples of an evaluation; frames of a bag that a realism card measures.
RESAMPLES = 1000
CARD_FRAMES = 40
