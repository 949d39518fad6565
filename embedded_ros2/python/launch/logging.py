"""Output of the launch: lines on the screen, the same with times in a log file."""

from __future__ import annotations

import logging
import os
import socket
import sys
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from ._gaps import module_gaps

__getattr__ = module_gaps("launch.logging", ("handlers", "reset", "LaunchLogger"))

_SCREEN_FORMAT = "[{levelname}] [{name}]: {msg}"
_FILE_FORMAT = "{created:.7f} [{levelname}] [{name}]: {msg}"
_LINE_FORMAT = "{msg}"


class _ScreenHandler(logging.StreamHandler[TextIO]):
    """Writes to whatever sys.stdout is at the time; never fails on a character."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stdout
        encoding = self.stream.encoding or "utf-8"
        record.msg = str(record.msg).encode(encoding, "replace").decode(encoding)
        super().emit(record)


class _FileHandler(logging.FileHandler):
    """Opens its file below the log directory when the first line comes."""

    def __init__(self, name: str) -> None:
        super().__init__(name, delay=True, encoding="utf-8")
        self.__name = name

    def _open(self) -> Any:
        self.baseFilename = str(launch_config.log_dir / self.__name)
        return super()._open()


class LaunchConfig:
    """Where the output goes."""

    def __init__(self) -> None:
        """Nothing is created before the first line is written."""
        self.level = logging.INFO
        self.__log_dir: Path | None = None
        self.__handlers: dict[tuple[str, str], logging.Handler] = {}

    @property
    def log_dir(self) -> Path:
        """Directory of this launch's log files: below ROS_LOG_DIR, else ROS_HOME/log, else ~/.ros/log."""
        if self.__log_dir is None:
            home = os.environ.get("ROS_HOME") or "~/.ros"
            base = Path(os.environ.get("ROS_LOG_DIR") or Path(home) / "log").expanduser()
            stamp = datetime.now().strftime("%Y-%m-%d-%H-%M-%S-%f")
            self.__log_dir = base / f"{stamp}-{socket.gethostname()}-{os.getpid()}"
            self.__log_dir.mkdir(parents=True, exist_ok=True)
            self.__link_latest(base / "latest")
        return self.__log_dir

    @log_dir.setter
    def log_dir(self, directory: str | os.PathLike[str]) -> None:
        self.__log_dir = Path(directory)

    def __link_latest(self, link: Path) -> None:
        # Two launches may do this at once: replace the link in one step.
        if link.exists() and not link.is_symlink():
            return
        temporary = link.with_name(f".latest-{os.getpid()}")
        try:
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(self.log_dir, target_is_directory=True)
            temporary.replace(link)
        except OSError as error:
            logging.getLogger("launch").warning(f"Cannot create a symlink to latest log directory: {error}")

    def handler(self, target: str, line_format: str) -> logging.Handler:
        """Return the handler for a target ('screen' or the name of a log file) and a format."""
        key = (target, line_format)
        if key not in self.__handlers:
            handler: logging.Handler = _ScreenHandler() if target == "screen" else _FileHandler(target)
            handler.setFormatter(logging.Formatter(line_format, style="{"))
            self.__handlers[key] = handler
        return self.__handlers[key]


launch_config = LaunchConfig()


def _add(logger: logging.Logger, handler: logging.Handler) -> None:
    if handler not in logger.handlers:
        logger.addHandler(handler)


def get_logger(name: str | None = None) -> logging.Logger:
    """Return a logger that writes to the screen and to the launch's log file."""
    logger = logging.getLogger(name or "root")
    logger.propagate = False
    logger.setLevel(launch_config.level)
    _add(logger, launch_config.handler("screen", os.environ.get("OVERRIDE_LAUNCH_SCREEN_FORMAT") or _SCREEN_FORMAT))
    _add(logger, launch_config.handler("launch.log", os.environ.get("OVERRIDE_LAUNCH_LOG_FORMAT") or _FILE_FORMAT))
    return logger


def log_launch_config(*, logger: logging.Logger) -> None:
    """Say where the log files are."""
    logger.info(f"All log files can be found below {launch_config.log_dir}")
    logger.info(f"Default logging verbosity is set to {logging.getLevelName(launch_config.level)}")


_PRESETS: dict[str, dict[str, set[str]]] = {
    "screen": {"both": {"screen"}},
    "log": {"both": {"log"}, "stderr": {"screen"}},
    "both": {"both": {"log", "screen"}},
    "own_log": {"both": {"own_log"}, "stdout": {"own_log"}, "stderr": {"own_log"}},
    "full": {"both": {"screen", "log", "own_log"}, "stdout": {"own_log"}, "stderr": {"own_log"}},
}


def get_output_loggers(process_name: str, output_config: Any) -> tuple[logging.Logger, logging.Logger]:
    """Return the loggers for what a process writes.

    Args:
        process_name: Label of the process.
        output_config: 'screen', 'log', 'both', 'own_log' or 'full', or a dictionary from
            'stdout', 'stderr' and 'both' to 'screen', 'log' and 'own_log'.

    Returns:
        Loggers for stdout and for stderr.

    Raises:
        ValueError: If the configuration names something else.
    """
    if isinstance(output_config, str):
        if output_config not in _PRESETS:
            raise ValueError(f'{output_config} is not a valid standard output config i.e. "screen", "log" or "both"')
        wanted = _PRESETS[output_config]
    elif isinstance(output_config, dict):
        wanted = {k: {v} if isinstance(v, str) else set(v) for k, v in output_config.items()}
        for source, targets in wanted.items():
            if source not in ("stdout", "stderr", "both"):
                raise ValueError(f'{source} is not a valid output source i.e. "stdout", "stderr" or "both"')
            for target in targets - {"screen", "log", "own_log"}:
                raise ValueError(f'{target} is not a valid output destination i.e. "screen", "log" or "own_log"')
    else:
        raise ValueError(f"{output_config} is not a valid output configuration")

    loggers = []
    for source in ("stdout", "stderr"):
        logger = logging.getLogger(f"{process_name}-{source}")
        logger.propagate = False
        logger.setLevel(logging.INFO)
        both, own = wanted.get("both", set()), wanted.get(source, set())
        if "screen" in both | own:
            _add(logger, launch_config.handler("screen", _LINE_FORMAT))
        if "log" in both | own:
            _add(logger, launch_config.handler("launch.log", "{created:.7f} {msg}"))
        if "own_log" in own:
            _add(logger, launch_config.handler(f"{process_name}-{source}.log", _LINE_FORMAT))
        if "own_log" in both:
            _add(logger, launch_config.handler(f"{process_name}.log", _LINE_FORMAT))
        loggers.append(logger)
    return loggers[0], loggers[1]
