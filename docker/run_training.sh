#!/usr/bin/env bash
# Runs one container of the image obdb-lab, without compose and with the embedded MongoDB. The name is upstream's.
set -euo pipefail

usage() {
    cat << 'TEXT'
Usage: docker/run_training.sh -d WEED_DATA -o TRAIN [-t TAG] [-g GPUS] [-n] [-- COMMAND ...]
  -d WEED_DATA  folder with the images, mounted read only at /weed_data
  -o TRAIN      folder for results and caches, mounted at /train
  -t TAG        tag of the image obdb-lab (default: latest)
  -g GPUS       all, or a list such as device=0 (default: no GPU)
  -n            only show the command
  -h            this help
Without COMMAND it starts JupyterLab on http://127.0.0.1:8888 with the token in the variable JUPYTER_TOKEN.
MONGODB_URI, CVAT_URL, CVAT_USERNAME, CVAT_PASSWORD, CVAT_TOKEN and OBDB_USER are handed on when they are set.
TEXT
}

data=
train=
tag=latest
gpus=
show_only=0
while getopts ":d:o:t:g:nh" option; do
    case "$option" in
        d) data=$OPTARG ;;
        o) train=$OPTARG ;;
        t) tag=$OPTARG ;;
        g) gpus=$OPTARG ;;
        n) show_only=1 ;;
        h) usage; exit 0 ;;
        :) echo "-$OPTARG needs a value" >&2; usage >&2; exit 2 ;;
        *) echo "unknown flag -$OPTARG" >&2; usage >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))

if [ -z "$data" ] || [ -z "$train" ]; then
    echo "both -d and -o are needed" >&2
    usage >&2
    exit 2
fi
for folder in "$data" "$train"; do
    if [ ! -d "$folder" ]; then
        echo "$folder is no folder; make it or correct the path" >&2
        exit 2
    fi
done
if [ "$#" -eq 0 ] && [ -z "${JUPYTER_TOKEN:-}" ]; then
    echo "JUPYTER_TOKEN is not set; export a long random text first, it opens JupyterLab" >&2
    exit 2
fi

data=$(cd "$data" && pwd)
train=$(cd "$train" && pwd)
command=(docker run --rm --shm-size 2g --security-opt no-new-privileges
    --mount "type=bind,source=$data,target=/weed_data,readonly"
    --mount "type=bind,source=$train,target=/train"
    --publish 127.0.0.1:8888:8888 --publish 127.0.0.1:8880:8880 --publish 127.0.0.1:6006:6006)
for name in JUPYTER_TOKEN MONGODB_URI CVAT_URL CVAT_USERNAME CVAT_PASSWORD CVAT_TOKEN OBDB_USER; do
    if [ -n "${!name:-}" ]; then
        command+=(--env "$name") # the name only: docker reads the value itself, so no secret stands in the command
    fi
done
if [ -n "$gpus" ]; then
    command+=(--gpus "$gpus")
fi
if [ -t 0 ] && [ -t 1 ]; then
    command+=(--interactive --tty)
fi
if [ "$#" -gt 0 ]; then
    command+=(--no-healthcheck) # the check asks JupyterLab, which is not started then
fi
command+=("obdb-lab:$tag" "$@")
if [ "$show_only" -eq 1 ]; then
    printf '%q ' "${command[@]}"
    echo
    exit 0
fi
exec "${command[@]}"
