"""Every cause that a check can find, and what is done about it. `docs/troubleshooting.md` explains the same ones."""

from __future__ import annotations

FIXES = {
    "settings": "set the variable that is named, or type `broker login URL`",
    "token-missing": "type `broker login`, or set BROKER_TOKEN_FILE to a file that holds an access token",
    "unreachable": "compare the address with what your operator says; is a VPN or a proxy missing?",
    "untrusted": "set BROKER_CA_FILE to the authority of the service, from your operator",
    "clock": "switch time synchronisation on for this machine (systemd-timesyncd, chrony)",
    "token-expired": "type `broker login`, or renew the token in BROKER_TOKEN or BROKER_TOKEN_FILE",
    "token-early": "compare this machine's clock and the identity provider's",
    "token-refused": "get a new token; if that is refused too, give an operator the request id",
    "service-unready": "tell the operator of the broker which component it is",
    "service-refused": "do what the sentence says, or give an operator the request id",
    "rate-limited": "wait, then try again; do programs of yours ask in a loop?",
    "budget": "wait, use a credential that you have, or ask an operator for a larger budget",
    "locked": "talk to whoever locked it",
    "ambiguous": "name it in full, as ACCOUNT/REGION/NAME",
    "obligation": "ask again with what is missing",
    "group-missing": "ask whoever looks after your groups to add you, then log in again",
    "forbidden": "ask the owner of the policy: as long as it forbids, no permit helps",
    "no-policy": "ask the operator of the broker for a policy that allows it",
    "not-visible": "check the name against `broker ls`; if it is right, ask the operator for a policy that lets you in",
    "wrong-protocol": "leave --protocol out, or name the one of the platform",
    "not-running": "start the instance in the Lightsail console, or wait until it has started",
    "no-address": "attach a static IP, or switch IPv6 on, in the Lightsail console",
    "not-ready": "wait: a new Windows instance has no password for up to 15 minutes",
    "host-key-changed": "find out whether it was rebuilt; if so, somebody who may approve accepts the keys by"
    " `broker hosts accept`",
    "key-not-held": "an operator adds the instance's key pair by `broker keys add`",
    "password-undecryptable": "an operator adds the key that the instance was made with by `broker keys add`",
    "upstream": "try again later; the operator sees AWS's answer in the log",
    "audit": "an operator mends the audit log; until then nothing is issued",
    "port-refused": "start the server on the instance, or put its true port into the tag `ssh-port` or `rdp-port`",
    "port-silent": "open the port for your address in the Lightsail firewall (`aws lightsail"
    " get-instance-port-states` shows it) and in the instance's own; is the tag `ssh-port` or `rdp-port` right?",
    "no-route": "connect this machine to a network, or VPN, from which the address is reached",
    "no-ipv6": "use a network with IPv6, or give the instance a public IPv4 address",
    "not-ssh": "put the port of the SSH server into the tag `ssh-port` of the instance",
    "host-keys-unknown": "wait some minutes: AWS learns the host keys after the first start",
    "ssh-missing": "install OpenSSH's client",
    "ssh-algorithms": "update the older one of the two SSH programs",
    "certificate-early": "wait; set the clock of the broker's or the instance's side right",
    "certificate-expired": "ask again; if it has ended already when it comes, a clock is wrong",
    "principal": "tell the operator: the certificate has to name the user of the instance",
    "sha1-authority": "on the instance, by the Lightsail browser console: add `CASignatureAlgorithms +ssh-rsa` to"
    " sshd_config, `sshd -t`, reload; or have the authority renewed",
    "authority-lost": "on the instance, by the Lightsail browser console (else from a snapshot): restore"
    " `TrustedUserCAKeys /etc/ssh/lightsail_instance_ca.pub` in sshd_config, `sshd -t`, reload sshd; and compare its"
    " clock (`timedatectl`): to a wrong one the certificate is not valid",
    "login-failed": "read what ssh said, and let it say more: `-v`",
    "not-rdp": "put the port of Remote Desktop into the tag `rdp-port` of the instance",
    "rdp-certificate": "do not go on: compare the certificate in the Lightsail console; somebody may be in between",
    "no-nla": "switch Network Level Authentication on in Windows (System Properties, Remote)",
    "password-changed": "use the password that was set in Windows: Lightsail only ever reports the first one",
    "check-failed": "this is a fault of the doctor: give it to the operator with its name",
}
