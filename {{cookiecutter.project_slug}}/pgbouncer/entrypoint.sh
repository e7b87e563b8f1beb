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

# usage: knows MINOR   whether this PgBouncer is 1.MINOR or newer. The images' is 1.26.1 or newer; the one of `manage.py
# devstack` is what the developer has.
read -r _ version _ < <(pgbouncer --version)
IFS=. read -r major minor _ <<<"$version"
knows() { ((major > 1 || minor >= $1)); }

# usage: waits SECONDS   how long a client of one entry waits for a server
waits() { if knows 26; then echo "query_wait_timeout=$1"; fi; }

# usage: address VARIABLE NODE   where a node is: what devstack says, or else the container of that name
address() { echo "${!1:-host=${FOUND[$2]:-$RUN_DIR/away} port=5432}"; }

# usage: node_of NUMBER   the node behind replica_NUMBER: a promoted one has left its place to the node `primary`
node_of() { if [ "replica-$1" = "$PRIMARY_HOST" ]; then echo primary; else echo "replica-$1"; fi; }

# Finds the containers. One whose name is unknown just now keeps its address, unless another node has it by now: what is
# meant for the primary must not reach a replica that was given its place.
find_nodes() {
  local number node other found nodes=("$PRIMARY_HOST")
  for ((number = 1; number <= REPLICAS; number++)); do nodes+=("$(node_of "$number")"); done
  for node in "${nodes[@]}"; do
    read -r found _ < <(getent ahostsv4 "$node") || continue
    for other in "${nodes[@]}"; do
      if [ "${FOUND[$other]-}" = "$found" ]; then FOUND[$other]=""; fi
    done
    FOUND[$node]=$found
  done
}

# Names are no use to PgBouncer: whatever dns_max_ttl says, its resolver (c-ares, from 1.31) keeps an address as long as
# DNS says, with Docker's 600 s, and an unknown name for up to an hour. A node that is made again would be lost that long.
follow_nodes() {
  local before
  while sleep 1; do
    before=${FOUND[*]}
    find_nodes
    [ "${FOUND[*]}" != "$before" ] || continue
    databases >"$RUN_DIR/databases.new"
    mv "$RUN_DIR/databases.new" "$RUN_DIR/databases.ini"
    # It may not listen yet.
    until psql --no-psqlrc --quiet --host="$RUN_DIR" --username=pgbouncer --command=RELOAD pgbouncer; do sleep 1; done
  done
}

# One entry for each node: Django must know which replica answers it. A client of a dead replica is told within two
# seconds instead of PgBouncer's default of 120; one of the primary may wait for its turn. A pool is for one role, so
# max_db_connections bounds what all roles together open.
databases() {
  local number primary_mode=$POOL_MODE limit="max_db_connections=$((POOL_SIZE + RESERVE_POOL_SIZE))"
  # Statement mode refuses BEGIN, which every write of Django's needs.
  [ "$POOL_MODE" = statement ] && primary_mode=transaction
  echo "[databases]"
  echo "$DATABASE_NAME = $(address PRIMARY_ADDRESS "$PRIMARY_HOST") dbname=$DATABASE_NAME" \
    "pool_mode=$primary_mode $limit $(waits 30)"
  for ((number = 1; number <= REPLICAS; number++)); do
    echo "replica_$number = $(address "REPLICA_${number}_ADDRESS" "$(node_of "$number")") dbname=$DATABASE_NAME" \
      "pool_mode=$POOL_MODE $limit $(waits 2)"
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
# An unknown setting would stop it.
if ! knows 21; then
  sed '/^max_prepared_statements/d' "$CONFIG" >"$RUN_DIR/tuned.ini"
  CONFIG=$RUN_DIR/tuned.ini
fi
cat >"$RUN_DIR/pgbouncer.ini" <<INI
%include $CONFIG
pool_mode = ${POOL_MODE/statement/transaction}
default_pool_size = $POOL_SIZE
reserve_pool_size = $RESERVE_POOL_SIZE
listen_addr = ${LISTEN_ADDRESSES:-*}
listen_port = ${PGBOUNCER_PORT:-5432}
unix_socket_dir = $RUN_DIR
auth_file = $RUN_DIR/userlist.txt
$(knows 26 || echo "query_wait_timeout = 30")
%include $RUN_DIR/databases.ini
INI
if [ -n "${PRIMARY_ADDRESS-}" ]; then
  databases >"$RUN_DIR/databases.ini"
else
  declare -A FOUND
  find_nodes
  databases >"$RUN_DIR/databases.ini"
  # Not PgBouncer's child: it would never look after it.
  (follow_nodes &)
fi
exec pgbouncer "$RUN_DIR/pgbouncer.ini"
