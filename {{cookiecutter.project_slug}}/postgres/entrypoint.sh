#!/usr/bin/env bash
# Starts one PostgreSQL node: the primary if its name is PRIMARY_HOST, otherwise a standby of it.
#
# Every step may be killed at any instant and is safe to run again. A data directory is made beside its place on the
# same volume and renamed into it when it is whole, so what stands at $PGDATA is never half a cluster. Only the primary
# runs initdb, and only if no other node has data: an empty volume never becomes a second primary, nor an empty one
# beside the data of a lost one.
#
# Environment: PGDATA, DATABASE_NAME, PRIMARY_HOST, SYNCHRONOUS_COMMIT, LOG_SLOW_STATEMENTS, NODE_MEMORY. The rest has
# defaults that fit the container; `manage.py devstack` sets them for a node without one.
set -euo pipefail

CONFIG_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
NODE_NAME=${NODE_NAME:-$(hostname)}
NODE_MEMORY=${NODE_MEMORY:-1g}
LOG_SLOW_STATEMENTS=${LOG_SLOW_STATEMENTS:-on}
PRIMARY_CONNINFO=${PRIMARY_CONNINFO:-host=$PRIMARY_HOST port=5432}
export PGPORT=${PGPORT:-5432}
export RUN_DIR=${RUN_DIR:-/var/run/postgresql}
export SECRETS_DIR=${SECRETS_DIR:-/run/secrets}
# Where the volumes of all nodes are, to look at.
PEERS=${PEERS:-/peers}
SEED=$PGDATA.seed

# shellcheck source=postgres/standby.sh
source "$CONFIG_DIR/standby.sh"

fail() {
  echo "$NODE_NAME: $*" >&2
  exit 1
}

# usage: interruptible COMMAND...   runs it so that a stop signal ends it at once, and not after it
interruptible() {
  local status=0
  "$@" &
  child=$!
  # SIGTERM: bash starts what runs in the background with SIGINT ignored.
  trap 'kill -TERM "$child"; wait "$child"; exit 130' INT TERM
  wait "$child" || status=$?
  trap - INT TERM
  return "$status"
}

is_primary() { [ "$NODE_NAME" = "$PRIMARY_HOST" ]; }

# Any of the others: which of them are there is their own affair.
synchronous_standby_names() {
  if [ "$SYNCHRONOUS_COMMIT" != local ]; then echo 'ANY 1 ("primary","replica-1","replica-2","replica-3")'; fi
}

# What follows from the node's memory. postgresql.conf is read after it, so a line there wins.
memory_settings() {
  local mb=${NODE_MEMORY%[mMgG]}
  [[ $NODE_MEMORY =~ ^[1-9][0-9]*[mMgG]$ ]] || fail "NODE_MEMORY is '$NODE_MEMORY'. Give it as 512m or 4g in .env."
  if [[ $NODE_MEMORY == *[gG] ]]; then mb=$((mb * 1024)); fi
  # A quarter for the cache; 100 sessions sort rarely at once, and work_mem is for each sort.
  cat <<CONF
shared_buffers = $((mb / 4))MB
effective_cache_size = $((mb * 5 / 8))MB
work_mem = $((mb * 4))kB
maintenance_work_mem = $((mb / 16))MB
include '$CONFIG_DIR/postgresql.conf'
CONF
}

# libpq ignores a passfile that others may read, and secrets are mounted with the host's mode: hence a copy on tmpfs.
write_passfile() {
  local role password
  # The restart, since `up --wait` gives up on a container for as long as Docker waits with its next try.
  local remedy="Run: python ops/setup.py && docker compose restart $NODE_NAME"
  umask 077
  mkdir -p "$RUN_DIR"
  : >"$RUN_DIR/pgpass"
  for role in owner app replicator monitor; do
    password=$(cat "$SECRETS_DIR/${role}_password") ||
      fail "the secret ${role}_password cannot be read. $remedy"
    [[ $password =~ ^[A-Za-z0-9_-]+$ ]] ||
      fail "the secret ${role}_password is empty or has characters other than A-Z a-z 0-9 _ -, which a passfile or" \
        "PgBouncer would take for syntax. Delete the file. $remedy"
    echo "*:*:*:$role:$password" >>"$RUN_DIR/pgpass"
  done
  # `local … peer` in pg_hba.conf: the node's own system user, and nobody else, is the superuser.
  echo "operator $(id -un) postgres" >"$RUN_DIR/pg_ident.conf"
}

