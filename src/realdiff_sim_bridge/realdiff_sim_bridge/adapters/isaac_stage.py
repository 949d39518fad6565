"""A task's scene as USD prims with UsdPhysics: the same shapes, masses and friction as the MuJoCo scene has.

Only `pxr` is used here (part of Isaac Sim; alone: the package usd-core), so that this half runs and is tested anywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from realdiff_sim_bridge.scene.objects import COLLISION_GROUP

ROOM_PATH, OBJECTS_PATH, MATERIALS_PATH = "/World/room", "/World/objects", "/World/physics_materials"
ROBOT_PATH = "/World/fr3"

_FLOOR_HALF = (6.0, 6.0, 0.05)
"""A plane without end becomes a box of this size, its top where the plane was [m]."""

_RESTITUTION = 0.0


def author_scene(stage: Any, model: Any) -> dict[str, str]:
    """Adds room and objects to a stage.

    Args:
        stage: Usd.Stage, in metres with z up.
        model: The compiled MjModel of the task's scene; bodies of the robot are left out.

    Returns:
        Prim paths of the objects by name.
    """
    from pxr import UsdGeom, UsdPhysics

    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    UsdGeom.Xform.Define(stage, ROOM_PATH)
    UsdGeom.Xform.Define(stage, OBJECTS_PATH)
    objects = {}
    for body in range(model.nbody):
        name = model.body(body).name
        if body and not _is_free(model, body):
            continue  # a link of the robot
        geoms = [geom for geom in range(model.ngeom) if model.geom_bodyid[geom] == body]
        if body == 0:
            path = ROOM_PATH
        else:
            path = objects[name] = f"{OBJECTS_PATH}/{name}"
            prim = UsdGeom.Xform.Define(stage, path).GetPrim()
            UsdPhysics.RigidBodyAPI.Apply(prim)
            UsdPhysics.MassAPI.Apply(prim).CreateMassAttr(float(model.body_mass[body]))
        for number, geom in enumerate(geoms):
            _author_geom(stage, model, geom, f"{path}/shape_{number}", static=body == 0)
        friction = _friction(model, geoms)
        if friction is not None:
            bind_material(stage, path, physics_material(stage, name if body else "room", friction))
    return objects


def physics_material(stage: Any, name: str, friction: float) -> Any:
    """Defines a physics material, or changes the one of that name; returns its UsdShade.Material."""
    from pxr import UsdPhysics, UsdShade

    material = UsdShade.Material.Define(stage, f"{MATERIALS_PATH}/{name}")
    physics = UsdPhysics.MaterialAPI.Apply(material.GetPrim())
    physics.CreateStaticFrictionAttr(friction)
    physics.CreateDynamicFrictionAttr(friction)
    physics.CreateRestitutionAttr(_RESTITUTION)
    return material


def bind_material(stage: Any, path: str, material: Any) -> None:
    """Gives a physics material to a prim and what lies below it."""
    from pxr import UsdShade

    binding = UsdShade.MaterialBindingAPI.Apply(stage.GetPrimAtPath(path))
    binding.Bind(material, UsdShade.Tokens.weakerThanDescendants, "physics")


def author_lights(stage: Any) -> None:
    """Adds the light of the sky and a lamp that casts shadows."""
    from pxr import Gf, UsdGeom, UsdLux

    UsdLux.DomeLight.Define(stage, "/World/sky").CreateIntensityAttr(700.0)
    lamp = UsdLux.DistantLight.Define(stage, "/World/lamp")
    lamp.CreateIntensityAttr(1500.0)
    lamp.CreateAngleAttr(1.0)
    UsdGeom.XformCommonAPI(lamp).SetRotate(Gf.Vec3f(20.0, 20.0, 0.0))


def _is_free(model: Any, body: int) -> bool:
    import mujoco

    joint = model.body_jntadr[body]
    return bool(joint >= 0 and model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_FREE)


def _friction(model: Any, geoms: list[int]) -> float | None:
    """Sliding friction of a body's colliding shapes; the highest where they differ."""
    colliding = [float(model.geom_friction[geom, 0]) for geom in geoms if model.geom_contype[geom]]
    return max(colliding) if colliding else None


