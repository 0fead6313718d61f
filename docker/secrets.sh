#!/bin/sh
# Creates the missing files of docker/secrets/: passwords, keys, and the addresses that contain
# them. It changes no existing file, except streams-users, which it makes of streams.users and the
# passwords, and the replicas' addresses of release 0.2.0, which may also write. To use other
# servers, first write their addresses to the files.
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
  sed "s|//[^@]*@|//${service}_owner:$(random)@|" "$service-database-url" |
    keep "$service-owner-database-url"
  # Release 0.2.0 read replicas as the runtime role.
  if grep -qsx "postgresql://$service:[^@]*@postgres-replica:5432/mitosis" "$service-replica-urls"
  then
    rm -f "$service-replica-urls"
  fi
  sed "s|//[^@]*@|//${service}_reader:$(random)@|; s/@postgres:/@postgres-replica:/" \
    "$service-database-url" | keep "$service-replica-urls"
done

# Release 0.2.0 had one user and two addresses for all deployments.
for kind in streams broker; do
  grep -qsv '@streams:6379/' "$kind-url" || continue # the server isn't that of servers.yml
  needed="all-$kind-url accounts-$kind-url orders-$kind-url"
  [ "$kind" = broker ] || needed="$needed ring-store-url" # the ring's list is with the streams
  for file in $needed; do
    [ ! -e "$file" ] || continue
    echo "secrets.sh: $kind-url is not read any more. Make the users in streams.users on your" >&2
    echo "server, and write their addresses to $needed" >&2
    exit 1
  done
done
echo "requirepass $(random)" | keep streams.conf
if grep -qsF ":$(cut -d' ' -f2 streams.conf)@" streams-url; then
  echo "secrets.sh: every process of release 0.2.0 had the password of the stream server's" >&2
  echo "administrator. Replace it: README.md, the last step of the upgrade" >&2
fi
for deployment in all accounts orders; do
  echo "redis://$deployment:$(random)@streams:6379/0" | keep "$deployment-streams-url"
  echo "redis://$deployment-broker:$(random)@streams:6379/1" | keep "$deployment-broker-url"
done
echo "redis://ring:$(random)@streams:6379/0" | keep ring-store-url
{
  cat streams.conf
  while read -r word name rights; do
    [ "$word" = user ] || continue
    case $name in
      *-broker) address=$name-url ;;
      ring) address=ring-store-url ;;
      *) address=$name-streams-url ;;
    esac
    password=$(sed 's|^[a-z]*://[^:]*:||; s|@.*||' "$address")
    hash=$(printf %s "$password" | openssl dgst -sha256 -r | cut -d' ' -f1)
    echo "user $name on #$hash $rights"
  done <../streams.users
} >.streams-users
chmod 444 .streams-users
mv -f .streams-users streams-users
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
