"""A second implementation of SSH takes what the broker hands out, and so does a machine without OpenSSH's server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from broker.demo.stage import ALICE
from tests.end_to_end.conftest import Scene


class OpenServer(asyncssh.SSHServer):
    """Lets in whoever brings a certificate of the trusted authority."""

    def begin_auth(self, username: str) -> bool:
        del username
        return True


@asynccontextmanager
async def ssh_server(folder: Path, ca_line: str) -> AsyncIterator[tuple[int, str]]:
    """Run an SSH server; answer its port and its host key line."""
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    trusted = folder / "authorized_keys"
    trusted.write_text(f'cert-authority,principals="ec2-user" {ca_line}\n')
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=OpenServer,
        server_host_keys=[host_key],
        authorized_client_keys=str(trusted),
        process_factory=_greet,
    )
    try:
        yield server.get_port(), host_key.export_public_key().decode().strip()
    finally:
        server.close()
        await server.wait_closed()


async def _greet(process: asyncssh.SSHServerProcess[str]) -> None:
    process.stdout.write("in\n")
    process.exit(0)


async def log_in(port: int, host_key: str, credential: dict[str, Any], username: str) -> str:
    """Log in with a credential of the broker and run nothing."""
    key = asyncssh.import_private_key(credential["ssh"]["private_key"])
    certificate = asyncssh.import_certificate(credential["ssh"]["certificate"])
    known = asyncssh.import_known_hosts(f"[127.0.0.1]:{port} {host_key}")
    async with asyncssh.connect(
        "127.0.0.1",
        port,
        username=username,
        client_keys=[(key, certificate)],
        known_hosts=known,
        config=None,
        agent_path=None,
    ) as connection:
        return str((await connection.run("")).stdout)


async def test_asyncssh_lets_the_credential_in_and_keeps_others_out(scene: Scene, tmp_path: Path) -> None:
    status, credential = await scene.post(ALICE, {"instance": "db-1", "reason": "x"})
    assert status == 201
    async with ssh_server(tmp_path, scene.stage.emulator.ssh_ca_line) as (port, host_key):
        assert await log_in(port, host_key, credential, "ec2-user") == "in\n"
        other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
        with pytest.raises(asyncssh.HostKeyNotVerifiable):
            await log_in(port, other, credential, "ec2-user")
    foreign = asyncssh.generate_private_key("ssh-rsa").export_public_key().decode().strip()
    async with ssh_server(tmp_path, foreign) as (port, host_key):
        with pytest.raises(asyncssh.PermissionDenied):
            await log_in(port, host_key, credential, "ec2-user")
