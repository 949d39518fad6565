"""Triangle meshes: decimated copies of the robot's visual meshes (cached on disk) and lathed solids.

Software rendering is bound by triangles, and the robot's visual meshes have a quarter of a million of them. A fifth is
enough at camera distance and doubles the frame rate.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

_CACHE_VERSION = "4"
_MIN_TRIANGLES = 5000
"""A mesh keeps at least this number of triangles times the share that is kept: small ones would lose their shape."""

_WELD_M = 1.6e-5
"""Vertices closer than this over the share that is kept are joined [m]: at a sixth, a tenth of a millimetre."""


def cache_directory() -> Path:
    """Returns the folder of derived data: $XDG_CACHE_HOME/realdiff, by default ~/.cache/realdiff."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "realdiff"


def decimated_mesh(path: Path, keep: float) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Loads a mesh file and reduces it to a share of its triangles.

    The result depends only on the file's bytes and `keep`; it is kept in `cache_directory()`, and an unusable cache
    only costs time.

    Args:
        path: OBJ or STL file, coordinates in metres.
        keep: Share of the triangles to keep, in (0, 1].

    Returns:
        Vertices float64[N, 3] in metres and triangles int32[M, 3].
    """
    digest = hashlib.sha256(path.read_bytes() + f"|{keep:.4f}|{_CACHE_VERSION}".encode()).hexdigest()[:24]
    cached = cache_directory() / "meshes" / f"{path.stem}-{digest}.npz"
    try:
        with np.load(cached) as arrays:
            return arrays["vertices"], arrays["triangles"]
    except (OSError, ValueError, KeyError):
        pass  # absent or damaged: made anew below
    vertices, triangles = _decimate(path, keep)
    _store(cached, vertices, triangles)
    return vertices, triangles


def _decimate(path: Path, keep: float) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    import fast_simplification
    import trimesh

    mesh = cast("trimesh.Trimesh", trimesh.load(path, force="mesh", process=False))
    # Files repeat vertices along normal and texture seams; unmerged, the seams would open when edges collapse.
    mesh.merge_vertices(merge_tex=True, merge_norm=True)
    vertices = np.asarray(mesh.vertices, dtype=np.float64)
    triangles = np.asarray(mesh.faces, dtype=np.int32)
    least = keep * _MIN_TRIANGLES
    if keep < 1.0 and len(triangles) > least:
        vertices, triangles = _welded(vertices, triangles, _WELD_M / keep)
        reduction = max(0.0, 1.0 - max(keep * len(mesh.faces), least) / len(triangles))
        points, faces = fast_simplification.simplify(
            vertices.astype(np.float32), triangles, target_reduction=reduction, agg=3.0
        )[:2]
        vertices, triangles = np.asarray(points, dtype=np.float64), np.asarray(faces, dtype=np.int32)
    return vertices, triangles


def _welded(
    vertices: NDArray[np.float64], triangles: NDArray[np.int32], cell_m: float
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Joins the vertices in each cell of a grid and drops the triangles that collapse.

    The robot's parts come with screws and letters of thousands of triangles; the open seams between their facets would
    keep any of them from being reduced.
    """
    cells = np.round(vertices / cell_m).astype(np.int64)
    _, first, inverse = np.unique(cells, axis=0, return_index=True, return_inverse=True)
    triangles = inverse.reshape(-1)[triangles].astype(np.int32)
    a, b, c = triangles.T
    triangles = triangles[(a != b) & (b != c) & (a != c)]
    _, kept = np.unique(np.sort(triangles, axis=1), axis=0, return_index=True)
    return vertices[first], triangles[np.sort(kept)]


