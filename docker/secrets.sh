#!/bin/sh
# Creates the missing files of docker/secrets/: passwords, keys, and the addresses that contain
# them. It changes no existing file. To use other servers, first write their addresses to the files.
#
# Only your user can open the folder (0700). Its files are readable (0444), because compose mounts
# them unchanged into containers that run under other user ids.
set -eu
if [ $# -gt 0 ]; then
  echo "usage: docker/secrets.sh" >&2
  exit 2
fi
umask 077
mkdir -p "$(dirname "$0")/secrets"
cd "$(dirname "$0")/secrets"
chmod 700 .

random() { openssl rand -hex 32; }

keep() { # NAME: write standard input to this file, atomically, unless the file exists
  if [ -s "$1" ]; then
    cat >/dev/null
    return
  fi
  cat >".$1"
  [ -s ".$1" ] || { echo "secrets.sh: nothing to write to $1" >&2; exit 1; }
  chmod 444 ".$1"
  mv ".$1" "$1"
  echo "made docker/secrets/$1"
}

random | keep postgres-password
random | keep replicator-password
echo "postgresql://postgres:$(cat postgres-password)@postgres:5432/postgres" | keep admin-database-url
for service in accounts orders; do
  echo "postgresql://$service:$(random)@postgres:5432/mitosis" | keep "$service-database-url"
  sed 's/@postgres:/@postgres-replica:/' "$service-database-url" | keep "$service-replica-urls"
done

echo "requirepass $(random)" | keep streams.conf
streams="redis://:$(cut -d' ' -f2 streams.conf)@streams:6379"
echo "$streams/0" | keep streams-url
echo "$streams/1" | keep broker-url
echo "requirepass $(random)" | keep ring.conf
ring=$(cut -d' ' -f2 ring.conf)
echo "redis://:$ring@ring-0:6379/0,redis://:$ring@ring-1:6379/0,redis://:$ring@ring-2:6379/0" |
  keep cache-urls

for deployment in all accounts orders; do
  random | keep "$deployment-secret-key"
done
random | keep peer-key
random | keep metrics-key
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 | keep jwt-signing-key
openssl rand -hex 12 | keep admin-password
