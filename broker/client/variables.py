"""A credential as variables of an environment, for tools that read no JSON."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from broker.client.documents import CredentialDocument


def variables(credential: CredentialDocument) -> dict[str, str]:
    """Name what a script needs. Both protocols are always named: nothing stays over from an earlier credential."""
    ssh, rdp = credential.get("ssh"), credential.get("rdp")
    return {
        **about(credential),
        "BROKER_PRIVATE_KEY": ssh["private_key"] if ssh else "",
        "BROKER_CERTIFICATE": ssh["certificate"] if ssh else "",
        "BROKER_KNOWN_HOSTS": "\n".join(ssh["known_hosts"]) if ssh else "",
        "BROKER_PASSWORD": rdp["password"] if rdp else "",
        "BROKER_CERTIFICATE_SHA256": ",".join(rdp["certificate_sha256"]) if rdp else "",
    }


def about(credential: CredentialDocument) -> dict[str, str]:
    """Name what is no secret."""
    place = credential["instance"]
    return {
        "BROKER_INSTANCE": f"{place['account']}/{place['region']}/{place['name']}",
        "BROKER_LEASE_ID": credential["lease"]["id"],
        "BROKER_EXPIRES_AT": credential["lease"]["expires_at"],
        "BROKER_PROTOCOL": credential["protocol"],
        "BROKER_HOST": credential["host"],
        "BROKER_PORT": str(credential["port"]),
        "BROKER_USERNAME": credential["username"],
    }


def quoted(text: str) -> str:
    """Quote for POSIX sh: within single quotes nothing is special but the quote itself."""
    return "'" + text.replace("\0", "").replace("'", "'\\''") + "'"
