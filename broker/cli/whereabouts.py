"""Which service a command talked to, for what is said about it."""

from __future__ import annotations

import os


class Location:
    """An address without a slash at its end, "" when there is none; as text it says where it is from, too."""

    def __init__(self, url: str, ca_file: str, *, is_of_login: bool) -> None:
        from urllib.parse import urlsplit

        self.url, self.ca_file, self.is_of_login = url, ca_file, is_of_login
        try:
            self.host = urlsplit(url).hostname or ""
        except ValueError:
            self.host = ""

    def __str__(self) -> str:
        source = "of your last `broker login`" if self.is_of_login else "in BROKER_URL"
        return f"the address {self.url} ({source})" if self.url else "the address in BROKER_URL"


def location() -> Location:
    """Answer the service of the environment, else that of the last login, and the authority that is trusted for it."""
    from broker.client.errors import ClientError
    from broker.client.services import remembered_service

    url = os.environ.get("BROKER_URL", "").rstrip("/")
    try:
        known = remembered_service(os.environ, url)
    except ClientError:
        known = None
    ca_file = os.environ.get("BROKER_CA_FILE") or (known.ca_file if known else "") or ""
    if url or known is None:
        shown = "" if "@" in url or "?" in url else url  # what may hold a secret is not repeated
        return Location(shown, ca_file, is_of_login=False)
    return Location(known.url, ca_file, is_of_login=True)
