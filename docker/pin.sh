#!/bin/sh
# Pulls the images that the Dockerfile and the compose files name by a tag, and writes their digests
# to docker/.env. Then each build and each start uses exactly these images, until the next run of
# this script. ENGINE=podman uses podman.
set -eu
if [ $# -gt 0 ]; then
  echo "usage: docker/pin.sh" >&2
  exit 2
fi
cd "$(dirname "$0")"
engine=${ENGINE:-docker}

sed -n 's/.*\${\([A-Z]*_IMAGE\):-\([^}]*\)}.*/\1 \2/p' ./*.yml | sort -u | while read -r name tag; do
  "$engine" pull --quiet "$tag" >/dev/null
  pinned=$("$engine" image inspect --format '{{index .RepoDigests 0}}' "$tag")
  case $pinned in
    *@sha256:*) ;;
    *) echo "pin.sh: $engine knows no digest of $tag" >&2; exit 1 ;;
  esac
  touch .env
  { grep -v "^$name=" .env || true; echo "$name=$pinned"; } >.env.new
  mv .env.new .env
  echo "$tag is $pinned"
done
