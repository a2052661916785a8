"""`DeltaEncoder` and `DeltaDecoder`: the jobs of one node, each in threads of its own that calls start, ask and end."""

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from actors.calls.messages import Caller, Empty
from actors.calls.service import Service, exposed
from actors.config.schema import Config, Encoding
from actors.encoding import decoder, encoder, filler, store
from actors.encoding.decoder_pump import DecoderPump
from actors.encoding.disks import DiskGate, Streams
from actors.encoding.encoder_pump import EncoderPump
from actors.encoding.far import Acquaintances
from actors.encoding.files import FileBlocks, FileLibrary
from actors.encoding.keyed import KEY_BYTES
from actors.encoding.messages import CodecStats, Disks, Job, OpenDecoder, OpenEncoder, StoreChange, StoreState
from actors.encoding.pump import Patience, Pump
from actors.encoding.registry import Registry
from actors.encoding.store import Store, StoreCounts
from actors.errors import BadRequest, Conflict, JobUnknown, NovaCronError, Refused
from actors.keeper.carriers import DECODER, carry

log = structlog.get_logger()

# Accounts of ended jobs that nobody closed; the oldest go first.
ENDED_MAX = 64
# How long a move waits for files to be read for the first time; later moves find them read.
FILES_S = 4.0
_PLAIN = {"zero": False, "store_mib": 0, "images": False, "dedupe": False, "delta": False, "zstd": False}
STORE_FOLDER = "store"
FILES_FOLDER = "store-files"


class _Jobs:
    """The jobs of one actor; a job is known only to the site that opened it."""

    def __init__(self, config: Config) -> None:
        move = config.migration
        self._run_dir = config.node.run_dir.resolve()
        self._jobs: dict[str, Streams] = {}
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

    def gate(self, job: str, listen_path: str, disks: Disks, make: Callable[[], Pump]) -> DiskGate:
        """What takes in the connections of a job's disks."""
        return DiskGate(job, self.path(listen_path), disks.count, make, self.patience.peer_s)

    def start(self, memory: Pump, disks: DiskGate | None) -> Empty:
        """Start a job; one of that name must have ended."""
        old = self._jobs.get(memory.job)
        if old is not None and not old.ended:
            raise Conflict(detail=f"job {memory.job} is open already")
        streams = Streams(memory, disks)
        streams.start()
        self._jobs.pop(streams.job, None)
        self._jobs[streams.job] = streams
        ended = [job for job, each in self._jobs.items() if each.ended]
        for job in ended[:-ENDED_MAX]:
            del self._jobs[job]
        return Empty()

    def stats(self, job: str) -> CodecStats:
        """The account of `job`."""
        streams = self._jobs.get(job)
        if streams is None:
            raise JobUnknown(job=job)
        return streams.stats()

    async def close(self, job: str) -> Empty:
        """End and forget `job`; one that is unknown is closed already."""
        streams = self._jobs.get(job)
        if streams is not None:
            await asyncio.to_thread(streams.close)
            self._jobs.pop(job, None)
        return Empty()


