"""What the depth topics carry: rendered depth, or what the simulated stereo camera makes of the same scene."""

from __future__ import annotations

import copy
from contextlib import ExitStack
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from realdiff_core.errors import ConfigError
from realdiff_core.provenance import DepthKind

from realdiff_sim_bridge.adapters.base import Simulator

SensorName = Literal["clean", "stereo"]
SENSORS: tuple[SensorName, ...] = get_args(SensorName)

_PURPOSE = "evaluation"
"""The stereo camera stands for the real one here, so nothing may be trained on it."""


class DepthSensor:
    """The depth imager of a simulator.

    Args:
        simulator: Where the scene is; for "stereo" one with MuJoCo's `model` and `data`.
        name: "clean" or "stereo".

    Raises:
        ConfigError: The simulator has no geometry to make infrared images from.
    """

    def __init__(self, simulator: Simulator, name: SensorName) -> None:
        """The stereo camera is set up with its first measurement."""
        if name == "stereo" and (getattr(simulator, "model", None) is None or getattr(simulator, "data", None) is None):
            raise ConfigError(
                "the stereo sensor needs the scene's geometry",
                expected="simulator 'mujoco'",
                got=f"simulator '{simulator.name}'",
                next_step="choose the depth sensor 'clean'",
            )
        self._simulator = simulator
        self._name = name
        self._camera: _StereoCamera | None = None

    @property
    def kind(self) -> DepthKind:
        """What this depth is, for the provenance."""
        if self._name == "stereo":
            return DepthKind.STEREO_SIM
        recorded: DepthKind | None = getattr(self._simulator, "depth_kind", None)
        return recorded or DepthKind.CLEAN_SIM

    @property
    def notes(self) -> dict[str, str]:
        """What else the provenance should say."""
        return {"stereo_settings": _PURPOSE} if self._name == "stereo" else {}

    def measure(self, seed: int, frame: int) -> NDArray[np.float32]:
        """Takes a picture.

        Args:
            seed: Seed of the scene's reset; camera unit, settings and materials are drawn from it.
            frame: Number of the frame since the reset; the noise is drawn from both.

        Returns:
            float32[H, W], metres, NaN where invalid.
        """
        if self._name == "clean":
            return self._simulator.render("depth")
        scene: Any = self._simulator
        if self._camera is None or not self._camera.fits(scene.model, seed):
            self.close()
            self._camera = _StereoCamera(self._simulator, seed)
        return self._camera.measure(scene.data, frame)

    def close(self) -> None:
        """Frees the renderer."""
        if self._camera is not None:
            self._camera.close()
            self._camera = None


class _LiveScene:
    """A copy of the simulated scene that may be lit and looked at differently, with materials for infrared light."""

    def __init__(self, model: Any, camera_name: str, seed: int) -> None:
        import mujoco

        from realdiff_sim_bridge.stereo.materials import random_material

        self.model = copy.deepcopy(model)
        self.model.vis.quality.offsamples = 0  # depth must be that of the pixel's centre
        self.data = mujoco.MjData(self.model)
        self.camera_name = camera_name
        rng = np.random.default_rng([seed, 0x1F])
        tables = tuple(np.zeros(self.model.ngeom) for _ in range(4))
        drawn: dict[object, Any] = {}
        for geom in range(self.model.ngeom):
            body = self.model.body(int(self.model.geom_bodyid[geom])).name
            key: object = "robot" if body.startswith("fr3") else (body == "world", int(self.model.geom_matid[geom]))
            if key not in drawn:
                drawn[key] = random_material(rng, 1, "surface" if body == "world" else "object")
            material = drawn[key]
            for table, value in zip(tables, (material.gloss, material.infrared, material.follow), strict=False):
                table[geom] = value
        gloss, infrared, follow, transmission = tables
        self.surface_tables = gloss, infrared, follow, transmission

    def random_pose(self, rng: np.random.Generator) -> tuple[Any, Any]:
        """Where the camera stands; it isn't moved about here."""
        camera = self.model.camera(self.camera_name).id
        return self.data.cam_xpos[camera].copy(), self.data.cam_xmat[camera].reshape(3, 3).copy()


class _StereoCamera:
    def __init__(self, simulator: Simulator, seed: int) -> None:
        from realdiff_sim_bridge.scene.build import DEPTH_CAMERA
        from realdiff_sim_bridge.stereo.scene_views import SceneRenderer
        from realdiff_sim_bridge.stereo.sensor import StereoSensor
        from realdiff_sim_bridge.stereo.settings import load_ranges

        self._source, self._seed = getattr(simulator, "model", None), seed
        rig = simulator.rig
        rng = np.random.default_rng([seed, 0x57])
        ranges = load_ranges(_PURPOSE)
        unit, settings = ranges.unit_seed(rng), ranges.sample(rng)
        self._pose = rig.base_depth
        self._sensor = StereoSensor(rig.depth, settings, unit)
        self._scene = _LiveScene(self._source, DEPTH_CAMERA, seed)
        self._resources = ExitStack()
        renderer = SceneRenderer(rig.depth, settings.baseline_m, settings.projector_offset_m)
        self._view = self._resources.enter_context(renderer.open(self._scene))

    def fits(self, model: Any, seed: int) -> bool:
        """Whether this camera looks at that scene after that reset."""
        return self._source is model and self._seed == seed

    def measure(self, data: Any, frame: int) -> NDArray[np.float32]:
        self._scene.data.qpos[:] = data.qpos
        rendered = self._view.render(self._pose.position, self._pose.rotation)
        noise_seed = int(np.random.default_rng([self._seed, frame]).integers(2**63))
        result = self._sensor.measure(rendered.left, rendered.right, noise_seed, rendered.projector_depth)
        return np.asarray(result.depth, dtype=np.float32)

    def close(self) -> None:
        self._resources.close()
