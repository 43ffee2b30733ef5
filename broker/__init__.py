"""Lightsail Credential Broker: short-lived SSH and RDP credentials, decided by policy and proved by an audit log."""

__version__ = "0.1.0"
