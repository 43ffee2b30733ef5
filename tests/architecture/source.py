"""The source of the project, parsed once: what the architecture tests look at."""

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TypeVar, cast

ROOT = Path(__file__).parents[2]
Kind = TypeVar("Kind", bound=ast.AST)


def modules(folder: str) -> list[Path]:
    """List the Python files below a folder of the project, but not what is installed there."""
    return sorted(path for path in (ROOT / folder).rglob("*.py") if "node_modules" not in path.parts)


@cache
def _sorted_nodes(folder: str) -> dict[type[ast.AST], list[tuple[str, ast.AST]]]:
    by_kind: dict[type[ast.AST], list[tuple[str, ast.AST]]] = {}
    for path in modules(folder):
        name = path.relative_to(ROOT / folder).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
            by_kind.setdefault(type(node), []).append((name, node))
    return by_kind


def nodes(folder: str, *kinds: type[Kind]) -> Iterator[tuple[str, Kind]]:
    """Go through the nodes of some kinds in every module below a folder, each with the module's path inside it."""
    for kind in kinds:
        for name, node in _sorted_nodes(folder).get(kind, []):
            yield name, cast("Kind", node)


def dotted(node: ast.AST) -> str:
    """Write `a.b.c` for names and attributes; what stands before the dots is `?` when it is neither."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name):
            return f"{dotted(value)}.{name}"
    return "?"


def project_files() -> list[Path]:
    """List every file that belongs to the project: what git knows, or would add."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return sorted({path for name in listing.split("\0") if name and (path := ROOT / name).is_file()})