def _author_geom(stage: Any, model: Any, geom: int, path: str, *, static: bool) -> None:
    """Adds one shape: what is visible, what collides, or both."""
    from pxr import Gf, UsdGeom, UsdPhysics

    shape = _shape(stage, model, geom, path)
    position, quaternion = model.geom_pos[geom].astype(float), model.geom_quat[geom].astype(float)
    if _kind(model, geom) == "plane":
        position = position - [0.0, 0.0, _FLOOR_HALF[2]]
    transform = UsdGeom.Xformable(shape)
    transform.AddTranslateOp().Set(Gf.Vec3d(*position.tolist()))
    w, x, y, z = quaternion.tolist()
    transform.AddOrientOp().Set(Gf.Quatf(w, x, y, z))
    if _kind(model, geom) in ("box", "plane", "ellipsoid"):
        half = _FLOOR_HALF if _kind(model, geom) == "plane" else model.geom_size[geom].tolist()
        transform.AddScaleOp().Set(Gf.Vec3f(*half))
    if model.geom_group[geom] == COLLISION_GROUP:
        UsdGeom.Imageable(shape).MakeInvisible()
    material = model.geom_matid[geom]
    colour = model.mat_rgba[material] if material >= 0 else model.geom_rgba[geom]
    shape.CreateDisplayColorAttr([Gf.Vec3f(*colour[:3].astype(float).tolist())])
    if model.geom_contype[geom] or model.geom_conaffinity[geom]:
        prim = shape.GetPrim()
        UsdPhysics.CollisionAPI.Apply(prim)
        if _kind(model, geom) == "mesh":
            # MuJoCo collides meshes as their convex hulls; what doesn't move may keep its triangles.
            token = UsdPhysics.Tokens.none if static else UsdPhysics.Tokens.convexHull
            UsdPhysics.MeshCollisionAPI.Apply(prim).CreateApproximationAttr(token)


def _kind(model: Any, geom: int) -> str:
    import mujoco

    return str(mujoco.mjtGeom(model.geom_type[geom]).name).removeprefix("mjGEOM_").lower()


def _shape(stage: Any, model: Any, geom: int, path: str) -> Any:
    """Defines the prim of a shape, without its transform."""
    from pxr import UsdGeom

    kind, size = _kind(model, geom), model.geom_size[geom].astype(float).tolist()
    if kind in ("box", "plane"):
        cube = UsdGeom.Cube.Define(stage, path)
        cube.CreateSizeAttr(2.0)  # half sizes become the scale
        return cube
    if kind in ("sphere", "ellipsoid"):
        sphere = UsdGeom.Sphere.Define(stage, path)
        sphere.CreateRadiusAttr(1.0 if kind == "ellipsoid" else size[0])
        return sphere
    if kind in ("cylinder", "capsule"):
        round_shape = (UsdGeom.Cylinder if kind == "cylinder" else UsdGeom.Capsule).Define(stage, path)
        round_shape.CreateAxisAttr(UsdGeom.Tokens.z)
        round_shape.CreateRadiusAttr(size[0])
        round_shape.CreateHeightAttr(2 * size[1])  # of a capsule: without its caps, as in MuJoCo
        return round_shape
    if kind == "mesh":
        return _mesh(stage, model, int(model.geom_dataid[geom]), path)
    raise ValueError(f"a shape of kind '{kind}' can't be described in USD")


def _mesh(stage: Any, model: Any, mesh: int, path: str) -> Any:
    from pxr import UsdGeom, Vt

    start, count = int(model.mesh_vertadr[mesh]), int(model.mesh_vertnum[mesh])
    first, faces = int(model.mesh_faceadr[mesh]), int(model.mesh_facenum[mesh])
    points = np.ascontiguousarray(model.mesh_vert[start : start + count], dtype=np.float32)
    indices = np.ascontiguousarray(model.mesh_face[first : first + faces], dtype=np.int32).ravel()
    result = UsdGeom.Mesh.Define(stage, path)
    result.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(points))
    result.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(indices))
    result.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(faces, 3, dtype=np.int32)))
    result.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    return result
