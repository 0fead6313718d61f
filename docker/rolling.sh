#!/bin/sh
# Replaces the containers of the application one after the other, without a lost request:
#
#   docker/rolling.sh compose.yml|compose.services.yml [SERVICE...]
#
# Without a SERVICE, it builds the image, runs provision and migrate, loads the configuration of
# nginx, and replaces all processes. Each new container must be ready within READY_SECONDS (180), or
# the script stops. After an error or Ctrl-C, run it again. COMPOSE="podman-compose" uses another
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
    shape=monolith
    tasks="provision migrate"
    processes="consumer worker beat web-1 web-2"
    ;;
  compose.services.yml)
    shape=services
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
fail() {
  echo "rolling.sh: $*, and run rolling.sh again" >&2
  exit 1
}
interrupted() {
  echo "rolling.sh: interrupted, perhaps while a container was replaced: run rolling.sh again" >&2
  exit 130
}
trap interrupted HUP INT TERM

is_ready() {
  program=${1#accounts-}
  program=${program#orders-}
  inside "$1" python /app/docker/entrypoint.py probe "${program%-[12]}" >/dev/null 2>&1
}

wait_until_ready() {
  give_up=$(($(date +%s) + ${READY_SECONDS:-180}))
  until is_ready "$1"; do
    if [ "$(date +%s)" -ge "$give_up" ]; then
      fail "$1 isn't ready after ${READY_SECONDS:-180} s. A web container that answers with errors" \
        "gets requests until you stop it (${COMPOSE:-docker compose} -f docker/$file stop $1). Read its log, fix the cause"
    fi
    sleep 1
  done
}

other_of() {
  case $1 in
    *-1) echo "${1%1}2" ;;
    *-2) echo "${1%2}1" ;;
  esac
}

# A web container must stay if it is the only one of its pair that serves.
replace() {
  other=$(other_of "$1")
  if [ "$other" ] && ! is_ready "$other" && is_ready "$1"; then
    fail "$other isn't ready, so $1 must stay. Replace $other first (rolling.sh $file $other)"
  fi
  # For load balancers that ask whether it is ready. nginx notices that the port is closed.
  if [ "$other" ] && is_ready "$1"; then
    inside "$1" python /app/docker/entrypoint.py drain || echo "rolling.sh: $1 is not drained" >&2
  fi
  compose up -d --no-deps --force-recreate "$1" >/dev/null ||
    fail "$1 was not replaced (see above). Fix the cause"
  wait_until_ready "$1"
  echo "replaced $1"
}

# Begins with the container that isn't ready, such as after a run that has failed.
replace_pair() {
  if is_ready "$2"; then
    replace "$1"
    replace "$2"
  else
    replace "$2"
    replace "$1"
  fi
}

if [ $# -gt 0 ]; then
  for name; do
    replace "$name"
  done
  exit
fi
compose build
for name in $tasks; do
  compose run --rm -T "$name"
  echo "ran $name"
done
inside front sh /nginx/start.sh "$shape" reload ||
  fail "front has not loaded its configuration (see above). Fix the cause"
for name in $processes; do
  case $name in
    *-1) replace_pair "$name" "$(other_of "$name")" ;;
    *-2) ;;
    *) replace "$name" ;;
  esac
done
