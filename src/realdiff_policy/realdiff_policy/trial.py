"""One trial on the ROS graph: reset, record, run the policy, judge, and write a labelled record beside its bag."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from realdiff_core.config import Strict, find_config
from realdiff_core.episode import REQUIRED_TOPICS, SIMULATION_TOPICS
from realdiff_core.errors import ConfigError, OutputError, RealdiffError
from realdiff_core.provenance import KEY, BagProvenance, DepthKind
from realdiff_core.seeds import FIRST_TRIAL_SEED
from std_srvs.srv import Trigger

from realdiff_core import topics
from realdiff_msgs.msg import PolicyStatus, Provenance, TaskStatus, TrialRecord
from realdiff_msgs.srv import Reset
from realdiff_policy.node_inputs import LATCHED_BY_SEVERAL
from realdiff_policy.robot.client import Client
from realdiff_policy.robot.messages import time_message

RECORD_FILE = "trial.json"
BAG_FOLDER = "bag"
_MORE_TOPICS = ("/diffusion_policy/status", "/diffusion_policy/path", "/diagnostics")
_RECORDER_NODE = "rosbag2_recorder"
_SETTLE_S = 0.6
_RECORDER_S = 20.0
_LONGEST_STALL_S = 60.0
_OUTCOMES = {0: "unlabelled", 1: "success", 2: "failure", 3: "invalid"}


class TrialSettings(Strict):
    """What to try.

    Attributes:
        task: Task name.
        policy: Name of the bundle, for the record.
        robot: "real", "sim" or "fci".
        camera: "real" or "sim".
        seed: Which scene (simulation): the reset's seed is so far from the first one that is kept for trials.
        position: Index of the object position in a protocol.
        repetition: Repetition at that position.
        time_limit_s: Longest duration; 0: the task's own horizon.
        record: Write a bag.
        output: Folder for the trial.
        policy_node: Name of the inference node.
    """

    task: str
    policy: str = ""
    robot: str = "sim"
    camera: str = "sim"
    seed: int = 0
    position: int = 0
    repetition: int = 0
    time_limit_s: float = 0.0
    record: bool = True
    output: Path = Path("trials")
    policy_node: str = "diffusion_policy"

    @property
    def simulated(self) -> bool:
        """Whether a simulator resets the scene and knows about success."""
        return self.robot == "sim"


@dataclass
class _Outcome:
    outcome: int
    category: str
    comment: str
    duration_s: float


class Trial:
    """Runs one trial.

    Args:
        client: The node to speak through.
        settings: What to try.
    """

    def __init__(self, client: Client, settings: TrialSettings) -> None:
        """Listens to policy and task."""
        self._client = client
        self.settings = settings
        self._status: PolicyStatus | None = None
        self._task: TaskStatus | None = None
        self._provenance: Provenance | None = None
        self._recorder: subprocess.Popen[bytes] | None = None
        node = client.node
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)

        def keep(name: str) -> Any:
            return lambda message: setattr(self, name, message)

        node.create_subscription(PolicyStatus, f"/{settings.policy_node}/status", keep("_status"), 10)
        node.create_subscription(TaskStatus, topics.TASK_STATUS, keep("_task"), 10)
        node.create_subscription(Provenance, topics.PROVENANCE, self._on_provenance, LATCHED_BY_SEVERAL)
        self._provenance_out = node.create_publisher(Provenance, topics.PROVENANCE, latched)

    def _on_provenance(self, message: Provenance) -> None:
        if topics.ALIGNED_DEPTH_IMAGE in message.topics:  # an enhancer beside the camera says what it makes, too
            self._provenance = message

    def run(self) -> Path:
        """Runs the trial and returns its folder.

        Raises:
            RealdiffError: Something that a trial needs is missing; nothing is left running.
        """
        settings, client = self.settings, self._client
        limit_s = settings.time_limit_s or task_horizon_s(settings.task)
        folder = self._make_folder()
        client.wait_for(lambda: self._status, 60.0, f"status of /{settings.policy_node}")
        description = self._reset()
        try:
            if settings.record:
                self._start_recorder(folder / BAG_FOLDER)
            self._service("start")
            outcome = self._watch(limit_s)
            self._service("stop")
            self._spin_for(_SETTLE_S)
        finally:
            self._stop_recorder()
        record = self._record(folder, outcome)
        (folder / RECORD_FILE).write_text(json.dumps({**record, "scene": description}, indent=2) + "\n")
        if settings.record:
            self._label_bag(folder / BAG_FOLDER, outcome)
        return folder

    def _make_folder(self) -> Path:
        settings = self.settings
        name = f"{settings.task}_{settings.seed:06d}" if settings.simulated else f"{settings.task}"
        for number in range(10_000):
            folder = settings.output / (name if not number and settings.simulated else f"{name}_{number:04d}")
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                continue
            except OSError as error:
                raise OutputError("the trial's folder can't be made", where=folder, got=error.strerror) from error
            return folder
        raise OutputError(
            "there are too many trials of that name", where=settings.output, next_step="name another folder"
        )

    def _service(self, verb: str) -> None:
        answer = self._client.call(Trigger, f"/{self.settings.policy_node}/{verb}", Trigger.Request())
        if not answer.success:
            raise RealdiffError(f"the policy refused to {verb}", got=answer.message)

    def _reset(self) -> str:
        if not self.settings.simulated:
            self._publish_sensor_provenance()
            return ""
        request = Reset.Request(seed=FIRST_TRIAL_SEED + self.settings.seed, task=self.settings.task)
        answer = self._client.call(Reset, "/sim_bridge/reset", request, timeout_s=60.0)
        if not answer.success:
            raise RealdiffError("the scene can't be reset", got=answer.message)
        self._task = None
        return str(answer.message)

    def _publish_sensor_provenance(self) -> None:
        """Real drivers say nothing about where depth comes from; a bag must."""
        depth = [topics.DEPTH_IMAGE, topics.ALIGNED_DEPTH_IMAGE]
        record = BagProvenance(depth=dict.fromkeys(depth, DepthKind.SENSOR), source="hardware", task=self.settings.task)
        message = Provenance(topics=depth, kinds=[DepthKind.SENSOR.msg_value] * 2, details_json=record.to_json())
        message.header.stamp = time_message(self._client.node.get_clock().now().nanoseconds)
        self._provenance_out.publish(message)

    # -- the bag -----------------------------------------------------------------------------------------------------

    def _start_recorder(self, path: Path) -> None:
        wanted = [*REQUIRED_TOPICS, *_MORE_TOPICS, topics.ARM_TRAJECTORY]
        wanted += list(SIMULATION_TOPICS) if self.settings.simulated else []
        command = ["ros2", "bag", "record", "--storage", "mcap", "--output", str(path), "--topics", *wanted]
        if self.settings.simulated:
            command.append("--use-sim-time")
        node = self._client.node
        # In a session of its own, so that Ctrl-C at the terminal doesn't end the bag before the trial.
        self._recorder = subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL)

        def listening() -> bool:
            assert self._recorder is not None
            if self._recorder.poll() is not None:
                raise RealdiffError(
                    "the recorder didn't start",
                    got=f"exit code {self._recorder.returncode}",
                    where=" ".join(command[:3]),
                )
            published = [topic for topic in wanted if node.count_publishers(topic)]
            heard = [topic for topic in published if _recorded(node.get_subscriptions_info_by_topic(topic))]
            return topics.COLOR_IMAGE in heard and len(heard) == len(published)

        self._client.wait_for(listening, _RECORDER_S, "the recorder")

    def _stop_recorder(self) -> None:
        if self._recorder is None:
            return
        recorder, self._recorder = self._recorder, None
        os.killpg(recorder.pid, signal.SIGINT)
        try:
            recorder.wait(timeout=30.0)
        except subprocess.TimeoutExpired:
            recorder.kill()
            recorder.wait()

    def _label_bag(self, path: Path, outcome: _Outcome) -> None:
        """Writes provenance and outcome into the bag's metadata: a trial is training data."""
        details = self._provenance.details_json if self._provenance is not None else ""
        known = BagProvenance.from_json(details) if details else BagProvenance(depth={}, source="hardware")
        labelled = {TrialRecord.SUCCESS: True, TrialRecord.FAILURE: False}.get(outcome.outcome)
        notes = {**known.notes, "policy": self.settings.policy}
        record = known.model_copy(update={"task": self.settings.task, "success": labelled, "notes": notes})
        label_bag(path, record)

    # -- the run -----------------------------------------------------------------------------------------------------

    def _watch(self, limit_s: float) -> _Outcome:
        """Waits for success, the time limit or a stop by the policy's safety gate; time is the clock's (simulated)."""
        clock = self._client.node.get_clock()
        began = clock.now().nanoseconds
        progress = (began, time.monotonic())
        while True:
            self._client.spin_once()
            now = clock.now().nanoseconds
            elapsed = (now - began) * 1e-9
            if now != progress[0]:
                progress = (now, time.monotonic())
            elif time.monotonic() - progress[1] > _LONGEST_STALL_S:
                raise RealdiffError("time stands still", got=f"no progress for {_LONGEST_STALL_S:g} s")
            if self._task is not None and self._task.success:
                return _Outcome(TrialRecord.SUCCESS, "", "", elapsed)
            if self._status is not None and self._status.state == PolicyStatus.STOPPED:
                known = TrialRecord.FAILURE if self.settings.simulated else TrialRecord.UNLABELLED
                return _Outcome(known, "safety_stop", self._status.reason, elapsed)
            if elapsed > limit_s:
                if self.settings.simulated:
                    return _Outcome(TrialRecord.FAILURE, "timeout", "", elapsed)
                return _Outcome(TrialRecord.UNLABELLED, "", "", elapsed)

    def _spin_for(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._client.spin_once()

    def _record(self, folder: Path, outcome: _Outcome) -> dict[str, Any]:
        settings = self.settings
        status = self._status
        return {
            "trial_id": folder.name,
            "task": settings.task,
            "policy": settings.policy,
            "robot": settings.robot,
            "camera": settings.camera,
            "position_index": settings.position,
            "repetition": settings.repetition,
            "seed": settings.seed,
            "outcome": _OUTCOMES[outcome.outcome],
            "failure_category": outcome.category,
            "comment": outcome.comment,
            "duration_s": round(outcome.duration_s, 3),
            "bag": BAG_FOLDER if settings.record else "",
            "depth": _depth_kind(self._provenance),
            "inference_p50_ms": round(float(status.inference_p50_ms), 2) if status else None,
            "inference_p99_ms": round(float(status.inference_p99_ms), 2) if status else None,
            "missed_deadlines": int(status.missed_deadlines) if status else None,
            "rejected_actions": int(status.rejected_actions) if status else None,
        }


def _recorded(subscriptions: Any) -> bool:
    """Whether the recorder is among the subscribers of a topic."""
    return any(info.node_name == _RECORDER_NODE for info in subscriptions)


def _depth_kind(message: Provenance | None) -> str:
    if message is None or topics.ALIGNED_DEPTH_IMAGE not in message.topics:
        return "unknown"
    kinds = {kind.msg_value: str(kind) for kind in DepthKind}
    return kinds.get(message.kinds[list(message.topics).index(topics.ALIGNED_DEPTH_IMAGE)], "unknown")


def task_horizon_s(task: str) -> float:
    """How long a task may take, from config/tasks [s].

    Raises:
        ConfigError: The task is unknown, or has no horizon.
    """
    path = find_config(task if task.endswith((".yaml", ".yml")) else f"tasks/{task}.yaml")
    try:
        return float(yaml.safe_load(path.read_text(encoding="utf-8"))["horizon_s"])
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise ConfigError("a task has no time limit", where=path, expected="horizon_s", got=str(error)) from error


def label_bag(path: Path, record: BagProvenance) -> None:
    """Sets the provenance record of a finished bag.

    Args:
        path: The bag's folder.
        record: What to write; what was there is replaced.

    Raises:
        OutputError: The folder holds no complete bag.
    """
    metadata_path = path / "metadata.yaml"
    try:
        metadata = yaml.safe_load(metadata_path.read_text(encoding="utf-8"))
        information = metadata["rosbag2_bagfile_information"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise OutputError(
            "the trial's bag is incomplete", where=metadata_path, got=str(error), next_step="ros2 bag reindex it"
        ) from error
    information["custom_data"] = {**(information.get("custom_data") or {}), KEY: record.to_json()}
    partial = metadata_path.with_suffix(".partial")
    partial.write_text(yaml.safe_dump(metadata, sort_keys=False), encoding="utf-8")
    partial.replace(metadata_path)
