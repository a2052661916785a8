"""``python -m actors.keeper RUN_DIR STATE_DIR LIBVIRT_URI NODE``: one keeper per run directory; the second one ends."""

import os
import sys
import time
from pathlib import Path

import msgspec
import structlog

from actors.errors import Failed, NovaCronError
from actors.keeper.engine import Act, Note, Order, decide, noted, wait_ms
from actors.keeper.files import LOCK_FILE, boot_id, now_ms, read_note, read_order, write_note
from actors.keeper.hands import Hands
from actors.locks import hold
from actors.node.process import find

log = structlog.get_logger()
LOOK_MS = 100.0
# Before guests that keep every core busy, and the last to go when memory runs out.
_NICE, _OOM_SCORE = -10, -900


class Keeper:
    """The loop around the engine."""

    def __init__(self, run_dir: Path, state_dir: Path, hands: Hands) -> None:
        self._run_dir = run_dir
        self._state_dir = state_dir
        self._hands = hands
        self._boot = boot_id()
        self._order: Order | None = None
        self._note = self._first_note()

    def run(self) -> None:
        """Keep until there is nothing to keep."""
        pausing = False
        while True:
            self._read()
            act = decide(self._order, self._boot, now_ms(), node_runs=find(self._run_dir) is not None)
            if act is Act.END:
                log.info("nothing to keep, and no node")
                return
            if act is Act.PAUSE:
                if not pausing:
                    log.warning("the lease has run out: pausing what executes", order=self._order)
                self._pause()
            elif self._note.trouble:
                self._write(msgspec.structs.replace(self._note, trouble=""))
            pausing = act is Act.PAUSE
            time.sleep(wait_ms(self._order, now_ms(), LOOK_MS) / 1e3)

    def _read(self) -> None:
        try:
            self._order = read_order(self._state_dir)
        except Failed as error:
            # No longer than was ordered last, and not at all if that is unknown.
            log.error("the lease's end can't be read", error=str(error))
            self._order = self._order or Order(boot="", lease=0, pause_at_ms=0.0)
        if self._order and any(paused.number <= self._order.answered for paused in self._note.paused):
            self._write(noted(self._note, self._order, []))

    def _pause(self) -> None:
        try:
            running, transient = self._hands.look()
            # On disk first: a guest that was paused by nobody knows whom would never be resumed.
            self._write(noted(self._note, self._order, running))
            trouble = self._hands.pause(running) if running else ""
            self._hands.end_incoming(transient)
        except NovaCronError as error:
            trouble = str(error)
        if trouble != self._note.trouble:
            log.warning("not all is paused", trouble=trouble)
            self._write(msgspec.structs.replace(self._note, trouble=trouble))

    def _first_note(self) -> Note:
        try:
            return read_note(self._state_dir)
        except Failed as error:
            log.error("what was paused before is forgotten", error=str(error))
            return Note()

    def _write(self, note: Note) -> None:
        if note == self._note:
            return
        self._note = note
        try:
            write_note(self._state_dir, note)
        except OSError as error:
            # Pausing goes before noting: guests that stay paused are better than guests that run twice.
            log.error("the note can't be written", error=str(error))


def main() -> None:
    """Be the keeper."""
    run_dir, state_dir, uri, node = sys.argv[1:]
    try:
        _lock = hold(Path(run_dir) / LOCK_FILE)
    except BlockingIOError:
        return
    _go_first()
    log.info("keeping", node=node)
    Keeper(Path(run_dir), Path(state_dir), Hands(uri, node, Path(run_dir), Path(state_dir))).run()


def _go_first() -> None:
    try:
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE))
    except OSError as error:
        log.warning("the keeper has no priority", error=str(error))


if __name__ == "__main__":
    main()
