"""Keeps the SDK's logs free of bodies: at DEBUG, botocore prints every response, private keys and passwords included.

A level alone can be set back by anyone who looks for a bug, so every logger of the SDK gets a filter as well.
"""

from __future__ import annotations

import importlib
import logging

from botocore.history import get_global_history_recorder

_FAMILIES = ("botocore", "aiobotocore", "boto3", "aioboto3", "urllib3", "s3transfer", "aiohttp.client")
_MODULES = (
    "aioboto3",
    "aiobotocore.httpxsession",
    "aiobotocore.session",
    "aiobotocore.tokens",
    "botocore.crt.auth",
    "botocore.handlers",
    "urllib3.connectionpool",
    "urllib3.util.retry",
)
"""Imported so that their loggers exist; the SDK loads some of them late."""


class _NoBodies(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING


_FILTER = _NoBodies()


def silence_sdk_logging() -> None:
    """Let nothing below WARNING out of the SDK's loggers, whatever their levels are set to; may be called again."""
    for module in _MODULES:
        _import(module)
    for name in (*logging.root.manager.loggerDict, *_FAMILIES):
        if name.startswith(tuple(f"{family}." for family in _FAMILIES)) or name in _FAMILIES:
            logger = logging.getLogger(name)
            logger.setLevel(logging.WARNING)
            logger.addFilter(_FILTER)
    get_global_history_recorder().disable()


def _import(module: str) -> None:
    try:
        importlib.import_module(module)
    except ImportError:
        return  # an optional part of the SDK that is not installed cannot log
