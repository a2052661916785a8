"""Two sites for a test, closed after it."""

import pytest

from tests.unit.migration.site import TwoSites


@pytest.fixture
async def cluster(tmp_path):
    sites = TwoSites(tmp_path)
    sites.agent("a1").put("web", machine="q35")
    yield sites
    await sites.close()
