#!/usr/bin/env bash
# usage: docker-entrypoint.sh [postgres] [OPTION...]
#        docker-entrypoint.sh COMMAND...                runs the command, and does nothing else
# Makes a cluster of an empty $PGDATA, with the superuser POSTGRES_USER and the database POSTGRES_DB, runs what is in
# /docker-entrypoint-initdb.d, and starts the server. Where there is a cluster, it only starts the server.
#
# Environment: POSTGRES_PASSWORD, POSTGRES_USER, POSTGRES_DB, POSTGRES_INITDB_ARGS; each of these as a file, too
# (POSTGRES_PASSWORD_FILE); POSTGRES_HOST_AUTH_METHOD, POSTGRES_INITDB_WALDIR, PGDATA.
#
# No `set -u`: the scripts that are sourced may not be written for it.
set -eo pipefail

fail() {
  echo "docker-entrypoint.sh: $*" >&2
  exit 1
}

# usage: from_file NAME   sets the variable from the file that NAME_FILE names, if that is set
from_file() {
  local file=$1_FILE
  [ -n "${!file}" ] || return 0
  [ -z "${!1}" ] || fail "$1 and $file are both set. Set one of them."
  [ -r "${!file}" ] || fail "$file is '${!file}', which cannot be read. Mount the file there."
  export "$1=$(<"${!file}")"
  unset "$file"
}

settings() {
  from_file POSTGRES_PASSWORD
  from_file POSTGRES_USER
  from_file POSTGRES_DB
  from_file POSTGRES_INITDB_ARGS
  export POSTGRES_USER=${POSTGRES_USER:-postgres}
  export POSTGRES_DB=${POSTGRES_DB:-$POSTGRES_USER}
  POSTGRES_HOST_AUTH_METHOD=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
  [ -n "$POSTGRES_PASSWORD" ] || [ "$POSTGRES_HOST_AUTH_METHOD" = trust ] ||
    fail "POSTGRES_PASSWORD is empty. Set it to the superuser's password, or POSTGRES_PASSWORD_FILE to a file that holds it." \
      "POSTGRES_HOST_AUTH_METHOD=trust needs none, and lets in everybody who reaches the port."
}

# What is mounted may belong to root.
give_to_postgres() {
  local directories=("$PGDATA" /var/run/postgresql ${POSTGRES_INITDB_WALDIR:+"$POSTGRES_INITDB_WALDIR"})
  mkdir -p "${directories[@]}"
  find "${directories[@]}" ! -user postgres -exec chown postgres {} +
}

init_cluster() {
  local arguments
  # It may hold quotes, as on a command line.
  eval "arguments=($POSTGRES_INITDB_ARGS)"
  mkdir -p "$PGDATA"
  initdb --pgdata="$PGDATA" --username="$POSTGRES_USER" ${POSTGRES_PASSWORD:+--pwfile=/dev/stdin} \
    ${POSTGRES_INITDB_WALDIR:+"--waldir=$POSTGRES_INITDB_WALDIR"} "${arguments[@]}" <<<"$POSTGRES_PASSWORD"
  echo "host all all all $POSTGRES_HOST_AUTH_METHOD" >>"$PGDATA/pg_hba.conf"
}

as_superuser() {
  PGHOST='' PGHOSTADDR='' psql --no-psqlrc --set=ON_ERROR_STOP=1 --no-password --username="$POSTGRES_USER" "$@"
}

create_database() {
  as_superuser --dbname=postgres --set=name="$POSTGRES_DB" <<'SQL'
    SELECT format('CREATE DATABASE %I', :'name')
    WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \gexec
SQL
}

run_scripts() {
  local script
  for script in /docker-entrypoint-initdb.d/*; do
    [ -e "$script" ] || continue
    echo "docker-entrypoint.sh: $script"
    # shellcheck source=/dev/null
    case $script in
      *.sh) if [ -x "$script" ]; then "$script"; else source "$script"; fi ;;
      *.sql) as_superuser --dbname="$POSTGRES_DB" --file="$script" ;;
      *.sql.gz) gunzip --stdout "$script" | as_superuser --dbname="$POSTGRES_DB" ;;
      *) echo "docker-entrypoint.sh: left alone, since its name ends neither in .sh nor .sql nor .sql.gz" ;;
    esac
  done
}

# usage: first_boot postgres [OPTION...]   with a server that only the socket reaches: nobody meets a half-made database
first_boot() {
  init_cluster
  # initdb's arguments may have it ask for the password on the socket, too.
  export PGPASSWORD=${PGPASSWORD:-$POSTGRES_PASSWORD}
  pg_ctl --pgdata="$PGDATA" --wait start \
    --options="$(printf '%q ' "${@:2}" -c listen_addresses= -p "${PGPORT:-5432}")"
  create_database
  run_scripts
  pg_ctl --pgdata="$PGDATA" --mode=fast --wait stop
  unset PGPASSWORD
}

_main() {
  if [ $# = 0 ] || [[ $1 == -* ]]; then set -- postgres "$@"; fi
  case "$1 $2" in
    "postgres --help" | "postgres -?" | "postgres --version" | "postgres -V" | "postgres --describe-config") exec "$@" ;;
    "postgres "*) ;;
    *) exec "$@" ;;
  esac
  # Before root's rights are given up: only root may be able to read a secret.
  [ -s "$PGDATA/PG_VERSION" ] || settings
  if [ "$(id -u)" = 0 ]; then
    give_to_postgres
    exec gosu postgres "${BASH_SOURCE[0]}" "$@"
  fi
  [ -s "$PGDATA/PG_VERSION" ] || first_boot "$@"
  exec "$@"
}

_main "$@"
