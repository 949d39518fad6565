"""Writing imported frames as the topics that the camera's driver would publish."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from realdiff_core import topics
from realdiff_core.bag import BagWriter, Compression, Storage
from realdiff_core.camera import CameraModel
from realdiff_core.config import CameraProfile
from realdiff_core.errors import CameraError, ImageError
from realdiff_core.frames import (
    FrameFiles,
    Intrinsics,
    find_intrinsics,
    read_colour,
    read_depth,
    read_intrinsics,
    read_pose,
)
from realdiff_core.image import numpy_to_image_fields
from realdiff_core.import_frames import FIRST_STAMP_NS, INVALID_Z16
from realdiff_core.messages import CAMERA_INFO, IMAGE, make, make_header
from realdiff_core.provenance import BagProvenance, DepthKind

if TYPE_CHECKING:
    from realdiff_core.import_frames import ImportOptions

_TF = "tf2_msgs/msg/TFMessage"
_WORLD = "world"


class FrameBag:
    """The bag of an imported sequence; use it as a context manager.

    Args:
        folder: Where the frames come from.
        output: Bag to make.
        files: The frames.
        profile: Camera profile.
        options: Options of the import.
    """

    def __init__(
        self, folder: Path, output: Path, files: FrameFiles, profile: CameraProfile, options: ImportOptions
    ) -> None:
        """Read the intrinsics; `__enter__` begins the bag."""
        self.folder, self.files, self.profile, self.options = folder, files, profile, options
        self.depth_topic = topics.ALIGNED_DEPTH_IMAGE if options.aligned else topics.DEPTH_IMAGE
        self.frame_id = topics.COLOR_FRAME if options.aligned else topics.DEPTH_FRAME
        self._first_number = next(iter(files.depth))
        self._intrinsics, self._intrinsics_source = self._find_intrinsics()
        self._camera: CameraModel | None = None
        self._writer = BagWriter(
            output,
            cast("Storage", options.storage),
            cast("Compression", options.compression),
            overwrite=options.overwrite,
        )

    def __enter__(self) -> FrameBag:
        """Begin the bag with its topics and its provenance."""
        writer = self._writer.__enter__()
        for image in (self.depth_topic, *([topics.COLOR_IMAGE] if self.files.colour else [])):
            writer.add_topic(image, IMAGE)
            writer.add_topic(topics.camera_info_topic(image), CAMERA_INFO)
        if self.files.poses:
            writer.add_topic(topics.TF, _TF)
        writer.set_provenance(self._provenance())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Complete the bag, or leave nothing behind."""
        self._writer.__exit__(kind, error, trace)

    def write(self, number: int) -> None:
        """Write the frame of this number.

        Raises:
            RealdiffError: The frame can't be read, or its size differs from the others' or from the intrinsics'.
        """
        stamp = FIRST_STAMP_NS + round((number - self._first_number) * 1e9 / self.options.rate_hz)
        path = self.files.depth[number]
        depth, encoding = self._depth(path)
        camera = self._checked_camera(depth, path)
        if number in self.files.poses:
            self._write_pose(stamp, self.files.poses[number])
        if number in self.files.colour:  # before the depth: who reads on finds a frame's colour first
            rgb = read_colour(self.files.colour[number])
            colour_camera = self._colour_camera(rgb, camera)
            self._write_image(topics.COLOR_IMAGE, stamp, rgb, "rgb8", colour_camera)
        self._write_image(self.depth_topic, stamp, depth, encoding, camera)

    def _depth(self, path: Path) -> tuple[NDArray[Any], str]:
        raw = read_depth(path)
        scale = self.options.scale or (0.001 if raw.dtype == np.uint16 else 1.0)
        if raw.dtype == np.uint16:
            raw = np.where(raw == INVALID_Z16, 0, raw).astype(np.uint16)
            if scale == 0.001:
                return raw, "16UC1"
        metres = raw.astype(np.float64) * scale
        with np.errstate(invalid="ignore"):
            return np.where(np.isfinite(metres) & (metres > 0), metres, np.nan).astype(np.float32), "32FC1"

    def _checked_camera(self, depth: NDArray[Any], path: Path) -> CameraModel:
        height, width = depth.shape
        if self._camera is None:
            self._camera = self._intrinsics.camera(
                width, height, self.frame_id, self.profile.baseline_m, self._intrinsics_source
            )
        if (self._camera.height, self._camera.width) != (height, width):
            raise ImageError(
                "depth images of one sequence differ in size",
                where=path,
                expected=f"{self._camera.width}×{self._camera.height}",
                got=f"{width}×{height}",
                next_step="import them one by one, or narrow --depth-glob",
            )
        return self._camera

    def _colour_camera(self, rgb: NDArray[np.uint8], depth_camera: CameraModel) -> CameraModel:
        # The intrinsics found are those of the depth images; for registered depth they hold for the colour image as
        # well, and a sequence with one set of intrinsics has no better ones for it.
        height, width = rgb.shape[:2]
        camera = depth_camera if (width, height) == (depth_camera.width, depth_camera.height) else None
        camera = camera or depth_camera.scaled(width, height)
        return CameraModel(
            width, height, camera.fx, camera.fy, camera.cx, camera.cy, camera.distortion, topics.COLOR_FRAME
        )

    def _write_image(self, topic: str, stamp: int, pixels: NDArray[Any], encoding: str, camera: CameraModel) -> None:
        header = make_header(stamp, camera.frame_id)
        image = make(IMAGE, header=header, **numpy_to_image_fields(pixels, encoding))
        info = make(CAMERA_INFO, header=header, **camera.to_camera_info_fields())
        self._writer.write_message(topic, stamp, image)
        self._writer.write_message(topics.camera_info_topic(topic), stamp, info)

    def _write_pose(self, stamp: int, path: Path) -> None:
        from scipy.spatial.transform import Rotation

        pose = read_pose(path)
        translation = dict(zip("xyz", pose[:3, 3].tolist(), strict=True))
        rotation = dict(zip("xyzw", Rotation.from_matrix(pose[:3, :3]).as_quat().tolist(), strict=True))
        transform = make(
            "geometry_msgs/msg/TransformStamped",
            header=make_header(stamp, _WORLD),
            child_frame_id=self.frame_id,
            transform={"translation": translation, "rotation": rotation},
        )
        self._writer.write_message(topics.TF, stamp, make(_TF, transforms=[transform]))

    def _find_intrinsics(self) -> tuple[Intrinsics, str]:
        if self.options.focal:
            return Intrinsics(*self.options.focal), "--fx --fy --cx --cy"
        path = self.options.intrinsics or find_intrinsics(self.folder, self.files.depth[self._first_number])
        if path is None:
            raise CameraError(
                "camera intrinsics are missing",
                where=self.folder,
                expected="camera_intrinsic.json, camera_params.json, K.txt, … beside the images",
                next_step="give them: --intrinsics FILE, or --fx --fy --cx --cy",
            )
        return read_intrinsics(path), str(path)

    def _provenance(self) -> BagProvenance:
        options = self.options
        notes = {
            "folder": self.folder.resolve().name,
            "depth_images": self.files.depth_glob,
            "rate_hz": f"{options.rate_hz:g}",
            "intrinsics": Path(self._intrinsics_source).name,
        }
        if options.clean:
            notes["depth"] = "noise-free reference made from real frames"
        return BagProvenance(
            depth={self.depth_topic: DepthKind.CLEAN_SIM if options.clean else DepthKind.SENSOR},
            source="imported",
            camera_profile=self.profile.name,
            notes=notes,
        )
