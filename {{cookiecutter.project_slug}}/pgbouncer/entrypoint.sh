#!/usr/bin/env bash
# Writes what follows from the choices in .env and from the secrets, then runs PgBouncer. What a person tunes is in
# pgbouncer.ini.
#
# Environment: DATABASE_NAME, PRIMARY_HOST, REPLICAS, POOL_MODE, POOL_SIZE, RESERVE_POOL_SIZE. The rest has defaults
# that fit the container; `manage.py devstack` sets them for a PgBouncer without one.
set -euo pipefail

RUN_DIR=${RUN_DIR:-/run/pgbouncer}
SECRETS_DIR=${SECRETS_DIR:-/run/secrets}
CONFIG=${CONFIG:-/etc/pgbouncer/pgbouncer.ini}
PRIMARY_ADDRESS=${PRIMARY_ADDRESS:-host=$PRIMARY_HOST port=5432}

# usage: replica_address NUMBER   REPLICA_<NUMBER>_ADDRESS, or the container of that name
replica_address() {
  local variable=REPLICA_$1_ADDRESS
  echo "${!variable:-host=replica-$1 port=5432}"
}

# One entry for each node: Django must know which replica answers it. A client of a dead replica is told within two
# seconds instead of PgBouncer's default of 120; one of the primary may wait for its turn. A pool is for one role, so
# max_db_connections bounds what all roles together open.
databases() {
  local number primary_mode=$POOL_MODE limit="max_db_connections=$((POOL_SIZE + RESERVE_POOL_SIZE))"
  # Statement mode refuses BEGIN, which every write of Django's needs.
  [ "$POOL_MODE" = statement ] && primary_mode=transaction
  echo "$DATABASE_NAME = $PRIMARY_ADDRESS dbname=$DATABASE_NAME pool_mode=$primary_mode $limit query_wait_timeout=30"
  for ((number = 1; number <= REPLICAS; number++)); do
    echo "replica_$number = $(replica_address "$number") dbname=$DATABASE_NAME pool_mode=$POOL_MODE $limit query_wait_timeout=2"
  done
}

userlist() {
  local role password
  for role in app monitor; do
    password=$(cat "$SECRETS_DIR/${role}_password")
    printf '"%s" "%s"\n' "$role" "$password"
  done
}

case $POOL_MODE in
session | transaction | statement) ;;
*)
  echo "POOL_MODE is '$POOL_MODE'. Use session, transaction or statement in .env." >&2
  exit 1
  ;;
esac

umask 077
mkdir -p "$RUN_DIR"
userlist >"$RUN_DIR/userlist.txt"
cat >"$RUN_DIR/pgbouncer.ini" <<INI
%include $CONFIG
pool_mode = ${POOL_MODE/statement/transaction}
default_pool_size = $POOL_SIZE
reserve_pool_size = $RESERVE_POOL_SIZE
listen_addr = ${LISTEN_ADDRESSES:-*}
listen_port = ${PGBOUNCER_PORT:-5432}
unix_socket_dir = $RUN_DIR
auth_file = $RUN_DIR/userlist.txt

[databases]
$(databases)
INI
exec pgbouncer "$RUN_DIR/pgbouncer.ini"
