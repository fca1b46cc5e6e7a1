"""Commands that are imported when one is called, or when the help of all lists them."""

from collections import UserDict
from collections.abc import Mapping
from pkgutil import resolve_name
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup


class _Place(NamedTuple):
    panel: str | None  # of the help of all commands
    name: str  # "package.module:function", or of a typer.Typer with commands of its own


class _Commands(UserDict[str, Any]):
    """Typer's commands by name, each made where it is looked up."""

    def __getitem__(self, name: str) -> Any:
        place: _Place = self.data[name]
        found, holder = resolve_name(place.name), typer.Typer()
        if isinstance(found, typer.Typer):
            holder.add_typer(found, name=name, rich_help_panel=place.panel)
        else:
            holder.command(name, rich_help_panel=place.panel)(found)
        return typer.main.get_group(holder).commands[name]


def lazy(panels: Mapping[str | None, Mapping[str, str]]) -> type[TyperGroup]:
    """A `cls` for typer.Typer: by panel, None for the usual one, names → "package.module:name".

    Its help has their order. Beside a callback, that Typer must have no commands of its own.
    """
    places = {
        name: _Place(panel, place)
        for panel, named in panels.items()
        for name, place in named.items()
    }

    class Lazy(TyperGroup):
        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            self.commands = _Commands(places)

    return Lazy
