"""Clean/noisy depth pairs: making them from real sequences, packing them, reading them for training.

Importing this package costs nothing: modules that need Open3D, OpenCV or rosbags import them when they are called, so
that :mod:`realdiff_enhancer.data.pairs` also works on a training machine that has only NumPy.
"""
