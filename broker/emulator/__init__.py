"""An embedded Lightsail: the real wire, real keys and certificates, on loopback only.

A program of its own for demonstrations, tests and measurements: `Emulator(Fixture.read(path))`.
"""

from broker.emulator.calls import Call
from broker.emulator.company import small_company
from broker.emulator.fixture import Fixture, FixtureError, parse_faults
from broker.emulator.server import Emulator

__all__ = ["Call", "Emulator", "Fixture", "FixtureError", "parse_faults", "small_company"]
