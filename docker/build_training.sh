#!/usr/bin/env bash
# Builds the image obdb-lab. The name is upstream's.
set -euo pipefail

usage() {
    cat << 'TEXT'
Usage: docker/build_training.sh [-t TAG] [-b BASE] [-n]
  -t TAG   tag of the image obdb-lab (default: latest)
  -b BASE  base image (default: python:3.11-slim-bookworm; the pinned torch brings its own CUDA)
  -n       only show the command
  -h       this help
The user inside gets your own user and group number, so that files in /train belong to you.
TEXT
}

tag=latest
base=python:3.11-slim-bookworm
show_only=0
while getopts ":t:b:nh" option; do
    case "$option" in
        t) tag=$OPTARG ;;
        b) base=$OPTARG ;;
        n) show_only=1 ;;
        h) usage; exit 0 ;;
        :) echo "-$OPTARG needs a value" >&2; usage >&2; exit 2 ;;
        *) echo "unknown flag -$OPTARG" >&2; usage >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
if [ "$#" -gt 0 ]; then
    echo "unexpected argument: $1" >&2
    usage >&2
    exit 2
fi

user_id=$(id -u)
group_id=$(id -g)
if [ "$user_id" -eq 0 ]; then # as root (or under sudo) the user inside keeps a number of its own
    user_id=${SUDO_UID:-1000}
    group_id=${SUDO_GID:-1000}
fi
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
command=(docker build --tag "obdb-lab:$tag" --build-arg "BASE=$base" --build-arg "USER_ID=$user_id"
    --build-arg "GROUP_ID=$group_id" --file "$project/docker/Dockerfile" "$project")
if [ "$show_only" -eq 1 ]; then
    printf '%q ' "${command[@]}"
    echo
    exit 0
fi
exec "${command[@]}"
