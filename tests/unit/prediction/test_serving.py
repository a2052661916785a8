"""The learned model in the predictor: taken from the registry, asked, dropped when it is slow, refused when damaged."""

import asyncio
import io
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from actors.calls.messages import Empty
from actors.control.model import Flag
from actors.flags.file import write_flags
from actors.prediction import serving
from actors.prediction.actor import BandwidthPredictor
from actors.prediction.engine import Links
from actors.prediction.messages import Forecast, ForecastQuery, Observe
from actors.prediction.serving import NO_MODEL, Serving
from models.bandwidth import WEIGHTS
from models.bandwidth.calibration import Levels
from models.bandwidth.features import batch, view
from models.bandwidth.member import Member
from models.bandwidth.module import Net, Shape
from models.bandwidth.predict import Forecaster, as_arrays
from models.registry import Registry
from tests.unit.bandwidth.test_forest import leaf
from tests.unit.prediction.test_predictor import CONFIG, call, config, sample
from tests.unit.registry.conftest import card

KEY = ("a1", "b1")
LOOKED_S = serving.LOOK_S


def publish(root, seed=0):
    """An untrained net, as a version; its forecasts are near the simple methods', and its trees say: as now."""
    torch.manual_seed(seed)
    v = view(batch([(1.0, np.arange(5.0), np.ones(5), {})]), np.array([1.0]))
    member = Member(Net(Shape(v.steps.shape[2], v.features.shape[3], 4, 8)).served(), leaf())
    content = io.BytesIO()
    np.savez(content, **as_arrays(Forecaster([member], Levels.plain())))
    registry = Registry(root, "bandwidth", key=root.parent / "model.key")
    return registry, registry.publish({WEIGHTS: content.getvalue()}, card(seed=seed)).version


def damage(root, version):
    file = root / "bandwidth" / "versions" / version / WEIGHTS
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


class Site:
    """A predictor's links and what serves them, one round at a time."""

    def __init__(self, root):
        self.links = Links(CONFIG.prediction, 4)
        self.off = False
        self.serving = Serving(root, self.links, lambda _: not self.off)
        self.at = 0.0
        self.now_s = 0.0

    async def walk(self, seconds=1, rate=10_000_000):
        for _ in range(seconds):
            self.at += 1
            self.links.of(*KEY).observe([sample(self.at, acked=rate)])
        self.now_s += seconds
        await self.serving.step(self.now_s)

    def told(self, horizon_s=5.0):
        return self.links.of(*KEY).forecast(self.at, horizon_s, self.serving.without(KEY))


@pytest.fixture
def root(tmp_path):
    return tmp_path / "models"


async def test_without_a_version_nothing_is_loaded(root):
    site = Site(root)
    await site.walk(40)
    assert (site.told().method, site.told().reason) == ("ewma", NO_MODEL)


