"""TSDF fusion of a window of depth frames, and clean depth of each frame from all the others.

The volume of a window is a weighted mean over its frames, so one frame is taken out exactly by subtracting its share: a
window of N frames costs 2·N integrations instead of N². What is ray-cast at a frame's pose has never seen that frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from realdiff_enhancer.data.open3d_import import import_open3d
from realdiff_enhancer.defaults import VOXEL_M

FloatArray = npt.NDArray[np.floating]


class FusionConfig(BaseModel):
    """Voxels, range and truncation of the fused volume."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    voxel_m: float = Field(default=VOXEL_M, gt=0, description="side of a voxel")
    truncation_voxels: float = Field(
        default=10.0, gt=1, description="truncation in voxels; ≥ 3 σ of the farthest depth"
    )
    near_m: float = Field(default=0.15, gt=0, description="measured depth under which a pixel is not fused")
    far_m: float = Field(default=3.0, gt=0, description="measured depth over which a pixel is not fused")
    min_views: float = Field(default=3.0, ge=1, description="frames that must have seen a surface")


@dataclass
class _Share:
    """What one frame adds to the volume: rows of the attribute arrays, its TSDF there and where it was seen."""

    rows: npt.NDArray[np.int64]
    tsdf: npt.NDArray[np.float32]
    seen: npt.NDArray[np.bool_]


