#!/usr/bin/env bash
# usage: bootstrap.sh [--adopt-passwords]
# Brings the running primary to what the project needs (roles.sql), at each start, and again whenever it is run.
# A password that differs from its file in secrets/ is reported, or with --adopt-passwords set to the file's.
#
# The node is healthy when $RUN_DIR/bootstrap says "ok"; until then the file says why it is not.
set -uo pipefail

NODE_NAME=${NODE_NAME:-$(hostname)}
RUN_DIR=${RUN_DIR:-/var/run/postgresql}
export PGHOST=$RUN_DIR PGUSER=postgres PGDATABASE=postgres SECRETS_DIR=${SECRETS_DIR:-/run/secrets}
adopt=no
[ "${1:-}" = --adopt-passwords ] && adopt=yes

wait_for_server() {
  # Not asked before it accepts: it would log a refusal. It writes its state into this line.
  until [[ $(sed -n 8p "$PGDATA/postmaster.pid" 2>/dev/null) == ready* ]] && pg_isready --quiet; do
    # Started with the server: gone with it, too.
    if [ -n "${SERVER_PID:-}" ] && ! kill -0 "$SERVER_PID" 2>/dev/null; then exit 1; fi
    sleep 0.1
  done
}

roles() {
  psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --set="database=$DATABASE_NAME" --set="adopt=$adopt" \
    --file="$(dirname "${BASH_SOURCE[0]}")/roles.sql"
}

# Tries each password as a client would. The passfile was written at the start; what was adopted since counts.
passwords() {
  local role said refused=()
  for role in owner app replicator monitor; do
    said=$(PGPASSWORD=$(cat "$SECRETS_DIR/${role}_password") psql --no-psqlrc --quiet --no-password --command='' \
      "user=$role dbname=$DATABASE_NAME" 2>&1) && continue
    [[ $said == *"password authentication failed"* ]] || { echo "role $role: $said"; return 1; }
    refused+=("$role")
  done
  [ ${#refused[@]} -eq 0 ] && return
  echo "secrets/ does not hold the password that this volume has for: ${refused[*]}. Put the old file back, or make the" \
    "files the truth: docker compose exec $NODE_NAME /etc/postgresql/bootstrap.sh --adopt-passwords && docker compose restart"
  return 1
}

_main() {
  local attempt problem
  echo "starting" >"$RUN_DIR/bootstrap"
  wait_for_server
  # More than once, since somebody else may alter a role at the same time.
  for attempt in 1 2 3; do
    if problem=$(roles 2>&1 && passwords); then
      echo ok >"$RUN_DIR/bootstrap"
      return
    fi
    sleep "$attempt"
  done
  echo "bootstrap: $problem" | tee "$RUN_DIR/bootstrap" >&2
  return 1
}

_main
