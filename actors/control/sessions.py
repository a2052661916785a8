"""Sessions: a client numbers its commands, so that one which is sent twice takes effect once.

Bounded by forgetting: old answers of a session, old sessions of a client. What is forgotten is refused, never done
again; the client then opens a new session and looks up what became of its command.
"""

from msgspec.structs import replace

from actors.control.decision import Asked, Refusal, Refused
from actors.control.envelope import Envelope
from actors.control.model import ControlState, Result, Session

ANSWERS_KEPT = 32
PER_CLIENT_MAX = 8
PER_NODE_MAX = 64
"""Sessions that one node may have opened by its signature: one that lies can't take everybody's."""
SESSIONS_MAX = 4096


def earlier(state: ControlState, envelope: Envelope) -> Result | None:
    """The answer that this command got before, None when it is new.

    Raises:
        Refused: the session is unknown, another's, or the answer is forgotten; or the number leaves a gap wider than
            what is kept.
    """
    session = _own(state, envelope.session, envelope.by)
    for number, answer in session.answers:
        if number == envelope.number:
            return answer
    if envelope.number <= session.floor:
        raise Refused(Refusal.FORGOTTEN, f"what became of command {envelope.number} is forgotten: look it up")
    if envelope.number > session.floor + ANSWERS_KEPT * 2:
        raise Refused(Refusal.SESSION_GAP, f"numbers up to {session.floor} are known: {envelope.number} is too far on")
    return None


def answered(state: ControlState, envelope: Envelope, result: Result) -> None:
    """Remember the answer of a new command."""
    key = str(envelope.session)
    session = state.sessions[key]
    answers = tuple(sorted((*session.answers, (envelope.number, result)), key=lambda answer: answer[0]))
    gone, kept = answers[:-ANSWERS_KEPT], answers[-ANSWERS_KEPT:]
    floor = max([session.floor, *(number for number, _ in gone)])
    state.sessions[key] = replace(session, used=result.index, floor=floor, answers=kept)


def opened(state: ControlState, asked: Asked, number: int) -> None:
    """Add a session, in place of the client's (or its node's) least recently used one if it has too many.

    `number`: of a signed opening, which is good for one session: somebody else who says it again opens none.

    Raises:
        Refused: `full`, too many clients; `stale`, the number was used.
    """
    index, by, node = asked.index, asked.by, asked.author
    if node:
        if not state.openings.get(node, 0) < number <= index:
            raise Refused(Refusal.STALE, f"{node} has opened session {state.openings.get(node, 0)}: enrol again first")
        state.openings[node] = number
    used = sorted(state.sessions.values(), key=lambda each: each.used)
    own = [each for each in used if each.by == by]
    nodes = [each for each in used if node and _node_of(each.by) == node]
    if len(own) >= PER_CLIENT_MAX:
        del state.sessions[str(own[0].id)]
    elif len(nodes) >= PER_NODE_MAX:
        del state.sessions[str(nodes[0].id)]
    elif len(state.sessions) >= SESSIONS_MAX:
        raise Refused(Refusal.FULL, f"{SESSIONS_MAX} sessions are open, which is all there can be")
    state.sessions[str(index)] = Session(id=index, by=by, used=index)


def closed(state: ControlState, session: int, by: str) -> None:
    """Forget a session.

    Raises:
        Refused: it is unknown, or another's.
    """
    del state.sessions[str(_own(state, session, by).id)]


def _node_of(by: str) -> str:
    """The node that signs as `by`."""
    return by.removeprefix("node:") if by.startswith("node:") else by.rpartition("@")[2] if "@" in by else ""


def _own(state: ControlState, session: int, by: str) -> Session:
    found = state.sessions.get(str(session))
    if found is None or found.by != by:
        raise Refused(Refusal.SESSION_UNKNOWN, f"{by} has no session {session}: open a new one")
    return found
