#!/usr/bin/env bash
# Starts one PostgreSQL node: the primary if its name is PRIMARY_HOST, otherwise a standby of it.
#
# Every step may be killed at any instant and is safe to run again. A data directory is made beside its place on the
# same volume and renamed into it when it is whole, so what stands at $PGDATA is never half a cluster; and nothing
# but the primary ever runs initdb, so an empty volume never becomes a second primary.
#
# Environment: PGDATA, DATABASE_NAME, PRIMARY_HOST, REPLICAS, SYNCHRONOUS_COMMIT. The rest has defaults that fit the
# container; `manage.py devstack` sets them for a node without one.
set -euo pipefail

CONFIG_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
NODE_NAME=${NODE_NAME:-$(hostname)}
PRIMARY_CONNINFO=${PRIMARY_CONNINFO:-host=$PRIMARY_HOST port=5432}
export PGPORT=${PGPORT:-5432}
export RUN_DIR=${RUN_DIR:-/var/run/postgresql}
export SECRETS_DIR=${SECRETS_DIR:-/run/secrets}
SEED=$PGDATA.seed

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

# replica-1 -> replica_1: a slot's name has no hyphen
slot_name() { echo "${NODE_NAME//-/_}"; }

# "replica-1","replica-2",…; empty without replicas
standby_names() {
  local number names=()
  for ((number = 1; number <= REPLICAS; number++)); do names+=("\"replica-$number\""); done
  (IFS=, && echo "${names[*]-}")
}

synchronous_standby_names() {
  if [ "$SYNCHRONOUS_COMMIT" != local ] && [ "$REPLICAS" -gt 0 ]; then echo "ANY 1 ($(standby_names))"; fi
}

# libpq ignores a passfile that others may read, and secrets are mounted with the host's mode: hence a copy on tmpfs.
write_passfile() {
  local role password
  # The restart, since `up --wait` gives up on a container for as long as Docker waits with its next try.
  local remedy="Run: python ops/make_secrets.py && docker compose restart $NODE_NAME"
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
      fail "PRIMARY_HOST names this node, but its volume is a replica's. Set PRIMARY_HOST in .env again."
    fi
    if ! is_primary && [ ! -e "$PGDATA/standby.signal" ]; then
      fail "its volume is a primary's, but PRIMARY_HOST is '$PRIMARY_HOST'. Set PRIMARY_HOST in .env again."
    fi
  fi
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
    --encoding=UTF8 --locale=C --locale-provider=builtin --builtin-locale=C.UTF-8 --data-checksums
}

seed_standby() {
  local wait=0
  until interruptible pg_basebackup --pgdata="$SEED" --dbname="$(upstream)" --slot="$(slot_name)" \
    --wal-method=stream --checkpoint=fast --no-password 2>"$RUN_DIR/pg_basebackup.log"; do
    # The primary may not be up yet: say so once in a while, not twice a second.
    if ((wait++ % 20 == 0)); then echo "$NODE_NAME: no base backup yet: $(tail -n 1 "$RUN_DIR/pg_basebackup.log")" >&2; fi
    rm -rf "$SEED"
    interruptible sleep 0.5
  done
  touch "$SEED/standby.signal"
}

# How a standby reaches its primary. The password comes from the passfile: never in a file of the data directory.
upstream() { echo "$PRIMARY_CONNINFO user=replicator passfile=$RUN_DIR/pgpass application_name=$NODE_NAME"; }

_main() {
  write_passfile
  refuse_foreign_data
  mkdir -p "$(dirname "$PGDATA")"
  lock_volume
  rm -rf "$SEED" "$RUN_DIR/bootstrap"
  if [ ! -e "$PGDATA/PG_VERSION" ]; then
    if is_primary; then init_primary; else seed_standby; fi
    keep_seed
  elif ! is_primary; then
    # A standby that starts again may be behind what it has shown before. By now nobody's proof of that is valid any
    # longer: dbrouting relies on one for a second (PROOF_LIFE).
    interruptible sleep 2
  fi

  local options=(
    -D "$PGDATA"
    -c "config_file=$CONFIG_DIR/postgresql.conf"
    -c "hba_file=$CONFIG_DIR/pg_hba.conf"
    -c "ident_file=$RUN_DIR/pg_ident.conf"
    -c "unix_socket_directories=$RUN_DIR"
    -c "listen_addresses=${LISTEN_ADDRESSES:-*}"
    -c "cluster_name=$NODE_NAME"
    -c "synchronous_commit=$SYNCHRONOUS_COMMIT"
    -c "synchronous_standby_names=$(synchronous_standby_names)"
  )
  if is_primary; then
    # Waits for the server below, whose process id is this shell's. Not its child: it would take an exit for a crash.
    (SERVER_PID=$$ "$CONFIG_DIR/bootstrap.sh" 9>&- &)
  else
    # After a crash PostgreSQL would restart within, and skip the wait above; the restart policy starts all of it.
    options+=(-c "primary_conninfo=$(upstream)" -c "primary_slot_name=$(slot_name)" -c restart_after_crash=off)
  fi
  exec postgres "${options[@]}"
}

_main
