"""MimicGen: new demonstrations from a few, by moving their segments along with the objects.

A. Mandlekar et al., "MimicGen: A Data Generation System for Scalable Robot Learning using Human Demonstrations", CoRL
2023. This is an implementation of its own, from the paper.
"""
