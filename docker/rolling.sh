#!/bin/sh
# Replaces the containers of the application one after the other, without a lost request:
#
#   docker/rolling.sh compose.yml|compose.services.yml [SERVICE...]
#
# Without a SERVICE, it builds the image, runs provision and migrate, and replaces all processes.
# Each new container must be ready within READY_SECONDS (180), or the script stops. A web container
# first gets no new requests: nginx sends them to the other one. COMPOSE="podman-compose" uses another
# program than `docker compose`.
set -eu
usage() {
  sed -n '2,9s|^# \{0,1\}||p' "$0" >&2
  exit 2
}
accounts="accounts-consumer accounts-worker accounts-beat accounts-web-1 accounts-web-2"
orders="orders-consumer orders-worker orders-beat orders-web-1 orders-web-2"
case ${1:-} in
  compose.yml)
    tasks="provision migrate"
    processes="consumer worker beat web-1 web-2"
    ;;
  compose.services.yml)
    tasks="accounts-provision accounts-migrate orders-provision orders-migrate"
    processes="$accounts $orders"
    ;;
  *) usage ;;
esac
file=$1
shift
for name; do
  case " $processes " in
    *" $name "*) ;;
    *) echo "rolling.sh: $name is none of $processes" >&2; exit 2 ;;
  esac
done

cd "$(dirname "$0")"
compose() { ${COMPOSE:-docker compose} -f "$file" "$@" </dev/null; }
inside() { compose exec -T "$@"; }

is_ready() {
  program=${1#accounts-}
  program=${program#orders-}
  inside "$1" python /app/docker/entrypoint.py probe "${program%-[12]}" >/dev/null 2>&1
}

wait_until_ready() {
  give_up=$(($(date +%s) + ${READY_SECONDS:-180}))
  until is_ready "$1"; do
    if [ "$(date +%s)" -ge "$give_up" ]; then
      echo "rolling.sh: $1 isn't ready after ${READY_SECONDS:-180} s. Read its log, fix the cause," \
        "and run rolling.sh again. A web container gets no requests until then." >&2
      exit 1
    fi
    sleep 1
  done
}

replace() {
  case $1 in
    *-1) other=${1%1}2 ;;
    *-2) other=${1%2}1 ;;
    *) other= ;;
  esac
  if [ "$other" ]; then
    is_ready "$other" || { echo "rolling.sh: $other isn't ready, so $1 must stay" >&2; exit 1; }
    inside front rm -f "/run/draining/$other"
    inside front touch "/run/draining/$1"
    inside "$1" python /app/docker/entrypoint.py drain || echo "rolling.sh: $1 doesn't run" >&2
  fi
  compose up -d --no-deps --force-recreate "$1" >/dev/null
  wait_until_ready "$1"
  [ -z "$other" ] || inside front rm -f "/run/draining/$1"
  echo "replaced $1"
}

if [ $# -eq 0 ]; then
  compose build
  for name in $tasks; do
    compose run --rm -T "$name"
    echo "ran $name"
  done
  set -- $processes
fi
for name; do
  replace "$name"
done