def _store(path: Path, vertices: NDArray[np.float64], triangles: NDArray[np.int32]) -> None:
    """Writes a cache file atomically, so that parallel processes never read half a mesh."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".npz")
        with os.fdopen(handle, "wb") as stream:
            np.savez(stream, vertices=vertices, triangles=triangles)
        Path(name).replace(path)
    except OSError:
        return  # a read-only or full home folder: the mesh is simply decimated again next time


def lathe(profile: NDArray[np.float64], segments: int = 64) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Revolves a profile about the z axis.

    Args:
        profile: float64[N, 2], (radius, z) in metres, ordered so that the solid lies to the left of the walk: it
            is traced from the bottom of the axis outwards and up to the top of the axis.
        segments: Steps of the revolution.

    Returns:
        Vertices float64[N·segments, 3] in metres and triangles int32[M, 3] with outward normals; triangles that
        collapse on the axis are left out.
    """
    angles = np.linspace(0.0, 2.0 * np.pi, segments, endpoint=False)
    radius, height = profile[:, 0], profile[:, 1]
    vertices = np.stack(
        [
            np.outer(np.cos(angles), radius),
            np.outer(np.sin(angles), radius),
            np.broadcast_to(height, (segments, len(profile))),
        ],
        axis=-1,
    ).reshape(-1, 3)
    step = len(profile)
    triangles = []
    for i in range(segments):
        here, there = i * step, ((i + 1) % segments) * step
        for k in range(step - 1):
            if radius[k + 1] > 0.0:
                triangles.append((here + k, there + k + 1, here + k + 1))
            if radius[k] > 0.0:
                triangles.append((here + k, there + k, there + k + 1))
    return vertices, np.asarray(triangles, dtype=np.int32)


def lathe_texture_coordinates(profile: NDArray[np.float64], segments: int = 64) -> NDArray[np.float64]:
    """Texture coordinates for `lathe`: u once around the axis and v from the profile's lowest to its highest point.

    Returns:
        float64[N·segments, 2] in [0, 1].
    """
    u = np.repeat(np.linspace(0.0, 1.0, segments, endpoint=False), len(profile))
    height = profile[:, 1]
    v = np.tile((height - height.min()) / max(float(np.ptp(height)), 1e-9), segments)
    return np.stack([u, v], axis=-1)


def sweep(
    centre_line: NDArray[np.float64], radius: NDArray[np.float64], segments: int = 28, ridges: int = 5
) -> tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.float64]]:
    """Sweeps a slightly ridged disc along a line in the x-y plane and closes both ends.

    Args:
        centre_line: float64[N, 3], metres, z = 0.
        radius: float64[N], metres.
        segments: Points around the line.
        ridges: Number of ridges around the line, as a banana has them.

    Returns:
        Vertices float64[M, 3] in metres, triangles int32[K, 3] with outward normals, and texture coordinates
        float64[M, 2]: u around the line, v along it.
    """
    tangent = np.gradient(centre_line, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    up = np.array([0.0, 0.0, 1.0])
    side = np.cross(up, tangent)
    angle = np.linspace(0.0, 2.0 * np.pi, segments, endpoint=False)
    ridge = 1.0 - 0.03 * (1.0 + np.cos(ridges * angle))
    ring = np.cos(angle)[:, None, None] * side + np.sin(angle)[:, None, None] * up
    tube = centre_line + ridge[:, None, None] * radius[:, None] * ring
    count = len(centre_line)
    vertices = np.concatenate([tube.transpose(1, 0, 2).reshape(-1, 3), centre_line[[0, -1]]])
    u = np.tile(np.linspace(0.0, 1.0, segments, endpoint=False), count)
    v = np.repeat(np.linspace(0.0, 1.0, count), segments)
    coordinates = np.concatenate([np.stack([u, v], axis=-1), [[0.5, 0.0], [0.5, 1.0]]])
    triangles = []
    first, last = count * segments, count * segments + 1
    for k in range(segments):
        there = (k + 1) % segments
        for i in range(count - 1):
            a, b = i * segments + k, i * segments + there
            triangles += [(a, b, b + segments), (a, b + segments, a + segments)]
        end = (count - 1) * segments
        triangles += [(first, there, k), (last, end + k, end + there)]
    return vertices, np.asarray(triangles, dtype=np.int32), coordinates


def chamfered_box(half: tuple[float, float, float], chamfer: float) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """A box with bevelled edges, centred at the origin.

    Args:
        half: Half extents [m].
        chamfer: Width that is cut off at each edge, along the faces [m].

    Returns:
        Vertices float64[24, 3] and triangles int32[44, 3] with outward normals.
    """
    from scipy.spatial import ConvexHull

    signs = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)
    vertices = np.concatenate([signs * (np.asarray(half) - chamfer * (1.0 - np.eye(3)[axis])) for axis in range(3)])
    triangles = np.asarray(ConvexHull(vertices).simplices, dtype=np.int32)
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    inwards = np.einsum("ij,ij->i", np.cross(b - a, c - a), a) < 0.0
    triangles[inwards] = triangles[inwards][:, ::-1]
    return vertices, triangles
