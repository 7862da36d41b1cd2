"""`python -m posta app:app --slots 8` serves the actions of the Posta named app in the module app."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from typing import List, Optional

from .app import Posta
from .errors import PostaError
from .link import Server


def main(arguments: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m posta", description="Serve the actions of a Python module.")
    parser.add_argument("app", metavar="MODULE:NAME", help="the Posta with the actions, such as app:app")
    parser.add_argument("--to", metavar="ADDRESS", help="the address of the balancer or node (default: that of the program, or $POSTA_TO)")
    parser.add_argument("--slots", type=int, default=1, help="tasks that run at once in a process (default 1)")
    parser.add_argument("--processes", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--queues", help="serve only these queues, with commas between them (default all)")
    parser.add_argument("--drain", type=float, default=60.0, help="seconds to finish after SIGTERM (default 60)")
    parser.add_argument("--version", help="the version of the program, shown by `posta workers`")
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    options = parser.parse_args(arguments)
    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        app = _find(options.app)
        if options.to:
            app.server = Server(options.to, app.server.token, app.server.tls)
        app.work(
            slots=options.slots,
            processes=options.processes,
            queues=options.queues.split(",") if options.queues else None,
            drain=options.drain,
            version=options.version,
        )
    except (PostaError, ValueError, ChildProcessError) as error:
        print("posta: %s" % error, file=sys.stderr)
        return 1
    return 0


def _find(name: str) -> Posta:
    """Return the Posta that MODULE:NAME means. It raises ValueError."""
    module_name, _, attribute = name.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise
        raise ValueError("there is no module %s in %s or on the path" % (module_name, os.getcwd())) from None
    app = getattr(module, attribute or "app", None)
    if not isinstance(app, Posta):
        raise ValueError("%s has no Posta named %s" % (module_name, attribute or "app"))
    return app


if __name__ == "__main__":
    sys.exit(main())
