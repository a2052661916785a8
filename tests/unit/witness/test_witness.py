"""Members without Ray and libvirt, over their real transports: TLS on the loopback, disks, threads."""

import asyncio
import inspect
import socket

import pytest

from actors.config.schema import Config
from actors.control.commands import SetPolicy
from actors.control.messages import TrailQuery
from actors.control.model import VERSION
from actors.errors import BadRequest, NovaCronError
from actors.security.authority import create_authority, issue
from actors.witness.process import Witness

BY = "operator:ann"


class Sites:
    """Hosts m1 to mN, each alone in its site; `founders` of them found the control state."""

    def __init__(self, folder, count: int, founders: int) -> None:
        self.folder, self.names = folder, [f"m{number}" for number in range(1, count + 1)]
        self.founders = self.names[:founders]
        self.up: dict[str, Witness] = {}
        create_authority(folder / "ca")
        self.identities = {name: issue(folder / "ca", name, name) for name in self.names}
        with_ports = [socket.create_server(("127.0.0.1", 0)) for _ in self.names]
        self.ports = {name: each.getsockname()[1] for name, each in zip(self.names, with_ports, strict=True)}
        for each in with_ports:
            each.close()

    def config(self, name: str, **consensus) -> Config:
        identity, own = self.identities[name], self.folder / name
        sites = [
            {"name": each, "witness": True, "nodes": [{"name": each, "address": "127.0.0.1", "port": port}]}
            for each, port in self.ports.items()
        ]
        # Where the guests would be; it never comes up.
        sites.append({"name": "far", "nodes": [{"name": "far-1", "address": "127.0.0.2"}]})
        return Config.model_validate(
            {
                "node": {"name": name, "state_dir": own / "state", "run_dir": own / "run"},
                "topology": {"sites": sites},
                "transport": {"streams": 1, "streams_max": 1},
                "consensus": {"heartbeat_ms": 40, "election_ms": 500, "members": self.founders, **consensus},
                "security": {"ca": identity.ca, "certificate": identity.certificate, "key": identity.key},
            }
        )

    async def start(self, name: str, **consensus) -> None:
        self.up[name] = Witness(self.config(name, **consensus))
        await self.up[name].start()

    async def stop(self, name: str) -> None:
        await self.up.pop(name).stop()

    def state(self, name: str = "m1"):
        return self.up[name].state


async def until(true, seconds: float = 60.0) -> None:
    """Wait until `true()` is; what can't be asked yet is not."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                found = true()
                if await found if inspect.isawaitable(found) else found:
                    return
            except NovaCronError:
                pass
            await asyncio.sleep(0.05)


@pytest.fixture
async def sites(tmp_path, request):
    made = Sites(tmp_path, *request.param)
    yield made
    for name in list(made.up):
        await made.stop(name)


async def agrees_in(sites: Sites, mode: str) -> None:
    for name in sites.founders:

        async def there(name=name) -> bool:
            member = sites.up[name].member
            return member is not None and member._driver.shell.core.protocol.name.lower() == mode

        await until(there)


@pytest.mark.parametrize("sites", [(4, 4)], indirect=True)
async def test_four_go_from_raft_to_bft_and_back_while_clients_write(sites) -> None:
    """The mode is changed as operators do it: on one node after the other, each restarted with it."""
    for name in sites.names:
        await sites.start(name)
    shells = [each.member._driver.shell for each in sites.up.values()]
    await until(lambda: all(len(shell.replica.state.members) == len(shells) for shell in shells))
    written, writing = [], True

    async def write(name: str) -> None:
        for count in range(10_000):
            if not writing:
                return
            policy = f"{name}-{count}"
            try:
                await sites.state(name).submit(SetPolicy(name=f"{name}-p", value=str(count)), by=BY, deadline_s=8)
            except (NovaCronError, KeyError):
                # Its own node restarts: it asks anew, and what became of that one it does not know.
                await asyncio.sleep(0.05)
                continue
            written.append(policy)

    writers = [asyncio.create_task(write(name)) for name in ("m1", "m2")]
    for mode in ("bft", "raft"):
        before = len(written)
        for name in sites.names:
            await sites.stop(name)
            await sites.start(name, mode=mode)
        await agrees_in(sites, mode)
        await until(lambda before=before: len(written) >= before + 5)
    writing = False
    await asyncio.gather(*writers)
    view = await sites.state().cluster()
    assert (view.mode, view.part) == ("raft", 2)
    # Each write that was acknowledged took effect once: so says the trail, which every member has in the same order.
    done, after = [], 0
    while True:
        page = await sites.state().audit(TrailQuery(after=after), deadline_s=30)
        policies = [entry.body for entry in page.entries if entry.command == "setpolicy"]
        done += [f"{body['name'][:2]}-{body['value']}" for body in policies]
        if (after := page.upto) >= page.count:
            break
    assert (page.missing, page.fault) == (0, 0)
    assert len(done) == len(set(done))
    assert set(written) <= set(done)
    shells = [each.member._driver.shell for each in sites.up.values()]
    await until(lambda: len({tuple(sorted(s.replica.state.policies.items())) for s in shells}) == 1)


@pytest.mark.parametrize("sites", [(3, 2)], indirect=True)
async def test_a_witness_is_added_to_two_members_and_is_their_third_voice(sites) -> None:
    for name in sites.names:
        await sites.start(name)
    assert sites.up["m3"].member is None
    await until(lambda: sites.up["m1"].member._driver.shell.replica.state.cluster.version == VERSION)
    assert (await sites.state().add_member("m3", by=BY, deadline_s=30)).number == 3

    async def votes() -> bool:
        view = await sites.state().cluster(deadline_s=5)
        return [one.number for one in view.members if one.votes and not one.change] == [1, 2, 3]

    await until(votes)
    await sites.stop("m2")
    await sites.state().submit(SetPolicy(name="p", value="x"), by=BY, deadline_s=30)
    await sites.stop("m3")
    await sites.start("m3")
    await sites.state("m3").submit(SetPolicy(name="q", value="x"), by=BY, deadline_s=30)


@pytest.mark.parametrize("sites", [(1, 1)], indirect=True)
async def test_a_host_of_a_site_with_guests_is_no_witness(sites) -> None:
    config = sites.config("m1")
    site = config.topology.sites[0].model_copy(update={"witness": False})
    topology = config.topology.model_copy(update={"sites": [site, *config.topology.sites[1:]]})
    with pytest.raises(BadRequest, match="witness: true"):
        Witness(config.model_copy(update={"topology": topology}))
