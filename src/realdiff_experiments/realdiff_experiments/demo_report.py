"""Fills the report of the demonstration from the bags that it left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from realdiff_core.bag import BagReader
from realdiff_core.camera import CameraModel
from realdiff_core.config import CameraProfile, camera_profile
from realdiff_core.depth import depth_to_metres
from realdiff_core.episode import decode_image, depth_topics, read_camera
from realdiff_core.messages import to_ns
from realdiff_core.seeds import frame_seed, stream_seed
from realdiff_core.topics import ALIGNED_DEPTH_IMAGE, COLOR_IMAGE
from realdiff_enhancer.models.base import DepthFrames
from realdiff_enhancer.models.registry import create_model

from realdiff_experiments.demo import LIVE_MODEL, DemoResult, DemoSettings
from realdiff_experiments.demo_trial import add_trial
from realdiff_experiments.report.demo import DemoReport, EnhancedFrame, RealFrame
from realdiff_experiments.report.reference import REAL_D435
from realdiff_experiments.report.statistics import measure

_FRAMES = (0.3, 0.62)
"""Which frames are shown, as shares of the episode: reaching for the can, carrying it."""

_STATISTICS_FRAMES = 12
_TABLE_FAR_M = 1.6


def write_report(settings: DemoSettings, result: DemoResult) -> Path:
    """Writes report.html into the demonstration's folder and returns its path."""
    profile = camera_profile("d435")
    clean = _Stream(result.episode, ALIGNED_DEPTH_IMAGE, profile)
    enhanced = _Stream(result.enhanced, ALIGNED_DEPTH_IMAGE, profile)
    colour = _Stream(result.episode, COLOR_IMAGE, profile)
    report = DemoReport(
        "RealD²iff: clean simulated depth, made to lie like a real camera",
        f"One episode of can_to_plate, simulated, enhanced with the model {settings.model} and played through the live "
        "node. Colours are metres or millimetres; black is a hole.",
    )
    frames = len(clean.stamps)
    live = result.live
    report.add_facts(
        {
            "depth frames enhanced": str(2 * frames),
            "time to enhance": f"{result.seconds[f'enhance it ({settings.model})']:.0f} s",
            "live frames received": f"{live.received} of {live.sent}",
            "live frames equal to the bag enhancer's": f"{live.identical} of {live.sent}",
        }
    )
    chosen = [_enhanced_frame(settings, profile, clean, enhanced, colour, int(share * frames)) for share in _FRAMES]
    report.add_frames(
        chosen,
        text="Depth aligned to the colour camera. The can's shadow on the table is the stereo "
        "camera's: what one of its eyes can't see.",
    )
    report.add_point_clouds(chosen[0], clean.camera, far_m=_TABLE_FAR_M)
    index = np.unique(np.linspace(0, frames - 1, min(frames, _STATISTICS_FRAMES)).astype(int))
    pairs = [clean.depth[i] for i in index], [enhanced.depth[i] for i in index]
    source = f"{len(index)} frames of this episode"
    report.add_statistics(
        [measure("enhanced", f"{settings.model} on clean simulated depth, {source}", *pairs, clean.camera), REAL_D435],
        text="σ and holes depend on scene, materials and preset as well as on the camera: the real figures are of "
        "another scene and show the order of magnitude, not a target to hit.",
    )
    _add_real_scene(report, result, profile)
    if result.trial is not None:
        add_trial(report, result.trial)
    report.add_text(
        "Live",
        f"The episode was played with `ros2 bag play`; the node depth_enhancer ({LIVE_MODEL}) received it over DDS and "
        f"published {live.received} of {live.sent} frames; {live.identical} of them are byte for byte what the bag "
        "enhancer writes for the same seed.",
    )
    report.add_provenance(_provenance(result))
    report.add_commands(result.commands)
    return report.write(settings.output / "report.html", overwrite=True)


