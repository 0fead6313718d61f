#!/bin/bash
# Runs a hot standby. Without data, it first copies the primary; then it streams from the primary.
# If the standby can no longer follow, remove its volume: its next start copies the primary again.
set -euo pipefail
export PGHOST=postgres PGUSER=replicator
PGPASSWORD=$(cat /run/secrets/replicator-password)
export PGPASSWORD

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  give_up=$((SECONDS + ${WAIT_SECONDS:-120}))
  until psql --quiet --dbname postgres --command 'SELECT 1' >/dev/null; do
    if [ $SECONDS -ge $give_up ]; then
      echo "standby: gave up waiting for the primary" >&2
      exit 1
    fi
    echo "standby: waiting for the primary" >&2
    sleep 1
  done
  # An unused slot of an earlier standby would retain the primary's WAL.
  psql --quiet --dbname postgres --output /dev/null --command \
    "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = 'standby'"
  rm -rf "$PGDATA" "$PGDATA.copy"
  install -d -m 755 "$(dirname "$PGDATA")" # pg_basebackup would use mode 700
  pg_basebackup --pgdata "$PGDATA.copy" --wal-method stream --checkpoint fast \
    --create-slot --slot standby --write-recovery-conf
  mv "$PGDATA.copy" "$PGDATA"
fi
unset PGHOST PGUSER PGPASSWORD
exec docker-entrypoint.sh postgres "$@"
