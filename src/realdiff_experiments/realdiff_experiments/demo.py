"""The demonstration: record → enhance → play through the live node → a real scene → a trial → one report.

Every step is the command that a user would type, run as its own process; this module only strings them together and
reads the bags that they leave.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from realdiff_core.bag import BagReader
from realdiff_core.errors import RealdiffError
from realdiff_core.topics import DEPTH_IMAGE, ENHANCED_PREFIX

from realdiff_experiments.demo_trial import TrialRun, run_trial

LIVE_MODEL = "disparity"
"""Model of the live step: light enough for the camera's rate on two cores."""

_RECORDER_STARTS_S = 4.0
_REAL_FRAMES = 6


@dataclass(frozen=True)
class DemoSettings:
    """What the demonstration does.

    Attributes:
        output: Folder for bags and report; what an earlier demonstration left there is replaced.
        seed: Seed of the scene and of the noise.
        rate_hz: Camera frames a second in the recording.
        model: Enhancer model.
        steps: Sampling steps a stage; None for the model's default.
        real_data: Folder with real frames, or None.
        trial: Whether the policy is shown at work.
    """

    output: Path
    seed: int
    rate_hz: float
    model: str
    steps: int | None = None
    real_data: Path | None = None
    trial: bool = True


@dataclass(frozen=True)
class LiveResult:
    """What came out of the live node: frames sent and received, and how many equal the bag enhancer's bytes."""

    sent: int
    received: int
    identical: int


@dataclass(frozen=True)
class RealScene:
    """Bags of a real scene: fused clean depth, that depth enhanced, and what the camera recorded."""

    name: str
    clean: Path
    enhanced: Path
    recorded: Path


@dataclass(frozen=True)
class DemoResult:
    """Where everything lies, what was typed and how long each step took [s]."""

    episode: Path
    enhanced: Path
    live: LiveResult
    real: RealScene | None
    trial: TrialRun | None
    commands: list[str]
    seconds: dict[str, float]


def run_demo(settings: DemoSettings, say: Callable[[str], None] = print) -> DemoResult:
    """Runs all steps but the report.

    Args:
        settings: What to do.
        say: Receives progress lines.

    Raises:
        RealdiffError: A step failed; names its command and log file.
    """
    if shutil.which("ros2") is None:
        raise RealdiffError("`ros2` isn't on the path", next_step="start the demonstration with ./run demo")
    output = settings.output
    output.mkdir(parents=True, exist_ok=True)
    for name in ("episodes", "enhanced", "live", "live_reference", "real", "logs"):
        shutil.rmtree(output / name, ignore_errors=True)
    runner = _Runner(output / "logs", say)
    seed = str(settings.seed)
    runner.step(
        "record an episode in simulation",
        [
            "ros2",
            "run",
            "realdiff_sim_bridge",
            "record",
            "--task",
            "can_to_plate",
            "--episodes",
            "1",
            "-o",
            str(output / "episodes"),
            "--seed",
            seed,
            "--rate",
            f"{settings.rate_hz:g}",
        ],
    )
    episode = output / "episodes" / "can_to_plate_000000"
    steps = [] if settings.steps is None else ["--steps", str(settings.steps)]
    runner.step(
        f"enhance it ({settings.model})",
        [
            "ros2",
            "run",
            "realdiff_enhancer",
            "enhance",
            "--overwrite",
            str(episode),
            "-o",
            str(output / "enhanced"),
            "--model",
            settings.model,
            "--seed",
            seed,
            *steps,
        ],
    )
    live = _play_live(settings, episode, runner)
    real = _real_scene(settings, steps, runner)
    trial = run_trial(output / "trials", settings.seed, runner.step, say) if settings.trial else None
    return DemoResult(episode, output / "enhanced", live, real, trial, runner.commands, runner.seconds)


