#!/usr/bin/env bash
# usage: bootstrap.sh [--adopt-passwords]
# Brings the running primary to what the project needs (roles.sql), at each start, and again whenever it is run.
# A password that differs from its file in secrets/ is reported, or with --adopt-passwords set to the file's.
#
# The node is healthy when $RUN_DIR/bootstrap says "ok"; until then the file says why it is not.
set -uo pipefail

RUN_DIR=${RUN_DIR:-/var/run/postgresql}
export PGHOST=$RUN_DIR PGUSER=postgres PGDATABASE=postgres SECRETS_DIR=${SECRETS_DIR:-/run/secrets}
adopt=no
[ "${1:-}" = --adopt-passwords ] && adopt=yes

roles() {
  psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --set="database=$DATABASE_NAME" --set="replicas=$REPLICAS" \
    --set="adopt=$adopt" --file="$(dirname "${BASH_SOURCE[0]}")/roles.sql"
}

passwords() {
  local role refused=()
  for role in owner app replicator monitor; do
    psql --no-psqlrc --quiet --no-password "user=$role dbname=$DATABASE_NAME passfile=$RUN_DIR/pgpass" \
      --command='' || refused+=("$role")
  done
  [ ${#refused[@]} -eq 0 ] && return
  echo "secrets/ does not hold the password that this volume has for: ${refused[*]}. Put the old file back, or make the" \
    "files the truth: docker compose exec primary /etc/postgresql/bootstrap.sh --adopt-passwords && docker compose restart"
  return 1
}

_main() {
  # The passfile was written at the node's start; the files may have changed since.
  [ "$adopt" = yes ] && for role in owner app replicator monitor; do
    echo "*:*:*:$role:$(cat "$SECRETS_DIR/${role}_password")"
  done >"$RUN_DIR/pgpass"
  echo "starting" >"$RUN_DIR/bootstrap"
  until pg_isready --quiet; do sleep 0.1; done
  local problem
  if problem=$(roles 2>&1 && passwords 2>/dev/null); then
    echo ok >"$RUN_DIR/bootstrap"
    return
  fi
  echo "bootstrap: $problem" | tee "$RUN_DIR/bootstrap" >&2
  return 1
}

_main
