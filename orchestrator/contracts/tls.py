"""TLS of Redis and RabbitMQ: what an address asks for, in one set of words for both. Certificates are verified."""

import os
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from orchestrator.contracts.errors import ConfigurationError

__all__ = ["Tls", "split_tls"]

_SCHEMES = ("rediss", "amqps")
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_VERIFY = {"required": True, "CERT_REQUIRED": True, "none": False, "CERT_NONE": False}  # Celery's spelling too
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_ALLOWED = (*_FILES, "ssl_cert_reqs", "ssl_check_hostname")


@dataclass(frozen=True, slots=True)
class Tls:
    """How a server's certificate is verified, and the one that is shown to the server.

    Attributes:
        verify: the certificate must be signed by a CA that is trusted.
        check_hostname: it must also be for the name in the address.
        ssl_ca_certs: file of the CAs in PEM; None: those of the system.
        ssl_certfile, ssl_keyfile: the client's own certificate and its key, in PEM.
    """

    verify: bool = True
    check_hostname: bool = True
    ssl_ca_certs: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None

    def for_redis(self) -> dict[str, Any]:
        """Arguments of redis-py's `SSLConnection`."""
        reqs = ssl.CERT_REQUIRED if self.verify else ssl.CERT_NONE
        return {"ssl_cert_reqs": reqs, "ssl_check_hostname": self.check_hostname, **self._files()}

    def for_redis_url(self) -> str:
        """The query of an address for redis-py."""
        words = {"ssl_cert_reqs": "required" if self.verify else "none"}
        if not self.check_hostname:
            words["ssl_check_hostname"] = "false"
        return urlencode({**words, **self._files()})

    def for_amqp(self, hostname: str | None) -> dict[str, Any]:
        """Arguments of py-amqp's TLS transport, which checks the server's name only if it is given one."""
        options: dict[str, Any] = {"cert_reqs": ssl.CERT_REQUIRED if self.verify else ssl.CERT_NONE}
        if self.check_hostname:
            options["server_hostname"] = hostname or "localhost"
        return {**options, **{name.removeprefix("ssl_"): path for name, path in self._files().items()}}

    def _files(self) -> dict[str, str]:
        return {name: path for name in _FILES if (path := getattr(self, name))}


def split_tls(url: str) -> tuple[str, Tls | None]:
    """An address without the TLS parameters in its query, and what they say; None: it asks for no TLS.

    Raises:
        ConfigurationError: a parameter is unknown, has a wrong value, names a file that cannot be read, or stands in
            an address without TLS.
    """
    scheme = url.partition("://")[0]
    place, _, query = url.partition("?")
    pieces = [piece for piece in query.split("&") if piece]
    ours = [piece for piece in pieces if piece.partition("=")[0].partition("_")[0] == "ssl"]
    given = dict(parse_qsl("&".join(ours), keep_blank_values=True))
    if scheme not in _SCHEMES:
        if given:
            raise ConfigurationError(
                f"{min(given)} stands in an address of {scheme}://, which has no TLS; "
                "write rediss:// or amqps://, or leave it out"
            )
        return url, None
    kept = "&".join(piece for piece in pieces if piece not in ours)
    return place + (f"?{kept}" if kept else ""), _read(given)


def _read(given: dict[str, str]) -> Tls:
    unknown = sorted(set(given) - set(_ALLOWED))
    if unknown:
        raise ConfigurationError(f"unknown parameter {unknown[0]!r}; for TLS there are {', '.join(_ALLOWED)}")
    verify = _word(given, "ssl_cert_reqs", _VERIFY)
    check_hostname = _word(given, "ssl_check_hostname", _BOOLEANS)
    files = {name: given[name] for name in _FILES if name in given}
    for name, path in files.items():
        if not os.access(path, os.R_OK) or not os.path.isfile(path):  # noqa: PTH113 - Path.is_file may raise
            raise ConfigurationError(f"{name}={path!r} is not a file that can be read here")
    if ("ssl_keyfile" in files) and ("ssl_certfile" not in files):
        raise ConfigurationError("ssl_keyfile is given without ssl_certfile: give the certificate that the key is of")
    return Tls(verify, verify and check_hostname, **files)


def _word(given: dict[str, str], name: str, words: dict[str, bool]) -> bool:
    """What one parameter says; without it, yes."""
    if name not in given:
        return True
    if given[name] not in words:
        raise ConfigurationError(f"{name}={given[name]!r} is not one of {', '.join(words)}")
    return words[given[name]]
