#!/usr/bin/env bash
# Exit status 0 if a query gets through the pool to the primary, otherwise 1 and what PgBouncer said.
set -euo pipefail

passfile=$(mktemp) # mode 0600, which libpq insists on
trap 'rm -f "$passfile"' EXIT
echo "*:*:*:app:$(cat "${SECRETS_DIR:-/run/secrets}/app_password")" >"$passfile"
psql --no-psqlrc --quiet --tuples-only --no-align --no-password --command='SELECT 1' \
  "host=127.0.0.1 port=${PGBOUNCER_PORT:-5432} user=app dbname=$DATABASE_NAME passfile=$passfile connect_timeout=3" \
  >/dev/null