def test_without_a_version_neither_numba_nor_torch_is_imported(root):
    script = f"""
import asyncio, pathlib, sys
from actors.config.schema import Config
from actors.prediction.engine import Links
from actors.prediction.serving import Serving
from actors.transport.messages import LinkSample
import actors.prediction.actor
import models.registry.registry
models.registry.registry.shipped_folder = lambda kind: pathlib.Path({str(root)!r}) / "shipped"
config = Config.model_validate({CONFIG.model_dump(mode="json")!r})
links = Links(config.prediction, 4)
links.of("a1", "b1").observe(
    [LinkSample(at=1.0, rtt_ms=1, jitter_ms=1, sent_bytes=9, acked_bytes=9, busy_share=1.0, retransmits=0)])
served = Serving(pathlib.Path({str(root)!r}), links, lambda key: True)
asyncio.run(served.step(0.0))
assert links.of("a1", "b1").series
print(served.without(("a1", "b1")), "torch" in sys.modules or "numba" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == f"{NO_MODEL} False"


async def test_a_promoted_version_answers_until_it_is_rolled_back(root):
    site = Site(root)
    registry, version = publish(root)
    await site.walk(40)
    assert site.told().reason == NO_MODEL  # published is not promoted
    registry.promote(version, force=True)
    await site.walk()
    assert site.told().reason == NO_MODEL  # the registry is looked at once a minute
    await site.walk(int(LOOKED_S))
    told = site.told()
    assert (told.version, told.reason) == (version, "")
    assert told.mean == pytest.approx(1e7, rel=0.5)
    assert told.quantiles == sorted(told.quantiles)
    registry.rollback()
    await site.walk(int(LOOKED_S))
    assert (site.told().method, site.told().version, site.told().reason) == ("ewma", "", NO_MODEL)


async def test_a_damaged_version_is_refused_and_the_next_one_answers(root):
    site = Site(root)
    registry, version = publish(root)
    registry.promote(version, force=True)
    damage(root, version)
    await site.walk(40)
    assert site.told().method == "ewma"
    assert site.told().reason == f"the model {version} is refused: bandwidth {version}: file {WEIGHTS} is damaged"
    registry, better = publish(root, seed=1)
    registry.promote(better, force=True)
    await site.walk(int(LOOKED_S))
    assert (site.told().version, site.told().reason) == (better, "")


async def test_weights_that_are_no_forecaster_are_refused(root):
    content = io.BytesIO()
    np.savez(content, shape=np.ones(1))
    registry = Registry(root, "bandwidth", key=root.parent / "model.key")
    version = registry.publish({WEIGHTS: content.getvalue()}, card()).version
    registry.promote(version, force=True)
    site = Site(root)
    await site.walk(40)
    assert (site.told().method, site.told().reason.partition(":")[0]) == ("ewma", f"the model {version} is refused")


async def test_a_registry_that_cannot_be_read_is_the_reason(root):
    (root / "bandwidth").mkdir(parents=True)
    (root / "bandwidth" / "state.json").write_bytes(b"{")
    site = Site(root)
    await site.walk(40)
    assert site.told().method == "ewma"
    assert "the registry of models can't be read" in site.told().reason


async def test_a_slow_batch_is_dropped_and_the_model_rests(root, monkeypatch):
    registry, version = publish(root)
    registry.promote(version, force=True)
    site, held, asked = Site(root), threading.Event(), []
    await site.walk(40)
    assert site.told().version == version
    real = serving.ask

    def slow(*given):
        asked.append(1)
        held.wait(60)
        return real(*given)

    monkeypatch.setattr(serving, "ask", slow)
    monkeypatch.setattr(serving, "DEADLINE_S", 0.01)
    try:
        await site.walk(10)
        assert (site.told().method, site.told().reason) == ("ewma", f"the model {version} is too slow")
        await site.walk()
        assert len(asked) == 1  # what runs still is not asked again
    finally:
        held.set()
    monkeypatch.setattr(serving, "ask", real)
    monkeypatch.setattr(serving, "DEADLINE_S", 60.0)
    async with asyncio.timeout(60):
        while site.told().reason:
            await site.walk(int(LOOKED_S))
            await asyncio.sleep(0.01)
    assert site.told().version == version


async def test_a_shadow_is_asked_and_never_heard(root):
    registry, version = publish(root)
    registry.shadow(version)
    site = Site(root)
    await site.walk(40)
    told = site.links.of(*KEY).shadow
    assert told is not None
    assert told.version == version
    assert (site.told().method, site.told().reason) == ("ewma", NO_MODEL)


async def test_a_link_whose_flag_is_off_is_not_asked_about(root):
    registry, version = publish(root)
    registry.promote(version, force=True)
    site = Site(root)
    site.off = True
    await site.walk(40)
    assert site.links.of(*KEY).fan is None
    assert site.told().method == "ewma"
    site.off = False
    await site.walk()
    assert site.told().version == version
    site.off = True
    assert (site.told().method, site.told().reason) == ("ewma", serving.OFF)


async def until(actor, right):
    async with asyncio.timeout(60):
        while True:
            told = await call(actor, "forecast", ForecastQuery(node="a1", peer="b1", horizon_s=5), Forecast)
            if right(told):
                return told
            await asyncio.sleep(0.01)


async def test_the_actor_answers_with_it_and_obeys_the_flag(tmp_path, root, monkeypatch):
    monkeypatch.setattr(serving, "START_S", 0.0)
    monkeypatch.setattr(serving, "EVERY_S", 0.01)
    registry, version = publish(root)
    registry.promote(version, force=True)
    actor, now = BandwidthPredictor(config(tmp_path)), time.time()
    samples = [sample(now + 20 + n) for n in range(40)]  # ahead, so that they stay fresh on a busy machine
    await call(actor, "observe", Observe(node="a1", peer="b1", samples=samples), Empty)
    assert (await until(actor, lambda told: told.version == version)).reason == ""
    write_flags(tmp_path, {"pba": Flag(component="pba", killed=True)})
    assert (await until(actor, lambda told: told.reason == serving.OFF)).method == "ewma"
    write_flags(tmp_path, {"pba": Flag(component="pba", killed=False)})
    await until(actor, lambda told: told.version == version)
    await actor.close()
