#!/usr/bin/env bash
# Exit status 0 if a query gets through the pool to the primary, otherwise another and what PgBouncer said.
set -euo pipefail

PGPASSWORD=$(cat "${SECRETS_DIR:-/run/secrets}/app_password")
export PGPASSWORD
# connect_timeout bounds the login only; a query may wait in the pool for long.
exec timeout 4 psql --no-psqlrc --quiet --tuples-only --no-align --no-password --output=/dev/null --command='SELECT 1' \
  "host=127.0.0.1 port=${PGBOUNCER_PORT:-5432} user=app dbname=$DATABASE_NAME connect_timeout=3"