class _Stream:
    """All frames of an image topic: stamps, pixels, and for depth metres; plus the camera."""

    def __init__(self, bag: Path, topic: str, profile: CameraProfile) -> None:
        self.topic = topic
        self.stamps: list[int] = []
        self.pixels: list[NDArray[np.generic]] = []
        with BagReader(bag) as reader:
            self.camera: CameraModel = read_camera(reader, topic, profile.baseline_m)
            for raw in reader.messages([topic]):
                message, pixels = decode_image(reader, raw)
                self.stamps.append(to_ns(message.header.stamp))
                self.pixels.append(np.array(pixels))
                self.encoding = str(message.encoding)

    @property
    def depth(self) -> list[NDArray[np.float32]]:
        """float32 [H,W] m of every frame, NaN invalid."""
        return [depth_to_metres(pixels, self.encoding) for pixels in self.pixels]


def _enhanced_frame(
    settings: DemoSettings,
    profile: CameraProfile,
    clean: _Stream,
    enhanced: _Stream,
    colour: _Stream,
    index: int,
) -> EnhancedFrame:
    """A frame with what the bag doesn't hold: coarse stage and discrepancy, made again from the same seeds."""
    model = create_model(settings.model, profile=profile, steps=settings.steps)
    seeds = [frame_seed(settings.seed, clean.topic, stamp) for stamp in clean.stamps[: index + 1]]
    previous = seeds[:-1][-model.history :] if model.history else []
    depth = clean.depth[index]
    again = model.enhance(
        DepthFrames(
            depth=depth[np.newaxis],
            colour=None,
            camera=clean.camera,
            seeds=(seeds[-1],),
            previous_seeds=tuple(previous),
            stream_seed=stream_seed(settings.seed, clean.topic),
        )
    )
    nearest = int(np.argmin([abs(stamp - clean.stamps[index]) for stamp in colour.stamps]))
    return EnhancedFrame(
        label=f"frame {index}, {(clean.stamps[index] - clean.stamps[0]) / 1e9:.1f} s",
        clean=depth,
        enhanced=enhanced.depth[index],
        rgb=np.asarray(colour.pixels[nearest], np.uint8),
        coarse=None if again.coarse is None else again.coarse[0],
        discrepancy=None if again.discrepancy is None else again.discrepancy[0],
    )


def _add_real_scene(report: DemoReport, result: DemoResult, profile: CameraProfile) -> None:
    if result.real is None:
        report.add_text(
            "A real scene",
            "Left out: no real frames are at hand. With REALDIFF_SHARED_DATA set to a folder with real pairs, a real "
            "scene's fused clean depth is enhanced and laid beside its recorded frames here.",
        )
        return
    with BagReader(result.real.clean) as reader:
        topic = depth_topics(reader)[0]
    clean, enhanced, recorded = (
        _Stream(bag, topic, profile) for bag in (result.real.clean, result.real.enhanced, result.real.recorded)
    )
    known = [np.isfinite(depth) for depth in clean.depth]
    raw = [np.where(mask, depth, np.nan) for mask, depth in zip(known, recorded.depth, strict=True)]
    frames = [
        RealFrame(f"frame {i + 1} of {len(raw)}", raw[i], clean.depth[i], enhanced.depth[i]) for i in (0, len(raw) - 1)
    ]
    scene = result.real.name
    report.add_real_scene(
        frames,
        clean.camera,
        [
            measure("recorded", f"the camera's own frames of {scene}", clean.depth, raw, clean.camera),
            measure(
                "enhanced", "the fused clean depth of these frames, enhanced", clean.depth, enhanced.depth, clean.camera
            ),
        ],
        text=f"{scene}: the clean depth is fused from other frames of the sequence. No frame of this scene was used to "
        "train the weights.",
    )


def _provenance(result: DemoResult) -> dict[str, str]:
    with BagReader(result.enhanced) as reader:
        record = reader.provenance()
    if record is None or record.enhancement is None:
        return {}
    made = record.enhancement
    return {
        "task": str(record.task),
        "simulator": str(record.simulator),
        "seed of the scene": str(record.seed),
        "model": made.model,
        "weights (SHA-256)": made.weights_sha256 or "none",
        "camera profile": made.profile,
        "seed of the noise": str(made.seed),
        "depth": ", ".join(f"{topic}: {kind}" for topic, kind in record.depth.items()),
        "software": record.software,
    }
