"""Settings: one TOML file, overridden by `BROKER__SECTION__KEY`, checked as a whole, frozen.

Every problem is reported at once, with its path (`issuers.0.audience`). Unknown keys are errors, in the file and in
the environment alike. Paths inside the file are relative to the file. Read by `cli` and `wiring` only.
"""

from broker.settings.faults import SettingsError
from broker.settings.loading import load
from broker.settings.sections import Settings
from broker.settings.values import is_loopback, parse_duration, zone

__all__ = ["Settings", "SettingsError", "is_loopback", "load", "parse_duration", "zone"]
