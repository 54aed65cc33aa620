"""`gatescope migrate`: manifests of format 1 become manifests of format 2."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gatescope.cli import options
from gatescope.cli.command import cli
from gatescope.cli.options import Models
from gatescope.cli.output import answer, progress, say
from gatescope.errors import AppError, ModelNotFound

Names = Annotated[list[str] | None, typer.Argument(metavar="[MODEL]…", help="Which models; all when none is named.")]


@cli.command("migrate")
def migrate(models: Names = None, folder: Models = None) -> None:
    """Rewrite manifests of format 1 as format 2, where every version predicts the same with it."""
    from gatescope.server import logs

    logs.configure("console")
    logs.quiet()
    settings = options.settings(models_dir=folder)
    failed = False
    for name in models or _found(settings.models_dir):
        try:
            with progress(f"migrating {name}"):
                said = _migrated(settings.models_dir / name, allow_code=settings.allow_code)
            answer(said)
        except (AppError, OSError) as error:
            failed = True
            say(f"gatescope: {name} is left as it is: {error}")
    if failed:
        raise typer.Exit(1)


def _found(folder: Path) -> list[str]:
    from gatescope.pipeline.manifest_file import FILE
    from gatescope.pipeline.model import folders_with

    return [path.name for path in folders_with((FILE,), folder)]


def _migrated(folder: Path, *, allow_code: bool) -> str:
    """What was done, in one line."""
    from gatescope.checkpoints.migrate import OLD, migrate
    from gatescope.pipeline.manifest_file import FILE

    if not (folder / FILE).exists():
        raise ModelNotFound(f"there is no model '{folder.name}' in {folder.parent}")
    versions = migrate(folder, allow_code=allow_code)
    if versions is None:
        return f"{folder.name}: {FILE} is of format 2 already"
    compared = f"version{'s' if len(versions) > 1 else ''} {', '.join(versions)}"
    return (
        f"{folder.name}: {FILE} is of format 2 now; {compared} predict{'' if len(versions) > 1 else 's'} the same as "
        f"before, bit for bit. Comments of the old file are not in the new one; it is kept as {OLD}."
    )
