"""A kind of import contract that import-linter does not bring: which libraries each room may use."""

import sys
from typing import cast

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class LibrariesContract(Contract):
    """Each line of `rooms` is `room = library library …`: its direct imports from outside, and no others.

    The standard library is free. Every room must have its line, and every line its room.
    """

    type_name = "libraries"

    rooms = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002, FBT001 - import-linter's signature
        """Collect one complaint for every import, room or line that does not fit."""
        (root,) = cast("list[str]", self.session_options["root_packages"])
        lines = (line.partition("=") for line in cast("list[str]", self.rooms))
        allowed = {f"{root}.{room.strip()}": set(libraries.split()) for room, _, libraries in lines}
        complaints = [f"{room} has no line, or no room" for room in sorted(graph.find_children(root) ^ set(allowed))]
        for room in sorted(graph.find_children(root) & set(allowed)):
            for module in sorted({room, *graph.find_descendants(room)}):
                libraries = {imported.split(".")[0] for imported in graph.find_modules_directly_imported_by(module)}
                strangers = libraries - allowed[room] - {root} - sys.stdlib_module_names
                complaints += [f"{module} -> {library}" for library in sorted(strangers)]
        return ContractCheck(kept=not complaints, metadata={"complaints": complaints})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print the complaints, one on each line."""
        for complaint in check.metadata["complaints"]:
            output.print_error(f"- {complaint}", bold=False)
