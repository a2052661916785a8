"""Seeds, one after the other."""

from collections import Counter
from collections.abc import Callable
from functools import partial

from actors.consensus.raft.rules import RULES, Rules
from benchmarks.agreeing.bft import BftMode
from benchmarks.agreeing.checks import Broken, Ledger
from benchmarks.agreeing.history import Fate
from benchmarks.agreeing.mode import Mode
from benchmarks.agreeing.raft import RaftMode
from benchmarks.agreeing.switch import SwitchMode
from benchmarks.agreeing.world import Outcome, World

Making = Callable[[Ledger, int], Mode]
MODES: dict[str, Making] = {"raft": RaftMode, "bft": BftMode, "switch": SwitchMode}


def simulate(seed: int, mode: Making, *, trusting_disks: bool = False, trace: bool = False) -> Outcome:
    """One run. The same arguments give the same outcome."""
    world = World(seed, mode, trusting_disks, trace)
    broken = seen = ""
    try:
        world.run()
    except Broken as error:
        broken, seen = error.promise, str(error)
    except AssertionError as error:
        broken, seen = f"assertion: {error}", str(error)
    return Outcome(seed, counts(world), broken, seen, tuple(world.trace))


def mutant(rules: Rules) -> Making:
    """Raft with other rules than the right ones."""
    return partial(RaftMode, rules=rules) if rules is not RULES else RaftMode


def counts(world: World) -> dict[str, int]:
    """What happened in a run, so that one can see that something did."""
    found: Counter[str] = Counter(world.faults.done)
    found["committed"] = world.ledger.top - world.ledger.base
    found["messages"] = world.network.sent
    found["messages lost"] = world.network.lost
    found["operations"] = len(world.operations)
    found["operations done"] = sum(operation.fate is Fate.DONE for operation in world.operations)
    found["elections"] = world.mode.elections
    found["compactions"] = world.snapshots
    found["torn writes"] = sum(node.disk.torn for node in world.nodes.values())
    found["parts begun"] = max(node.disk.part for node in world.nodes.values())
    found["members added"] = len(world.nodes) - world.plan.members
    found["virtual ticks"] = world.schedule.now_us // 10_000
    return dict(found)
