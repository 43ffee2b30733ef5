# noqa: INP001 - a script, copied into the image
"""Ask the broker in this container whether it is alive. Exit 0 when /healthz answers 200.

The settings say where it listens and with which certificate. That very certificate is trusted and no other, so it may
be made out to any name.
"""

import http.client
import os
import ssl
import sys
from pathlib import Path

from broker.settings import load

TIMEOUT = 4.0
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not bound


def connect(config: Path) -> http.client.HTTPConnection:
    """Make the connection that fits the settings."""
    server = load(config).server
    host = EVERYWHERE.get(server.host, server.host)
    if server.tls_certificate is None:
        return http.client.HTTPConnection(host, server.port, timeout=TIMEOUT)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(server.tls_certificate)
    return http.client.HTTPSConnection(host, server.port, timeout=TIMEOUT, context=context)


def main() -> int:
    """Answer the exit code."""
    connection = connect(Path(os.environ.get("BROKER_CONFIG", "/etc/broker/broker.toml")))
    connection.request("GET", "/healthz")
    return int(connection.getresponse().status != http.client.OK)


if __name__ == "__main__":
    sys.exit(main())
