"""What may name a resource: a strict reading of Lightsail's pattern, which is not anchored and admits any script."""

from __future__ import annotations

import re

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,253}[A-Za-z0-9]", re.ASCII)


def is_resource_name(text: str) -> bool:
    """Tell whether this can name a resource: 2 to 255 of `A-Za-z0-9._-`, first and last a letter or digit."""
    return _NAME.fullmatch(text) is not None
