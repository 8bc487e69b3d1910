"""Who is calling: API keys, known by their hashes alone.

A key is 256 random bits (`pabal key new`). Such a key cannot be guessed from its hash, so a plain SHA-256 is right
where a password would need a slow, salted hash. The time that a look-up in a table takes tells an attacker nothing
about the key: the attacker does not choose the digest.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec

from pabal.api.problems import RequestRefused
from pabal.config import ApiKey, Scope
from pabal.errors import ConfigError

_CHALLENGE: Final = b'Bearer realm="pabal"'


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """The tenant that a request is made for, and what it may do."""

    tenant: str
    scopes: frozenset[Scope]

    @property
    def is_operator(self) -> bool:
        """Whether it may touch every tenant's dead letters, and dead letters that cannot be read."""
        return "operator" in self.scopes


class Keyring:
    """Every key that opens this API."""

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        """Raises ConfigError when two entries carry one hash: the key's tenant would be unclear."""
        self._callers: dict[bytes, Caller] = {}
        for key in keys:
            # The operator of the installation may do at least what a tenant's administrator may.
            implied: tuple[Scope, ...] = ("admin",) if "operator" in key.scopes else ()
            caller = Caller(tenant=key.tenant, scopes=frozenset((*key.scopes, *implied)))
            if self._callers.setdefault(bytes.fromhex(key.hash), caller) is not caller:
                raise ConfigError(f"$.api.keys: the hash {key.hash[:12]}… occurs twice; each key belongs to one entry")

    def caller(self, authorization: bytes | None, *, scope: Scope) -> Caller:
        """Whose key an Authorization header carries (RFC 6750 §2.1).

        Raises:
            RequestRefused: missing_key, invalid_key (401) or insufficient_scope (403), with a challenge (RFC 6750 §3).
        """
        if authorization is None or authorization[:7].lower() != b"bearer ":
            raise RequestRefused(
                "missing_key",
                "send the header `Authorization: Bearer KEY`; `pabal up` keeps one for development in its data folder "
                "(.pabal/development.key)",
                headers=[(b"www-authenticate", _CHALLENGE)],
            )
        caller = self._callers.get(hashlib.sha256(authorization[7:].strip()).digest())
        if caller is None:
            raise RequestRefused(
                "invalid_key",
                "no such API key; make one with: pabal key new",
                headers=[(b"www-authenticate", _CHALLENGE + b', error="invalid_token"')],
            )
        if scope not in caller.scopes:
            challenge = _CHALLENGE + f', error="insufficient_scope", scope="{scope}"'.encode()
            raise RequestRefused(
                "insufficient_scope",
                f"this needs a key with the scope {scope!r}",
                headers=[(b"www-authenticate", challenge)],
            )
        return caller
