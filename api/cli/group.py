"""Groups of commands: one shows every error in the same way, one loads its commands only when they are asked for."""

import importlib
import pkgutil
from typing import Any

import typer
from typer.core import TyperGroup

from actors.errors import NotFound, NovaCronError
from api.cli.output import complain


class Commands(TyperGroup):
    """Shows a `NovaCronError` as a message with its next step, and ends with the error's exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the arguments name."""
        try:
            return super().invoke(ctx)
        except NovaCronError as error:
            complain(error)
            raise typer.Exit(error.exit_code) from error


class Benchmarks(TyperGroup):
    """One command for each module of the package `benchmarks` that has a typer `app`, imported when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  the signature is typer's
        """Names of the benchmarks."""
        package = importlib.import_module("benchmarks")
        names = [module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_")]
        return sorted(name for name in names if self._app(name) is not None)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of benchmark `cmd_name`.

        Raises:
            NotFound: there is no such benchmark.
        """
        app = self._app(cmd_name)
        if app is None:
            raise NotFound(what=f"benchmark {cmd_name}; there are: {', '.join(self.list_commands(ctx))}")
        command = typer.main.get_command(app)
        command.name = cmd_name
        return command

    @staticmethod
    def _app(name: str) -> typer.Typer | None:
        module = f"benchmarks.{name}"
        if not name.isidentifier() or importlib.util.find_spec(module) is None:
            return None
        found = getattr(importlib.import_module(module), "app", None)
        return found if isinstance(found, typer.Typer) else None
