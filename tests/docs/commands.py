"""The page of the command line: every command with its arguments and options, as they stand in the code."""

from __future__ import annotations

import inspect
import re
from typing import Any

from typer.main import get_command

from tokensim.cli.app import app

DEFAULT = re.compile(r"\s*\[default: ")


def commands() -> str:
    """A section a command."""
    return "\n".join(_sections(get_command(app), "tokensim"))


def _sections(group: Any, name: str) -> list[str]:
    found = []
    for word, command in group.commands.items():
        whole = f"{name} {word}"
        found += _sections(command, whole) if hasattr(command, "commands") else [_section(command, whole)]
    return found


def _section(command: Any, name: str) -> str:
    """Its title, what it does, how it is called, its arguments and options."""
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    call = " ".join([name, *map(_usage, arguments), *(["[OPTIONS]"] if options else [])])
    lines = [f"## {name}", "", inspect.cleandoc(command.help or ""), "", "```text", call, "```", ""]
    if command.params:
        lines += ["| | | default |", "|---|---|---|"]
        lines += [_row(f"`{_name(a)}`", a) for a in arguments]
    for option in options:
        flags = ", ".join(f"`{flag}`" for flag in [*option.opts, *option.secondary_opts])
        assert option.is_flag or option.metavar, f"{name}: {option.opts} does not say what it takes"
        lines.append(_row(flags if option.is_flag else f"{flags} {option.metavar}", option))
    return "\n".join([*lines, ""])


def _name(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _usage(argument: Any) -> str:
    name = _name(argument)
    if argument.nargs == -1:
        name = name.removesuffix("...") + "..."
    return name if argument.required else f"[{name}]"


def _row(name: str, parameter: Any) -> str:
    """A row of the table. Help texts name defaults that are found out later in brackets."""
    meaning, *later = DEFAULT.split(parameter.help or "")
    default = later[0].rstrip("]") if later else ""
    if parameter.required:
        default = "required"
    elif parameter.default and not callable(parameter.default):
        default = f"`{parameter.default}`"
    return f"| {name} | {' '.join(meaning.split())} | {default} |".replace("  |", " |")
