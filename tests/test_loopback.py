import pytest

from pabal.loopback import is_loopback


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8025",
        "inbox.localhost:1",
        "localhost.",
        "127.0.0.1",
        "127.8.9.1:80",
        "[::1]",
        "[::1]:80",
    ],
)
def test_names_and_addresses_of_loopback_mean_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        *("", "example.com", "localhost.example.com", "127.0.0.1.example.com", "127.0.0.1@example.com", "10.0.0.1"),
        *(
            "0.0.0.0",
            "[::ffff:10.0.0.1]",
            "[bad",
            "localhost:port",
            "localhost:99999",
            "2130706433",
            "127.1",
            "notlocalhost",
        ),
        *("notlocalhost", "localhost/x", "a@localhost", "[::]"),
    ],
)
def test_nothing_else_does(host: str) -> None:
    assert not is_loopback(host)
