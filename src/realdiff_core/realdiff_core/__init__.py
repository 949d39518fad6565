"""What all RealD2iff packages share, without rclpy and torch.

Depth conventions, camera model, images and messages, bags, episodes, provenance, configuration, seeds, errors.
"""

__version__ = "0.1.0"