class _Runner:
    """Runs commands one after another, with a log file each."""

    def __init__(self, logs: Path, say: Callable[[str], None]) -> None:
        self.logs, self.say = logs, say
        self.commands: list[str] = []
        self.seconds: dict[str, float] = {}
        logs.mkdir(parents=True, exist_ok=True)

    def step(self, title: str, command: list[str]) -> None:
        self.say(f"{title} …")
        self.commands.append(" ".join(command))
        log = self.logs / f"{len(self.commands):02d}.log"
        started = time.monotonic()
        with log.open("w") as file:
            code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
        self.seconds[title] = time.monotonic() - started
        if code:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-12:])
            raise RealdiffError(
                f"a step of the demonstration failed: {title}",
                where=log,
                got=f"exit code {code}\n{tail}",
                next_step=f"run it by itself: ./run {' '.join(command)}",
            )
        self.say(f"{title}: {self.seconds[title]:.0f} s")

    def start(self, command: list[str]) -> subprocess.Popen[bytes]:
        self.commands.append(" ".join(command) + " &")
        log = (self.logs / f"{len(self.commands):02d}.log").open("w")
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)


def _play_live(settings: DemoSettings, episode: Path, runner: _Runner) -> LiveResult:
    """Plays the episode through the node and compares what it publishes with the bag enhancer's output."""
    output = settings.output
    live_topic = ENHANCED_PREFIX + DEPTH_IMAGE
    recorder = runner.start(["ros2", "bag", "record", "-o", str(output / "live"), live_topic])
    try:
        time.sleep(_RECORDER_STARTS_S)
        runner.step(
            "play it through the live node",
            [
                "ros2",
                "launch",
                "realdiff",
                "enhance.launch.py",
                f"bag:={episode}",
                f"model:={LIVE_MODEL}",
                f"seed:={settings.seed}",
            ],
        )
    finally:
        os.killpg(recorder.pid, signal.SIGINT)
        recorder.wait(timeout=30)
    runner.step(
        "enhance the bag with the same model",
        [
            "ros2",
            "run",
            "realdiff_enhancer",
            "enhance",
            "--overwrite",
            str(episode),
            "-o",
            str(output / "live_reference"),
            "--model",
            LIVE_MODEL,
            "--seed",
            str(settings.seed),
            "--topics",
            DEPTH_IMAGE,
        ],
    )
    expected = _payloads(output / "live_reference", DEPTH_IMAGE)
    received = _payloads(output / "live", live_topic)
    return LiveResult(len(expected), len(received), len(set(expected) & set(received)))


def _payloads(bag: Path, topic: str) -> list[bytes]:
    with BagReader(bag, allow_empty=True) as reader:
        return [bytes(message.data) for message in reader.messages([topic])] if topic in reader.topics else []


def _real_scene(settings: DemoSettings, steps: list[str], runner: _Runner) -> RealScene | None:
    """Walks a real scene the same way: import, enhance the fused clean depth, keep the recorded frames beside it."""
    name = "tron_d435"
    source = settings.real_data / "pairs" / name if settings.real_data else None
    if source is None or not source.is_dir():
        return None
    folder = settings.output / "real"
    folder.mkdir()
    scene = RealScene(name, folder / "clean", folder / "enhanced", folder / "recorded")
    common = ["--limit", str(_REAL_FRAMES), "--intrinsics", str(source / "K.txt"), "--aligned"]
    importer = ["ros2", "run", "realdiff_core", "import_frames", str(source)]
    runner.step(
        "import a real scene's fused clean depth",
        [*importer, "--depth-glob", "clean/*.png", "--scale", "0.0001", "--clean", "-o", str(scene.clean), *common],
    )
    runner.step(
        "import its recorded depth",
        [*importer, "--depth-glob", "noisy/*.png", "-o", str(scene.recorded), *common],
    )
    runner.step(
        "enhance the real scene's clean depth",
        [
            "ros2",
            "run",
            "realdiff_enhancer",
            "enhance",
            str(scene.clean),
            "-o",
            str(scene.enhanced),
            "--model",
            settings.model,
            "--seed",
            str(settings.seed),
            *steps,
        ],
    )
    return scene


__all__ = ["DemoResult", "DemoSettings", "LiveResult", "RealScene", "run_demo"]
