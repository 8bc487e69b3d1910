import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pabal.clock import ManualClock
from pabal.errors import ConfigError
from pabal.providers.port import ProviderContext
from pabal.providers.registry import create_provider, find_providers

CONTEXT = ProviderContext(clock=ManualClock())

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a distribution on the path that declares one provider, as an installer would."""
    monkeypatch.syspath_prepend(tmp_path)

    def run(distribution: str, *, name: str, value: str, code: str = "") -> None:
        metadata = tmp_path / f"{distribution}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[pabal.providers]\n{name} = {value}\n")
        (tmp_path / f"{distribution}.py").write_text(code)
        monkeypatch.delitem(sys.modules, distribution, raising=False)

    return run


def test_the_built_in_providers_are_found() -> None:
    assert {"smtp", "webhook"} <= find_providers().keys()


async def test_a_provider_is_made_by_its_name() -> None:
    provider = create_provider("webhook", options={"timeout_seconds": 3}, context=CONTEXT)

    assert provider.channel == "webhook"
    assert provider.timeout_seconds == 3


def test_an_unknown_name_is_answered_with_what_is_installed() -> None:
    with pytest.raises(ConfigError, match=r"^no provider 'webhok'; installed: .*smtp, webhook"):
        create_provider("webhok", options={}, context=CONTEXT)


def test_wrong_options_are_the_providers_to_name() -> None:
    with pytest.raises(ConfigError, match=r"^\$\.providers\.webhook\.proxy: unknown setting"):
        create_provider("webhook", options={"proxy": "http://"}, context=CONTEXT)


def test_a_third_partys_provider_gets_its_options_and_the_context(install: Install) -> None:
    install("acme_pager", name="pager", value="acme_pager:create", code="def create(o, c): return (dict(o), c)")

    made: object = create_provider("pager", options={"url": "x"}, context=CONTEXT)

    assert made == ({"url": "x"}, CONTEXT)


def test_a_name_that_two_packages_claim_is_refused(install: Install) -> None:
    install("acme_hooks", name="webhook", value="acme_hooks:create")

    with pytest.raises(ConfigError, match=r"'webhook' is claimed by .*acme_hooks.* and .*pabal"):
        create_provider("webhook", options={}, context=CONTEXT)


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import no_such_module_of_acme", "cannot be loaded: No module named"),
        ("", "cannot be loaded: module 'acme_broken' has no attribute 'create'"),
        ("create = 3", "is not callable"),
    ],
)
def test_a_package_that_does_not_work_is_named(install: Install, code: str, problem: str) -> None:
    install("acme_broken", name="broken", value="acme_broken:create", code=code)

    with pytest.raises(ConfigError, match="provider 'broken' of acme_broken") as raised:
        create_provider("broken", options={}, context=CONTEXT)

    assert problem in str(raised.value)
