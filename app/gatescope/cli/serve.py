"""`gatescope serve`."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import typer

from gatescope.cli import greeting, options
from gatescope.cli.command import cli
from gatescope.cli.options import DeviceOption, Models
from gatescope.cli.output import say


@cli.command()
def serve(
    models: Models = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="The port to listen on.")] = None,
    device: DeviceOption = None,
) -> None:
    """Serve the models over HTTP until interrupted."""
    import structlog

    from gatescope.server import logs
    from gatescope.server.api.server import Server, is_loopback, listen
    from gatescope.server.main import create_app

    log = structlog.get_logger(__name__)
    settings = options.settings(models_dir=models, host=host, port=port, device=device)
    logs.configure(settings.log_format)
    app = create_app(settings, tune_process=True)
    engine, keyed = app.state.context.engine, bool(settings.api_keys)
    sockets = listen(settings.host, settings.port)
    if not (keyed or settings.admin_keys or all(map(is_loopback, sockets))):
        log.warning("whoever reaches this service may change its models; GATESCOPE_ADMIN_KEYS would keep them out")
    if not engine.entries():
        log.warning("there is no model in the folder of models", folder=str(settings.models_dir))
    server = Server(
        app,
        settings.shutdown_timeout_s,
        settings.max_body_bytes,
        lambda url: say(*greeting.lines(url, engine.entries(), keyed=keyed)),
    )
    with suppress(KeyboardInterrupt):
        server.run(sockets)
    if not server.started:
        raise typer.Exit(1)
