"""Help that shows the options of a command in groups."""

from __future__ import annotations

from typing import Any, final

from typer.core import TyperArgument, TyperCommand


@final
class GroupedCommand(TyperCommand):
    """A command whose options stand in its help under the titles that they name as their panel."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, options without a title, and then each title with its own."""
        groups: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for one in self.get_params(ctx):
            record = one.get_help_record(ctx)
            if record is not None:
                kind = "Arguments" if isinstance(one, TyperArgument) else "Options"
                groups.setdefault(getattr(one, "rich_help_panel", None) or kind, []).append(record)
        for title, records in groups.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)
