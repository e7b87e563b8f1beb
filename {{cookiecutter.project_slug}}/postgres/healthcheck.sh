#!/usr/bin/env bash
# Exit status 0 if this node does its part, otherwise 1 and a sentence that says what is wrong.
# A replica does its part if it recovers, streams, and has at most REPLICA_MAX_LAG_BYTES of WAL left to replay. That its
# primary is away is no fault of its own: `docker compose up --wait` would give up on it at once, though it is about to
# be mended by that very command.
set -uo pipefail

NODE_NAME=${NODE_NAME:-$(hostname)}
PRIMARY_CONNINFO=${PRIMARY_CONNINFO:-host=$PRIMARY_HOST port=5432}
RUN_DIR=${RUN_DIR:-/var/run/postgresql}

ask() {
  psql --no-psqlrc --quiet --tuples-only --no-align --host="$RUN_DIR" --username=postgres --dbname=postgres \
    --set="max_lag=${REPLICA_MAX_LAG_BYTES:-67108864}" 2>&1
}

primary() {
  local bootstrap
  bootstrap=$(cat "$RUN_DIR/bootstrap" 2>&1)
  [ "$bootstrap" = ok ] || { echo "$bootstrap"; return; }
  ask <<<"SELECT CASE WHEN pg_is_in_recovery() THEN 'in recovery, though PRIMARY_HOST names this node' ELSE 'ok' END"
}

# latest_end_lsn is how far the primary had come by its last word; without a receiver there is no such word.
replica() {
  ask <<'SQL'
SELECT CASE
  WHEN NOT pg_is_in_recovery() THEN 'not in recovery: a second primary'
  -- One that is refused streams for an instant in each attempt.
  WHEN NOT EXISTS (SELECT FROM pg_stat_wal_receiver JOIN pg_stat_activity USING (pid)
                   WHERE status = 'streaming' AND backend_start < clock_timestamp() - interval '1.5 s')
    THEN 'no WAL receiver streams: the primary refuses this replica (the log says why)'
  WHEN (SELECT pg_wal_lsn_diff(latest_end_lsn, pg_last_wal_replay_lsn()) FROM pg_stat_wal_receiver) > :max_lag
    THEN 'more than ' || pg_size_pretty(:max_lag::bigint) || ' of WAL left to replay'
  ELSE 'ok' END
SQL
}

_main() {
  local verdict
  # Not asked before it accepts: it would log a refusal. The server writes its state into this line.
  [[ $(sed -n 8p "$PGDATA/postmaster.pid" 2>/dev/null) == ready* ]] || { echo "does not accept connections"; exit 1; }
  # Over TCP, as clients come. It logs in as nobody; a role that pg_hba.conf knows keeps that out of the log.
  pg_isready --quiet --host=127.0.0.1 --username=monitor --dbname="$DATABASE_NAME" || { echo "does not accept connections"; exit 1; }
  if [ "$NODE_NAME" = "$PRIMARY_HOST" ]; then verdict=$(primary); else verdict=$(replica); fi
  if [[ $verdict == "no WAL receiver"* ]] && ! pg_isready --quiet --timeout=2 --dbname="$PRIMARY_CONNINFO user=monitor"; then
    echo "the primary is away: serving what was replayed until then"
    exit 0
  fi
  echo "$verdict"
  [ "$verdict" = ok ]
}

_main
