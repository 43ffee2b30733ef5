"""From a file and the environment to frozen settings."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from broker.settings.faults import SettingsError, describe_all, no_such_setting
from broker.settings.sections import LISTS, TABLES, Settings, keys_of

PREFIX = "BROKER__"
_SEPARATOR = "__"


def load(path: Path, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read, override, check and freeze the settings.

    Raises:
        SettingsError: every problem at once, each with its path.
    """
    document = _read(path)
    problems = _override(document, environment)
    _anchor(document, path.resolve().parent)
    try:
        settings = Settings.model_validate(document)
    except ValidationError as error:
        problems += describe_all(error.errors(include_url=False, include_input=False))
    else:
        if not problems:
            return settings
    raise SettingsError(problems, path)


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        raise SettingsError([f"{path}: there is no such file; `broker init` writes one"]) from None
    except OSError as error:
        raise SettingsError([f"{path}: {error.strerror}"]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError([f"{path}: not TOML: {error}"]) from None


def _override(document: dict[str, Any], environment: Mapping[str, str]) -> list[str]:
    """Lay `BROKER__…` variables over the document; answer those that name no setting."""
    problems = []
    for name in sorted(environment):
        if name.startswith(PREFIX):
            path = name.removeprefix(PREFIX).lower().split(_SEPARATOR)
            if not _place(document, path, _literal(environment[name])):
                problems.append(f"{name}: {no_such_setting(path)}")
    return problems


def _literal(text: str) -> object:
    """Read lists and tables as JSON, everything else as text, which pydantic turns into numbers and truth values."""
    if text[:1] in {"[", "{"}:
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _place(document: dict[str, Any], path: Sequence[str], value: object) -> bool:
    """Put a value at `section, key` or `section, index, key`; False when there is no such place."""
    section = path[0]
    field = Settings.model_fields.get(section)
    if field is None:
        return False
    match path[1:]:
        case [key] if key in keys_of(section):
            target = document.setdefault(section, {})
        case [index, key] if index.isdecimal() and key in keys_of(section) and section in LISTS:
            target = _element(document.setdefault(section, []), int(index))
        case _:
            return False
    if not isinstance(target, dict):
        return False
    target[key] = value
    return True


def _element(items: object, index: int) -> object:
    if not isinstance(items, list) or index > len(items):
        return None
    if index == len(items):
        items.append({})
    return items[index]


# What names a file, and how a path stands in it: these become absolute, relative to the settings file.
_PATHS = (
    ("server", "tls_certificate", ""),
    ("server", "tls_private_key", ""),
    ("server", "client_ca", ""),
    ("policies", "directory", ""),
    ("keys", "directory", ""),
    ("keys", "master_key", "file:"),
    ("audit", "database", "sqlite:///"),
    ("audit", "signing_key", "file:"),
    ("console", "client_secret", "file:"),
)


def _anchor(document: dict[str, Any], folder: Path) -> None:
    """Make every path absolute, defaults included."""
    for section, key, prefix in _PATHS:
        table = document.setdefault(section, {})
        if isinstance(table, dict):
            field = TABLES[section].model_fields[key]
            text = table.get(key, None if field.is_required() else field.get_default())
            if isinstance(text, str | Path) and str(text).startswith(prefix):
                table[key] = prefix + str(folder / str(text).removeprefix(prefix))
    for issuer in document.get("issuers", []) if isinstance(document.get("issuers"), list) else []:
        if isinstance(issuer, dict) and isinstance(issuer.get("jwks_file"), str):
            issuer["jwks_file"] = str(folder / issuer["jwks_file"])
    audit = document.get("audit")
    anchors = audit.get("anchors") if isinstance(audit, dict) else None
    for anchor in anchors if isinstance(anchors, list) else []:
        if isinstance(anchor, dict) and isinstance(anchor.get("path"), str):
            anchor["path"] = str(folder / anchor["path"])
    notify = document.get("notify")
    webhooks = notify.get("webhooks") if isinstance(notify, dict) else None
    for webhook in webhooks if isinstance(webhooks, list) else []:
        source = webhook.get("secret") if isinstance(webhook, dict) else None
        if isinstance(source, str) and source.startswith("file:"):
            webhook["secret"] = "file:" + str(folder / source.removeprefix("file:"))
