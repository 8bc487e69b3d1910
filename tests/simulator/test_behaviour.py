"""Schedules as files."""

from pathlib import Path

import pytest

from pabal.errors import ConfigError
from pabal.simulator import HttpBehaviour, Phase, Schedule, SmtpBehaviour, behaviour, load_schedule


def test_the_schedule_in_the_docstring_loads(tmp_path: Path) -> None:
    lines = (behaviour.__doc__ or "").splitlines()
    file = tmp_path / "schedule.toml"
    file.write_text("\n".join(line for line in lines if line.startswith("    ") or not line))

    schedule = load_schedule(file)

    assert [phase.after_seconds for phase in schedule.phase] == [None, 30, None]
    assert schedule.phase[0].http == (HttpBehaviour(latency_seconds=0.02),)
    assert schedule.phase[1].smtp == (SmtpBehaviour(recipient="@example.com", stage="rcpt", code=451),)
    assert schedule.phase[2] == Phase(after_requests=1000)


def test_json_loads_too(tmp_path: Path) -> None:
    file = tmp_path / "schedule.json"
    file.write_text('{"phase": [{"http": [{"answer": "hang"}]}]}')

    assert load_schedule(file) == Schedule(phase=(Phase(http=(HttpBehaviour(answer="hang"),)),))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[phase]\n", "wrong"),
        ("[[phase]]\nafter = 3\n", "unknown field `after`; there are: "),
        ("[[phase]]\n[[phase]]\n", "phase 2 must say when it begins"),
        ("[[phase]]\nafter_seconds = 1\nafter_requests = 1\n", "not both"),
        ("[[phase]]\n[[phase.http]]\nshare = 1.5\n", "phase[0].http[0].share"),
        ("[[phase]]\n[[phase.http]]\nanswer = 'half_open'\nshare = 0.5\n", "whole listener"),
        ("[[phase]]\n[[phase.smtp]]\nanswer = 'refuse'\nrecipient = 'a@b.example'\n", "whole listener"),
        ("[[phase]]\n[[phase.smtp]]\nstage = 'mail'\nrecipient = 'a@b.example'\n", "before any recipient"),
        ('[[phase]]\n[[phase.smtp]]\ntext = "a\\nb"\n', "one line"),
    ],
)
def test_a_wrong_schedule_says_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "schedule.toml"
    file.write_text(text)

    with pytest.raises(ConfigError) as raised:
        load_schedule(file)

    assert says in str(raised.value)


def test_a_missing_schedule_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        load_schedule(tmp_path / "nowhere.toml")
