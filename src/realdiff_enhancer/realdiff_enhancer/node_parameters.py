"""Parameters of the node `depth_enhancer`: one table for declaration, description and range."""

from __future__ import annotations

from realdiff_core.node_parameters import Parameter
from realdiff_core.topics import DEPTH_IMAGE

from realdiff_enhancer.models.registry import DEFAULT_MODEL, model_names

PARAMETERS = (
    Parameter("input_topic", DEPTH_IMAGE, "clean depth image topic, 16UC1 or 32FC1"),
    Parameter("output_topic", "", "enhanced depth image topic; empty: /realdiff and the input's name"),
    Parameter("model", DEFAULT_MODEL, f"enhancer model: {', '.join(model_names())}"),
    Parameter("profile", "d435", "camera profile (config/cameras), or the path of a profile's .yaml file"),
    Parameter("weights", "", "folder of learned weights; empty: what ships for the profile"),
    Parameter("seed", 0, "seed of the noise; the same seed and stamps give the same noise", bounds=(0, 2**63 - 1)),
    Parameter("steps", 0, "sampling steps a stage; 0: the model's default", bounds=(0, 1000)),
    Parameter("device", "auto", "auto, cpu, openvino, cuda or cuda-compiled (a minute at the start, then faster)"),
    Parameter("queue_size", 30, "frames that may wait; older ones are dropped and counted", bounds=(1, 1000)),
    Parameter("override_provenance", False, "expert: enhance depth that is noisy or of unknown origin nevertheless"),
)
