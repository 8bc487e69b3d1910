"""What `pabal up` prints when everything runs: where to look, and a first command to paste."""

import json
import shlex
from pathlib import Path

import msgspec
from rich.text import Text

from pabal.cli.key import NO_KEYS
from pabal.cli.starter import FAST_LADDER_SECONDS
from pabal.cli.terminal import Terminal


class Greeting(msgspec.Struct, frozen=True, kw_only=True):
    """What `up` prints when every role is ready. `key`: from the file beside the configuration. `has_keys`: the
    configuration has keys, this one or others."""

    log_url: str
    key: str | None
    api_url: str = ""
    inbox_url: str | None = None
    has_keys: bool = True
    key_file: Path | None = None
    config: str = ""
    fast: bool = False

    def show(self) -> None:
        """Print it."""
        console = Terminal(soft_wrap=True)
        console.print(Text.assemble(("Pabal is up", "bold"), f" on {self.log_url}"))
        console.print(f"  API    {self.api_url}   (documentation: {self.api_url}/docs)")
        if self.inbox_url:
            console.print(
                f"  inbox  {self.inbox_url}   (all mail; and webhooks sent to {self.inbox_url}/hook/anything)"
            )
        console.print(f"  config {self.config}")
        if self.fast:
            every = " s, then ".join(map(str, FAST_LADDER_SECONDS))
            console.print(
                f"  fast   every class tries again after {every} s, then gives up (--fast): for trying out, "
                "never for anything that matters",
                style="bold red",
            )
        if self.key:
            console.print(f"  key    {self.key}   (for development)")
            console.print()
            console.print("Send the first notification:")
            console.print()
            console.print(self.first_command(key=self.key))
        elif not self.has_keys:
            console.print(f"  key    {NO_KEYS}")
            console.print("         or begin with a configuration that has one:  pabal init")
        console.print()
        console.print("Ctrl-C ends it; nothing accepted is lost.")

    def first_command(self, *, key: str) -> str:
        """A line to paste into a terminal, with `key` or what the shell puts in its place."""
        to = [{"channel": "email", "address": "ana@example.com"}]
        if self.inbox_url:
            to.append({"channel": "webhook", "address": f"{self.inbox_url}/hook/shop"})
        content = {"title": "Order 17 shipped", "body": "It arrives tomorrow."}
        body = json.dumps({"to": to, "class": "standard", "content": content})
        return (
            f'curl -sS {self.api_url}/v1/notifications -H "Authorization: Bearer {key}" '
            f"-H 'Content-Type: application/json' -d '{body}'"
        )

    def command_for_page(self) -> str | None:
        """The same line for the inbox page, with the key's file instead of the key. Everyone on this machine can open
        the page; only its owner can read the file."""
        if self.key_file is None:
            return None
        return self.first_command(key=f"$(cat {shlex.quote(str(self.key_file))})")
