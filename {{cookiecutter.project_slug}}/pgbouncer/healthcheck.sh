#!/usr/bin/env bash
# Exit status 0 if a query gets through the pool to the primary, otherwise another and what PgBouncer said.
# While the primary is away it is enough that PgBouncer accepts clients, as it does to let them wait: `docker compose up
# --wait` would give up at once on a pooler that is unhealthy, though the primary it starts is all that was missing.
set -euo pipefail

PRIMARY_ADDRESS=${PRIMARY_ADDRESS:-host=$PRIMARY_HOST port=5432}
pooler="host=127.0.0.1 port=${PGBOUNCER_PORT:-5432} user=app dbname=$DATABASE_NAME"

if ! pg_isready --quiet --timeout=2 --dbname="$PRIMARY_ADDRESS user=app"; then
  echo "the primary is away"
  exec pg_isready --timeout=1 --dbname="$pooler"
fi
PGPASSWORD=$(cat "${SECRETS_DIR:-/run/secrets}/app_password")
export PGPASSWORD
# connect_timeout bounds the login only; a query may wait in the pool for long.
exec timeout 3 psql --no-psqlrc --quiet --tuples-only --no-align --no-password --output=/dev/null --command='SELECT 1' \
  "$pooler connect_timeout=3"
