#!/usr/bin/env bash
# Starts JupyterLab inside the container, or the command that was given instead.
# Lab listens on all addresses of the container only; which of them the host offers is decided where the ports are published.
set -euo pipefail

if [ "$#" -gt 0 ]; then
    exec "$@"
fi
if [ -z "${JUPYTER_TOKEN:-}" ]; then
    echo "JUPYTER_TOKEN is not set. Put a long random one into docker/.env (see docker/.env.example)." >&2
    exit 2
fi
# jupyter_server reads JUPYTER_TOKEN itself, so the token never stands in the list of processes.
exec jupyter lab --ip=0.0.0.0 --port=8888 --no-browser --ServerApp.root_dir=/opt/obdb_lab
