"""The page of the command line: every command with its arguments and options, from the commands themselves."""

from __future__ import annotations

import inspect

import click
from typer.main import get_command

from tokensim.cli.app import app


def commands() -> str:
    """A section a command."""
    root = get_command(app)
    assert isinstance(root, click.Group)
    return "\n".join(_sections(root, "tokensim"))


def _sections(group: click.Group, name: str) -> list[str]:
    found = []
    for word, command in group.commands.items():
        if isinstance(command, click.Group):
            found += _sections(command, f"{name} {word}")
        else:
            found.append(_section(command, f"{name} {word}"))
    return found


def _section(command: click.Command, name: str) -> str:
    """Its title, what it does, how it is called, its arguments and options."""
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    options = [p for p in command.params if isinstance(p, click.Option)]
    call = " ".join([name, *(_usage(a) for a in arguments), "[OPTIONS]" if options else ""]).strip()
    lines = [f"## {name}", "", inspect.cleandoc(command.help or ""), "", "```text", call, "```", ""]
    lines += ["| | | default |", "|---|---|---|"]
    lines += [f"| `{a.human_readable_name}` | {_text(_help(a))} | {_default(a)} |" for a in arguments]
    for option in options:
        flags = ", ".join(f"`{flag}`" for flag in [*option.opts, *option.secondary_opts])
        value = "" if option.is_flag else f" {option.metavar or option.type.name.upper()}"
        text, default = _split(_help(option))
        lines.append(f"| {flags}{value} | {_text(text)} | {default or _default(option)} |")
    return "\n".join([*lines, ""])


def _help(parameter: click.Parameter) -> str:
    """typer keeps the help of an argument, too."""
    return getattr(parameter, "help", None) or ""


def _split(text: str) -> tuple[str, str]:
    """Help texts name defaults that are worked out later in brackets."""
    head, bracket, tail = text.partition(" [default: ")
    return head, tail.rstrip("]") if bracket else ""


def _usage(argument: click.Argument) -> str:
    name = argument.human_readable_name + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _default(parameter: click.Parameter) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    if value is None or value is False or value == "" or callable(value):
        return ""
    return f"`{value}`"


def _text(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
