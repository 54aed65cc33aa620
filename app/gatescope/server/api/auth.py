"""Who gets in: Host, Origin, the operator's keys, and who may change what is served."""

from __future__ import annotations

import binascii
import re
import secrets
from base64 import urlsafe_b64decode
from collections.abc import Collection
from hashlib import sha256
from ipaddress import ip_address
from typing import NamedTuple

from gatescope.errors import BadRequest, ForeignOrigin, InvalidInput, Unauthorized, UnknownHost
from gatescope.server.api.cors import Cors
from gatescope.server.api.messages import Head
from gatescope.server.serving.owner import Owner

HOW = "as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"

OPEN = frozenset(
    ("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/", "/docs", "/openapi.json")
)
OPEN_BELOW = ("/static-offline-docs/", "/inspector/")
"""Paths that need no key."""

SUBPROTOCOL = "gatescope.v1"
"""Of a WebSocket: what the server answers with where it is offered."""
_KEY_SUBPROTOCOL = b"gatescope.key."
"""Before a key in base64url, as a page offers it beside `SUBPROTOCOL`: it can set no headers of a WebSocket."""

_READING = frozenset(("GET", "HEAD", "OPTIONS"))
"""Methods that change nothing: any page may send them, and none of another origin can read the reply."""


_NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)
_NAME_DIGITS = 12  # of the digest of a key without a name

_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([\w.-]+))(?::\d*)?")


class Key(NamedTuple):
    """What a client sends, and whose it is."""

    secret: bytes
    owner: Owner

    @classmethod
    def of(cls, stated: str, *, is_admin: bool) -> Key:
        """A key as a setting has it, `NAME:KEY` or `KEY`: without a name it is called by its digest.

        Raises:
            InvalidInput: what stands before the colon can be no name, or nothing stands behind it.
        """
        name, colon, secret = stated.partition(":")
        if not colon:
            name, secret = f"key-{sha256(stated.encode()).hexdigest()[:_NAME_DIGITS]}", stated
        elif not _NAME.fullmatch(name) or not secret:
            setting = "GATESCOPE_ADMIN_KEYS" if is_admin else "GATESCOPE_API_KEYS"
            raise InvalidInput(
                f"{setting}: a key is KEY or NAME:KEY, the name of 1 to 64 ASCII letters, digits or any of '_.-'"
            )
        return cls(secret.encode(), Owner(name, is_admin))


def _sent_with(head: Head, keys: Collection[Key], *, is_websocket: bool) -> Key | None:
    """The key of these that a request carries."""
    scheme, _, token = (head.get(b"authorization") or b"").partition(b" ")
    sent = (token if scheme.lower() == b"bearer" else head.get(b"x-api-key") or b"").strip()
    if not sent and is_websocket:
        sent = _offered_as_subprotocol(head)
    matches = [key for key in keys if secrets.compare_digest(sent, key.secret)]  # all compared: no timing to learn from
    return matches[0] if matches else None


def _offered_as_subprotocol(head: Head) -> bytes:
    """The key among the subprotocols that a WebSocket offers; empty where there is none."""
    offered = (each.strip() for line in head.all(b"sec-websocket-protocol") for each in line.split(b","))
    encoded = next((each for each in offered if each.startswith(_KEY_SUBPROTOCOL)), b"")[len(_KEY_SUBPROTOCOL) :]
    try:
        return urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4))
    except binascii.Error:
        return b""