class WindowVolume:
    """The fused volume of one window of posed depth frames, from which any frames can be left out.

    Args:
        depths_m: float32 [H,W] each, m, NaN = hole.
        K: [3,3], px.
        poses: T_world_camera [4,4] of each frame, m.
        config: voxels and range.

    Raises:
        RealdiffError: Open3D can't be imported.
    """

    def __init__(
        self, depths_m: Sequence[FloatArray], K: FloatArray, poses: Sequence[FloatArray], config: FusionConfig
    ) -> None:
        """Integrate every frame once."""
        self._o3d = import_open3d()
        self._config = config
        self._core = self._o3d.core
        self._device = self._core.Device("CPU:0")
        self._K = np.asarray(K, np.float64)
        # Integration takes the pixel at floor(u, v), while K has pixel centres at whole numbers: half a pixel makes it
        # the nearest one. Without it all surfaces seen at an angle move by half a pixel.
        shifted = self._K + np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
        self._integration_K = self._core.Tensor(shifted)
        self._depths = [self._image(depth) for depth in depths_m]
        self._poses = [np.asarray(p, np.float64) for p in poses]
        self._size = depths_m[0].shape
        self._blocks = self._blocks_of_frames()
        capacity = len(np.unique(np.concatenate([blocks.numpy() for blocks in self._blocks]), axis=0))
        self._grid: Any = self._new_grid(max(capacity, 1))
        for blocks in self._blocks:  # all blocks first, so that rows of the attribute arrays stay put
            self._grid.hashmap().activate(blocks)
        self._mean, self._weight = self._attribute("tsdf"), self._attribute("weight")
        total, count = np.zeros_like(self._mean), np.zeros_like(self._weight)
        for index in range(len(self._depths)):
            share = self._share(index)
            total[share.rows] += share.tsdf
            count[share.rows] += share.seen
        np.divide(total, count, out=self._mean, where=count > 0)
        self._weight[:] = count

    def _new_grid(self, capacity: int) -> Any:
        return self._o3d.t.geometry.VoxelBlockGrid(
            ("tsdf", "weight"),
            (self._core.float32, self._core.float32),
            ((1), (1)),
            self._config.voxel_m,
            16,
            capacity,
            self._device,
        )

    def _blocks_of_frames(self) -> list[Any]:
        scout = self._new_grid(1)
        return [
            scout.compute_unique_block_coordinates(
                depth,
                self._integration_K,
                self._extrinsic(pose),
                1.0,
                self._config.far_m,
                self._config.truncation_voxels,
            )
            for depth, pose in zip(self._depths, self._poses, strict=True)
        ]

    def _image(self, depth_m: FloatArray) -> Any:
        keep = np.isfinite(depth_m) & (depth_m >= self._config.near_m) & (depth_m <= self._config.far_m)
        clean = np.ascontiguousarray(np.where(keep, depth_m, 0.0).astype(np.float32)[..., None])
        return self._o3d.t.geometry.Image(self._core.Tensor(clean))

    def _extrinsic(self, pose: FloatArray) -> Any:
        return self._core.Tensor(np.linalg.inv(pose))

    def _attribute(self, name: str) -> npt.NDArray[np.float32]:
        array: npt.NDArray[np.float32] = self._grid.attribute(name).numpy()  # shares the grid's memory
        return array

    def _share(self, index: int) -> _Share:
        """Integrate one frame alone; the volume is as before when this returns."""
        blocks = self._blocks[index]
        rows = self._grid.hashmap().find(blocks)[0].numpy().astype(np.int64)
        mean, weight = self._mean[rows], self._weight[rows]
        self._mean[rows] = 0.0
        self._weight[rows] = 0.0
        self._grid.integrate(
            blocks,
            self._depths[index],
            self._integration_K,
            self._extrinsic(self._poses[index]),
            1.0,
            self._config.far_m,
            self._config.truncation_voxels,
        )
        share = _Share(rows, self._mean[rows], self._weight[rows] > 0)
        share.tsdf[~share.seen] = 0.0
        self._mean[rows], self._weight[rows] = mean, weight
        return share

    def scene_without(self, left_out: Sequence[int]) -> Any | None:
        """Build the surface seen by all frames but ``left_out``.

        Returns:
            An ``open3d.t.geometry.RaycastingScene``, or None if nothing was seen often enough.
        """
        changed: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.float32]]] = []
        for index in left_out:
            share = self._share(index)
            mean, weight = self._mean[share.rows], self._weight[share.rows]
            changed.append((share.rows, mean, weight))
            rest = weight - share.seen
            total = mean * weight - share.tsdf
            self._mean[share.rows] = np.divide(total, rest, out=np.zeros_like(total), where=rest > 0.5)
            self._weight[share.rows] = rest
        try:
            mesh = self._mesh()
        finally:
            for rows, mean, weight in reversed(changed):
                self._mean[rows], self._weight[rows] = mean, weight
        if mesh is None:
            return None
        scene = self._o3d.t.geometry.RaycastingScene()
        scene.add_triangles(mesh)
        return scene

    def _mesh(self) -> Any | None:
        try:
            mesh = self._grid.extract_triangle_mesh(self._config.min_views - 0.5)
        except RuntimeError as error:
            # Open3D fails on its own empty result instead of returning it.
            if "Tensor has shape {0}" not in str(error):
                raise
            return None
        return mesh if len(mesh.triangle.indices) > 0 else None

    def cast(self, scene: Any, pose: FloatArray) -> npt.NDArray[np.float32]:
        """Depth of a scene at a pose: float32 [H,W], m, NaN where nothing is hit or a surface is seen from behind."""
        height, width = self._size
        K = self._K
        cols, rows = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
        directions = np.stack([(cols - K[0, 2]) / K[0, 0], (rows - K[1, 2]) / K[1, 1], np.ones_like(cols)], axis=-1)
        world = directions @ pose[:3, :3].T  # z in the camera frame is 1, so the ray parameter is the depth
        rays = np.concatenate([np.broadcast_to(pose[:3, 3], world.shape), world], axis=-1).astype(np.float32)
        hit = scene.cast_rays(self._core.Tensor(np.ascontiguousarray(rays)))
        depth = hit["t_hit"].numpy().astype(np.float32)
        facing = np.sum(hit["primitive_normals"].numpy() * world, axis=-1) < 0
        depth[~np.isfinite(depth) | ~facing] = np.nan
        return depth
