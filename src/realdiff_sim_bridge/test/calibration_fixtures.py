"""Shared by the calibration tests: small pictures, few starts, one set of meshes."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import yaml
from realdiff_core.camera import CameraModel
from realdiff_sim_bridge.calibration.align import Aligner, Search
from realdiff_sim_bridge.calibration.synthetic import MaskNoise, MeshRobot, Scenario, scenario

CAMERA = CameraModel.from_fov(320, 240, 55.0, "camera_color_optical_frame")
QUICK_SEARCH = Search(starts=4)


@lru_cache(maxsize=1)
def mesh_robot() -> MeshRobot:
    return MeshRobot(0.5)


@lru_cache(maxsize=1)
def aligner() -> Aligner:
    return Aligner(CAMERA)


@lru_cache(maxsize=4)
def case(seed: int = 0, views: int = 10) -> Scenario:
    return scenario(
        seed,
        mesh_robot(),
        aligner().renderer.joint_range,
        camera=CAMERA,
        views=views,
        noise=MaskNoise(jitter_px=0.3, correlation_px=3.0),
        start_m=0.04,
        start_deg=3.0,
        pictures=True,
    )


def write_folder(folder: Path, given: Scenario, **changes: object) -> Path:
    """Writes a scenario as a folder of views; `changes` replace keys of the views file."""
    folder.mkdir(parents=True)
    entries = []
    for view in given.views.views:
        assert view.picture is not None
        cv2.imwrite(str(folder / f"mask_{view.name}.png"), view.mask.astype(np.uint8) * 255)
        cv2.imwrite(str(folder / f"colour_{view.name}.png"), view.picture[..., ::-1])
        joints = [float(value) for value in view.joints]
        entries.append({"mask": f"mask_{view.name}.png", "picture": f"colour_{view.name}.png", "joints": joints})
    camera = given.views.camera
    numbers = {name: getattr(camera, name) for name in ("width", "height", "fx", "fy", "cx", "cy")}
    content = {"camera": numbers, "views": entries, **changes}
    (folder / "views.yaml").write_text(yaml.safe_dump(content))
    return folder