class Guard:
    """The rules for every request.

    A server without keys that listens on the loopback is there for this machine's own programs and pages. So a page
    whose name was made to point here (DNS rebinding) gets nothing: Host must be an address, `localhost` or one of
    `allowed_hosts`. Where there are keys, a page cannot know them.

    Args:
        api_keys: of which a request needs one, each as `Key.of` reads it.
        admin_keys: of which a request that changes what is served needs one; they open the rest, too.
        allowed_hosts: further names under which this server may be asked.
        cors: pages of other origins that may call the API; None where none may.
    """

    def __init__(
        self, api_keys: Collection[str], admin_keys: Collection[str], allowed_hosts: Collection[str], cors: Cors | None
    ) -> None:
        self._needs_key, self._has_admin_keys = bool(api_keys), bool(admin_keys)
        admins = [Key.of(stated, is_admin=True) for stated in admin_keys]
        others = [Key.of(stated, is_admin=False) for stated in api_keys]
        for keys in (admins, others):
            if len({key.secret for key in keys}) < len(set(keys)):
                raise InvalidInput("a key of GATESCOPE_API_KEYS or GATESCOPE_ADMIN_KEYS has two names")
        self._keys = (*admins, *others)
        self._hosts = frozenset(host.lower() for host in allowed_hosts)
        self._cors = cors

    def check(self, head: Head, *, is_loopback: bool, is_websocket: bool = False) -> Owner:
        """Let a request pass; whose it is.

        Args:
            head: of the request; its route was looked for.
            is_loopback: whether only this machine reaches the socket that it came by.
            is_websocket: whether it opens one: browsers do so for any page, without asking first.

        Raises:
            BadRequest: it names no host, or several.
            UnknownHost: it names a host that this server is not.
            ForeignOrigin: a page of another origin sent it.
            Unauthorized: it carries no key that it needs.
        """
        host = _host_of(head)
        administers = head.route is not None and head.route.administers
        if not self._keys and (is_loopback or administers):
            self._check_host(host)
        if is_websocket or head.method not in _READING:
            self._check_origin(head, host, administers=administers)
        key = _sent_with(head, self._keys, is_websocket=is_websocket)
        owner = Owner() if key is None else key.owner
        if self._needs_key and not _is_open(head.path) and key is None:
            raise Unauthorized(f"send one of this server's keys {HOW}")
        if administers:
            self._check_administration(owner)
        return owner

    def _check_host(self, host: str | None) -> None:
        if host is None:
            return
        name = _name_in(host)
        if name != "localhost" and not _is_ip(name) and self._hosts.isdisjoint((name, host)):
            raise UnknownHost(
                f"this server is not '{(name or host)[:64]}': ask for it by its address or as localhost, or name it in "
                "GATESCOPE_ALLOWED_HOSTS"
            )

    def _check_origin(self, head: Head, host: str | None, *, administers: bool) -> None:
        origin = b", ".join(head.all(b"origin")).decode("latin-1")
        if head.get(b"origin") is None or self._is_allowed(origin, administers=administers):
            return
        if not host or origin.partition("://")[2].lower() != host:
            raise ForeignOrigin(f"no page of {origin[:64]} may do that: name it in GATESCOPE_CORS_ORIGINS")

    def _is_allowed(self, origin: str, *, administers: bool) -> bool:
        """Whether the operator has named this origin; `*` names none that may change what is served."""
        if self._cors is None:
            return False
        return origin in self._cors.origins if administers else self._cors.is_allowed(origin)

    def _check_administration(self, owner: Owner) -> None:
        if self._has_admin_keys:
            if not owner.is_admin:
                raise Unauthorized(f"this changes what is served: send one of this server's admin keys {HOW}")
        elif self._needs_key:
            raise Unauthorized(
                "this changes what is served, and this server has no admin keys: set GATESCOPE_ADMIN_KEYS"
            )


def _is_open(path: str) -> bool:
    return path in OPEN or path.startswith(OPEN_BELOW)


def _host_of(head: Head) -> str | None:
    """What a request calls this server; None of an HTTP/1.0 request that does not say.

    Raises:
        BadRequest: it does not say, or says it several times.
    """
    hosts = head.all(b"host")
    if len(hosts) == 1:
        return hosts[0].decode("latin-1").lower()
    if not hosts and head.http_version == "1.0":
        return None
    raise BadRequest(f"a request names its host once; this one has {len(hosts)} Host headers")


def _name_in(host: str) -> str:
    """A host without its port and brackets; nothing of what is no host."""
    found = _HOST.fullmatch(host)
    return "" if found is None else found[1] or found[2]


def _is_ip(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
