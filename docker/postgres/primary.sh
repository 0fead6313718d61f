#!/bin/bash
# The image's entrypoint runs this once, after initdb of the primary, so the standby can connect.
set -euo pipefail
psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\set password `cat /run/secrets/replicator-password`
CREATE ROLE replicator LOGIN REPLICATION PASSWORD :'password';
GRANT CONNECT ON DATABASE postgres TO replicator;
SQL
echo 'host replication replicator samenet scram-sha-256' >>"$PGDATA/pg_hba.conf"
