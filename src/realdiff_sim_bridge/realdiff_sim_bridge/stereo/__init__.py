"""Physics-based stand-in for an active-stereo depth camera (D435): projector, imagers, matching, scenes, pairs."""
