"""One real server for all tests of this folder; what is slow is run by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from live_server import RunningServer, is_alive, start_server, wait_until

from paths import EXAMPLES


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes minutes; runs only with -m slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "slow" in config.getoption("markexpr"):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="slow; run with -m slow"))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One live session, one client that may wait, two videos; leaves nothing when it ends."""
    running = start_server(
        tmp_path_factory.mktemp("server"),
        str(EXAMPLES / "portrait.jpg"),
        *("--sessions", "1", "--waiting", "1", "--jobs", "2", "--size", "128"),
        *("--requests-per-minute", "1000000"),
    )
    children = running.children()
    assert children
    yield running
    children += running.children()
    assert running.stop() == 143
    assert wait_until(lambda: not any(is_alive(child) for child in children))
    assert running.folders() == []
