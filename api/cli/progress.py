"""A move as people see it: a bar on a terminal, lines in a log, a summary at its end."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from api.cli.output import console, fields, note, rate, say, seconds, size, table

if TYPE_CHECKING:
    from rich.progress import TaskID

    from actors.migration.messages import JobView

COMPLETED = "completed"
PHASES = {
    "begin": "checking both nodes",
    "prepare": "preparing both nodes",
    "perform": "copying while it runs",
    "switchover": "switching over",
    "finish": "starting at the target",
    "confirm": "cleaning up the source",
    "rolling-back": "rolling back",
    COMPLETED: "arrived",
    "failed": "failed",
    "cancelled": "cancelled",
}
_LINE_EVERY_S = 5.0
_SAID_IN_WHOLE_S = 120.0


def phase(job: "JobView") -> str:
    """The job's state in words."""
    return PHASES.get(job.state, job.state)


def done_share(job: "JobView") -> float:
    """How much of what is known to be sent has been sent, 0 to 1; goes back when the guest writes faster than that."""
    progress = job.progress
    total = progress.memory_total + progress.disk_total
    left = progress.memory_remaining + progress.disk_remaining
    if job.state == COMPLETED:
        return 1.0
    return min(max(1.0 - left / total, 0.0), 1.0) if total else 0.0


def eta(job: "JobView") -> str:
    """Time left, as the 80 % interval."""
    progress = job.progress
    if progress.eta_s < 0:
        return ""
    if progress.eta_high_s < _SAID_IN_WHOLE_S:
        return f"ready in {max(1, round(progress.eta_low_s))}–{max(1, round(progress.eta_high_s))} s"
    return f"ready in {seconds(progress.eta_low_s)} to {seconds(progress.eta_high_s)}"


def details(job: "JobView") -> str:
    """Bytes, rate, round, layers and time left, as far as they are known."""
    progress = job.progress
    parts = [f"{size(progress.wire_bytes)} sent for {size(progress.stream_bytes)}"] if progress.wire_bytes else []
    if progress.rate_bytes_per_s:
        parts.append(rate(progress.rate_bytes_per_s))
    if progress.round:
        parts.append(f"round {progress.round}")
    layers = ", ".join(f"{name} {layer.pages}" for name, layer in progress.layers.items() if layer.pages)
    if layers:
        parts.append(f"pages: {layers}")
    if left := eta(job):
        parts.append(left)
    if job.stalled:
        parts.append(f"stalled: {job.message}")
    return " · ".join(parts)


def pause(job: "JobView") -> str:
    """The pause beside what was expected of it, and where the time went."""
    if job.pause_ms < 0:
        return ""
    seen = job.pause
    parts = [f"{job.pause_ms:.0f} ms"]
    if seen.predicted_ms >= 0:
        parts.append(f"{seen.predicted_ms:.0f} ms predicted")
    if seen.last_pages_ms >= 0:
        parts.append(
            f"last pages {seen.last_pages_ms:.0f}, device state {seen.device_state_ms:.0f},"
            f" round trips {seen.round_trips_ms:.0f}, resume {seen.resume_ms:.0f}"
        )
    return " · ".join(parts)


class Display(Protocol):
    """Shows a job while it goes on."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def show(self, job: "JobView", at: float) -> None:
        """The job as it was at Unix time `at`."""


class Lines:
    """For logs and pipes: a line for each state, and one every few seconds."""

    def __init__(self) -> None:
        self._state = ""
        self._said_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, job: "JobView", at: float) -> None:
        """A line, if there is news."""
        if job.state == self._state and at - self._said_at < _LINE_EVERY_S:
            return
        self._state, self._said_at = job.state, at
        note(" · ".join(part for part in (f"{job.guest}: {phase(job)}", details(job)) if part))


class Bar:
    """For terminals: one bar and one line of details."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

        self._progress: Progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
            TextColumn("{task.fields[details]}"), console=console(), transient=True,
        )  # fmt: skip
        self._task: TaskID = self._progress.add_task("asking", total=1.0, details="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, job: "JobView", at: float) -> None:  # noqa: ARG002  a bar is redrawn, not logged
        """The bar as it is now."""
        text = f"{job.guest} {job.source} → {job.target}: {phase(job)}"
        self._progress.update(self._task, completed=done_share(job), description=text, details=details(job))


def display() -> Display:
    """What fits standard output."""
    return Bar() if sys.stdout.isatty() else Lines()


def summary(job: "JobView") -> None:
    """How the move is, or how it ended."""
    progress = job.progress
    saved = f", {progress.stream_bytes / progress.wire_bytes:.1f} times less" if progress.layers else ""
    fields(
        [
            ("migration", job.id),
            ("guest", f"{job.guest}, {job.source} → {job.target}"),
            ("state", f"{job.state} ({phase(job)})"),
            ("owner", job.owner),
            ("chosen because", job.placement_reason),
            ("path", f"{job.path}: {job.path_reason}" if job.path_reason else job.path),
            ("total time", seconds(job.total_s) if job.total_s >= 0 else ""),
            ("pause", pause(job)),
            ("sent", f"{size(progress.wire_bytes)} for {size(progress.stream_bytes)} of guest{saved}"),
            ("rounds", str(progress.round or "")),
            ("time left", "" if job.ended_at else eta(job)),
            ("message", job.message),
            ("next step", job.next_step),
        ]
    )
    rows = [
        [name, f"{layer.pages}", size(layer.bytes_in), size(layer.bytes_out), seconds(layer.cpu_s)]
        for name, layer in progress.layers.items()
    ]
    if rows:
        say("")
        table(["layer", "pages", "guest bytes", "sent", "cpu"], rows, "")