def share_mib(config: Encoding, disks: Disks) -> int:
    """What the cache of one disk may hold, MiB."""
    return max(1, config.disk_cache_mib // disks.count)


def open_store(config: Config) -> Store | None:
    """The node's store; None, with the reason in the log, when it can't be opened: moves go on without."""
    try:
        return Store(config.node.state_dir / STORE_FOLDER, config.encoding.store_mib)
    except OSError as error:
        log.warning("the content store can't be opened", reason=str(error))
        return None


class DeltaEncoder(Service):
    """The encoder of one node."""

    def __init__(self, config: Config) -> None:
        encoder.warm_up()
        store.warm_up()
        filler.warm_up()
        self._config = config.encoding
        self._jobs = _Jobs(config)
        self._acquaintances = Acquaintances()
        self._store = open_store(config)

    @exposed()
    async def open(self, caller: Caller, request: OpenEncoder) -> Empty:  # noqa: ARG002
        """Listen for QEMU; the job waits for it."""
        wire, qemu = self._jobs.path(request.wire_path), self._jobs.path(request.qemu_path)
        gate, layers = None, self._config.model_copy(update=_PLAIN) if request.plain else self._config
        if (disks := request.disks) is not None:
            to = self._jobs.path(disks.wire_path)
            config = layers.model_copy(update={"dedupe_cache_mib": share_mib(self._config, disks)})
            gate = self._jobs.gate(
                request.job, disks.qemu_path, disks, lambda: self._pump(request, None, to, config, disk=True)
            )
        return self._jobs.start(self._pump(request, qemu, wire, layers), gate)

    def _pump(
        self, request: OpenEncoder, qemu: Path | None, wire: Path, config: Encoding, *, disk: bool = False
    ) -> EncoderPump:
        link_bytes_per_s, known, patience = request.link_bytes_per_s, self._acquaintances, self._jobs.patience
        return EncoderPump(request.job, qemu, wire, config, patience, link_bytes_per_s, known, self._store, disk=disk)

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
        carry(config.node.run_dir, DECODER)
        decoder.warm_up()
        store.warm_up()
        filler.warm_up()
        self._config = config.encoding
        self._jobs = _Jobs(config)
        self._store = open_store(config)
        self._key = self._store.key if self._store is not None else secrets.token_bytes(KEY_BYTES)
        self._library = FileLibrary(config.node.state_dir / FILES_FOLDER, self._key)
        self._node = config.node.name
        self._registry = Registry(config.node.state_dir, self._library, self._store)

    @exposed()
    async def open(self, caller: Caller, request: OpenDecoder) -> Empty:  # noqa: ARG002
        """Listen for the transport; the job waits for it.

        Raises:
            Refused: a path outside the job's directory.
        """
        wire, qemu = self._jobs.path(request.wire_path), self._jobs.path(request.qemu_path)
        paths = [*request.files, *self._registry.in_place()] if self._config.images else []
        gate = None
        if (disks := request.disks) is not None:
            to, share = self._jobs.path(disks.qemu_path), share_mib(self._config, disks)
            gate = self._jobs.gate(
                request.job,
                disks.wire_path,
                disks,
                lambda: self._pump(request.job, None, to, share, self._library.open(paths, 0.0), disk=True),
            )
        files = await asyncio.to_thread(self._library.open, paths, FILES_S)
        try:
            return self._jobs.start(self._pump(request.job, wire, qemu, self._config.dedupe_cache_mib, files), gate)
        except NovaCronError:
            for file in files:
                file.close()
            raise

    def _pump(
        self, job: str, wire: Path | None, qemu: Path, cache_mib: int, files: list[FileBlocks], *, disk: bool = False
    ) -> DecoderPump:
        patience = self._jobs.patience
        return DecoderPump(job, wire, qemu, cache_mib, patience, self._key, self._store, files, disk=disk)

    @exposed()
    async def stats(self, caller: Caller, request: Job) -> CodecStats:  # noqa: ARG002
        """The job's account."""
        return self._jobs.stats(request.job)

    @exposed()
    async def close(self, caller: Caller, request: Job) -> Empty:  # noqa: ARG002
        """End the job and forget it."""
        return await self._jobs.close(request.job)

    @exposed()
    async def store(self, caller: Caller, request: StoreChange) -> StoreState:  # noqa: ARG002
        """Look after the node's content store; the answer is how it is then.

        Raises:
            BadRequest: no such action, or an image that can't be used.
            NotFound: an image that is not registered.
        """
        registry = self._registry
        match request.action:
            case "add":
                await asyncio.to_thread(registry.add, request.path)
            case "remove":
                await asyncio.to_thread(registry.remove, request.path)
            case "clear":
                await asyncio.to_thread(registry.clear)
            case "show":
                pass
            case other:
                raise BadRequest(detail=f"a store can show, add, remove and clear, not {other!r}")
        counts = self._store.counts() if self._store is not None else StoreCounts()
        return StoreState(node=self._node, images=registry.images(), **msgspec.structs.asdict(counts))
