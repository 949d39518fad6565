"""What all RealD2iff packages share, without rclpy and torch: depth conventions, camera model, bags, episodes, provenance, configuration, seeds, errors."""