refuse_foreign_data() {
  local found
  for found in "$(dirname "$(dirname "$PGDATA")")"/*/docker/PG_VERSION; do
    if [ -e "$found" ] && [ "$found" != "$PGDATA/PG_VERSION" ]; then
      fail "the volume holds data of PostgreSQL $(cat "$found"), this is another version." \
        "Set POSTGRES_VERSION=$(cat "$found") in .env again, or dump there and restore into a new volume."
    fi
  done
  if [ -e "$PGDATA/PG_VERSION" ]; then
    if is_primary && [ -e "$PGDATA/standby.signal" ]; then
      fail "PRIMARY_HOST names this node, but its volume is a replica's. Set PRIMARY_HOST in .env to the primary again." \
        "To make this node the primary: ops/promote $NODE_NAME"
    fi
    if ! is_primary && [ ! -e "$PGDATA/standby.signal" ]; then
      fail "its volume is a primary's, but PRIMARY_HOST is '$PRIMARY_HOST'. If that was promoted, let this node copy it:" \
        "ops/reseed $NODE_NAME. Otherwise set PRIMARY_HOST in .env to $NODE_NAME again."
    fi
  fi
}

# Without data of its own a primary begins anew, which nobody wants whose replicas still have what it has lost.
refuse_beside_data_of_others() {
  local found others=()
  for found in "$PEERS"/*/*/docker/PG_VERSION; do
    if [ -e "$found" ]; then others+=("$(basename "${found%/*/docker/PG_VERSION}")"); fi
  done
  [ ${#others[@]} -eq 0 ] ||
    fail "this volume is empty, but these nodes have data: ${others[*]}. To make one of them the primary, with its data:" \
      "ops/promote ${others[0]}. To begin anew without it: docker compose --profile '*' down --volumes"
}

# PostgreSQL's own lock is a process id, which means nothing to another container. This one is the volume's, held as
# long as any process of the server lives; holding it, a lock file left by a kill -9 is known to be stale.
lock_volume() {
  command -v flock >/dev/null || return 0 # macOS, without containers
  exec 9>"$PGDATA.lock"
  flock --nonblock 9 || fail "another server runs on $PGDATA, process" \
    "$(head -n 1 "$PGDATA/postmaster.pid" 2>/dev/null || true). Stop that first: kill -INT, as its own container or shell would."
  # Process ids begin again in each container, so the stale one may by chance be in use.
  if [ "$PPID" -le 1 ]; then rm -f "$PGDATA/postmaster.pid"; fi
}

# Puts the finished $SEED in its place. initdb and pg_basebackup have synced what they wrote; the names are ours to sync.
keep_seed() {
  if [ -d "$PGDATA" ]; then
    rmdir "$PGDATA" || fail "$PGDATA holds files, but no cluster (PG_VERSION is missing). Look at them, then remove them."
  fi
  sync "$SEED"
  mv "$SEED" "$PGDATA"
  sync "$(dirname "$PGDATA")"
}

# The built-in C.UTF-8 locale: a libc that sorts otherwise, in a newer image, cannot break an index.
init_primary() {
  interruptible initdb --pgdata="$SEED" --username=postgres --auth-local=peer --auth-host=scram-sha-256 \
    --encoding=UTF8 --locale=C --locale-provider=builtin --builtin-locale=C.UTF-8 --data-checksums --no-instructions
  # It listens to nobody until roles and database are there: whoever came before them would be refused.
  (PGDATA=$SEED SERVER_PID=$$ "$CONFIG_DIR/bootstrap.sh"; pg_ctl --pgdata="$SEED" --mode=fast --no-wait --silent stop) 9>&- &
  interruptible postgres -D "$SEED" "${options[@]}" -c listen_addresses=
  [ "$(cat "$RUN_DIR/bootstrap")" = ok ] || exit 1 # bootstrap.sh has said why
}

_main() {
  write_passfile
  refuse_foreign_data
  mkdir -p "$(dirname "$PGDATA")"
  lock_volume
  rm -rf "$SEED" "$RUN_DIR/bootstrap"
  memory_settings >"$RUN_DIR/postgresql.conf"

  options=(
    -c "config_file=$RUN_DIR/postgresql.conf"
    -c "hba_file=$CONFIG_DIR/pg_hba.conf"
    -c "ident_file=$RUN_DIR/pg_ident.conf"
    -c "unix_socket_directories=$RUN_DIR"
    -c "cluster_name=$NODE_NAME"
    -c "synchronous_commit=$SYNCHRONOUS_COMMIT"
    -c "synchronous_standby_names=$(synchronous_standby_names)"
  )
  if [ "$LOG_SLOW_STATEMENTS" = off ]; then options+=(-c log_min_duration_statement=-1); fi
  if is_primary; then
    if [ ! -e "$PGDATA/PG_VERSION" ]; then
      refuse_beside_data_of_others
      init_primary
      keep_seed
    fi
    # Waits for the server below, whose process id is this shell's. Not its child: it would take an exit for a crash.
    (SERVER_PID=$$ "$CONFIG_DIR/bootstrap.sh" 9>&- &)
  else
    follow
    # After a crash PostgreSQL would restart within, and skip the wait in there; the restart policy starts all of it.
    options+=(-c "primary_conninfo=$(upstream)" -c "primary_slot_name=$(slot_name)" -c restart_after_crash=off)
  fi
  exec postgres -D "$PGDATA" "${options[@]}" -c "listen_addresses=${LISTEN_ADDRESSES:-*}"
}

_main
