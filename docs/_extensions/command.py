"""The page of the `fastmlp` command, made from its own help."""

import made
import typer

from fastmlp._cli.commands import app as application


def setup(app):
    app.connect("builder-inited", _write)
    return {"parallel_read_safe": True}


def _write(app):
    made.write(app, {"command.md": page()})


def page():
    """The page's Markdown: a section for every command, with its arguments and options."""
    group = typer.main.get_command(application)
    return "\n".join(("# The command", "", *_section(group, "fastmlp")))


def _section(command, name):
    context = command.make_context(name, [], resilient_parsing=True)
    usage = " ".join((name, *command.collect_usage_pieces(context)))
    yield from (*_help(command), "", "```text", usage, "```", "")
    for heading in ("Argument", "Option"):
        rows = [p for p in command.get_params(context) if p.param_type_name == heading.lower()]
        if rows := [_row(parameter) for parameter in rows if not parameter.hidden]:
            yield from (f"| {heading} | |", "| --- | --- |", *rows, "")
    for inner in getattr(command, "commands", {}).values():
        if not inner.hidden:
            full = f"{name} {inner.name}"
            yield from (f"## `{full}`", "", *_section(inner, full))


def _help(command):
    # In Markdown brackets and stars would be read as links and emphasis.
    return (command.help or "").replace("[", r"\[").replace("*", r"\*").splitlines()


def _row(parameter):
    return f"| {_names(parameter)} | {_cell(parameter.help or '')}{_default(parameter)} |"


def _names(parameter):
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar}`"
    value = "" if parameter.is_flag or not parameter.metavar else f" {parameter.metavar}"
    names = [*parameter.opts, *parameter.secondary_opts]
    return ", ".join(f"`{name}{value}`" for name in names)


def _default(parameter):
    if parameter.default in (None, False) or callable(parameter.default):
        return ""
    return f" Default: `{parameter.default}`."


def _cell(text):
    return text.replace("|", r"\|").replace("*", r"\*").replace("[", r"\[")
