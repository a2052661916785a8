"""`DeltaEncoder` and `DeltaDecoder`: the jobs of one node, each in threads of its own that calls start, ask and end."""

import asyncio
from pathlib import Path
from typing import Generic, TypeVar

from actors.calls.messages import Caller, Empty
from actors.calls.service import Service, exposed
from actors.config.schema import Config
from actors.encoding import decoder, encoder
from actors.encoding.decoder_pump import DecoderPump
from actors.encoding.encoder_pump import EncoderPump
from actors.encoding.images import ImageLibrary
from actors.encoding.messages import CodecStats, Job, OpenDecoder, Opened, OpenEncoder
from actors.encoding.pump import Patience, Pump
from actors.errors import Conflict, JobUnknown, NovaCronError, Refused

# Accounts of ended jobs that nobody closed; the oldest go first.
ENDED_MAX = 64
# How long a move waits for images to be read for the first time; later moves find them read.
IMAGES_S = 4.0
_Pump = TypeVar("_Pump", bound=Pump)


class _Jobs(Generic[_Pump]):
    """The jobs of one actor; a job is known only to the site that opened it."""

    def __init__(self, config: Config) -> None:
        move = config.migration
        self._run_dir = config.node.run_dir.resolve()
        self._jobs: dict[str, _Pump] = {}
        # Disks are copied before QEMU opens the RAM stream, so a job may wait as long as a whole move.
        self.patience = Patience(
            peer_s=move.perform_s, connect_s=move.call_s, stall_s=move.perform_s, end_s=move.finish_s
        )

    def path(self, given: str) -> Path:
        """`given`, if it lies in this node's directory of job sockets."""
        path = Path(given)
        if not path.is_absolute() or not path.resolve().is_relative_to(self._run_dir):
            raise Refused(detail=f"{given} does not lie in {self._run_dir}")
        return path

    def start(self, pump: _Pump) -> Empty:
        """Start a job; one of that name must have ended."""
        old = self._jobs.get(pump.job)
        if old is not None and not old.ended:
            raise Conflict(detail=f"job {pump.job} is open already")
        pump.start()
        self._jobs.pop(pump.job, None)
        self._jobs[pump.job] = pump
        ended = [job for job, each in self._jobs.items() if each.ended]
        for job in ended[:-ENDED_MAX]:
            del self._jobs[job]
        return Empty()

    def stats(self, job: str) -> CodecStats:
        """The account of `job`."""
        pump = self._jobs.get(job)
        if pump is None:
            raise JobUnknown(job=job)
        return pump.stats()

    async def close(self, job: str) -> Empty:
        """End and forget `job`; one that is unknown is closed already."""
        pump = self._jobs.get(job)
        if pump is not None:
            await asyncio.to_thread(pump.close)
            self._jobs.pop(job, None)
        return Empty()


class DeltaEncoder(Service):
    """The encoder of one node."""

    def __init__(self, config: Config) -> None:
        encoder.warm_up()
        self._config = config.encoding
        self._jobs: _Jobs[EncoderPump] = _Jobs(config)
        self._library = ImageLibrary(config.node.state_dir)

    @exposed()
    async def open(self, caller: Caller, request: OpenEncoder) -> Empty:  # noqa: ARG002
        """Listen for QEMU; the job waits for it."""
        offered = request.images if self._config.images else []
        images = await asyncio.to_thread(self._library.agree, offered, IMAGES_S)
        return self._jobs.start(
            EncoderPump(
                request.job,
                self._jobs.path(request.qemu_path),
                self._jobs.path(request.wire_path),
                self._config,
                self._jobs.patience,
                request.link_bytes_per_s,
                images,
            ),
        )

    @exposed()
    async def stats(self, caller: Caller, request: Job) -> CodecStats:  # noqa: ARG002
        """The job's account."""
        return self._jobs.stats(request.job)

    @exposed()
    async def close(self, caller: Caller, request: Job) -> Empty:  # noqa: ARG002
        """End the job and forget it."""
        return await self._jobs.close(request.job)


class DeltaDecoder(Service):
    """The decoder of one node; its site's manager opens jobs here for moves to this node."""

    def __init__(self, config: Config) -> None:
        decoder.warm_up()
        self._config = config.encoding
        self._jobs: _Jobs[DecoderPump] = _Jobs(config)
        self._library = ImageLibrary(config.node.state_dir)

    @exposed()
    async def open(self, caller: Caller, request: OpenDecoder) -> Opened:  # noqa: ARG002
        """Listen for the transport; the job waits for it.

        Raises:
            Refused: a path outside the job's directory.
        """
        wire, qemu = self._jobs.path(request.wire_path), self._jobs.path(request.qemu_path)
        paths = request.images if self._config.images else []
        images = await asyncio.to_thread(self._library.open, paths, IMAGES_S)
        cache_mib = self._config.dedupe_cache_mib
        try:
            self._jobs.start(DecoderPump(request.job, wire, qemu, cache_mib, self._jobs.patience, images))
        except NovaCronError:
            for image in images:
                image.close()
            raise
        return Opened(images=[image.known for image in images])

    @exposed()
    async def stats(self, caller: Caller, request: Job) -> CodecStats:  # noqa: ARG002
        """The job's account."""
        return self._jobs.stats(request.job)

    @exposed()
    async def close(self, caller: Caller, request: Job) -> Empty:  # noqa: ARG002
        """End the job and forget it."""
        return await self._jobs.close(request.job)
