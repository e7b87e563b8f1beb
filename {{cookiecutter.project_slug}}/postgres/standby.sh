# shellcheck shell=bash
# How a standby gets its primary's data and stays with it. entrypoint.sh sources this.

# replica-1 -> replica_1: a slot's name has no hyphen
slot_name() { echo "${NODE_NAME//-/_}"; }

# How it reaches its primary. The password comes from the passfile: never in a file of the data directory.
upstream() { echo "$PRIMARY_CONNINFO user=replicator passfile=$RUN_DIR/pgpass application_name=$NODE_NAME"; }

# Not asked before it accepts, if that can be seen: it would log a refusal. It writes its state into the eighth line.
primary_answers() {
  local state
  state=$PEERS/$PRIMARY_HOST/$(basename "$(dirname "$PGDATA")")/docker/postmaster.pid
  if [ -d "$PEERS/$PRIMARY_HOST" ] && [[ $(sed -n 8p "$state" 2>/dev/null) != ready* ]]; then return 1; fi
  interruptible pg_isready --quiet --timeout=3 --dbname="$PRIMARY_CONNINFO user=monitor dbname=$DATABASE_NAME"
}

ask() { psql --no-psqlrc --quiet --tuples-only --no-align --no-password "$@"; }

replication_command() { ask --command="$1" "$(upstream) connect_timeout=3 replication=true"; }

# The slot holds WAL for this standby from now on. One that is lost cannot be mended. WAIT: the primary may not have
# noticed yet that a standby before this one is gone.
renew_slot() {
  if [ "$(replication_command "READ_REPLICATION_SLOT $(slot_name)")" != "||" ]; then
    replication_command "DROP_REPLICATION_SLOT $(slot_name) WAIT"
  fi
  replication_command "CREATE_REPLICATION_SLOT $(slot_name) PHYSICAL RESERVE_WAL" >/dev/null
}

copy_primary() {
  renew_slot && pg_basebackup --pgdata="$SEED" --dbname="$(upstream)" --slot="$(slot_name)" --wal-method=stream \
    --checkpoint=fast --no-password
}

seed_standby() {
  local wait=0 pause=1
  while true; do
    until primary_answers; do
      if ((wait++ % 20 == 0)); then echo "$NODE_NAME: waits for its primary, $PRIMARY_CONNINFO, to copy it" >&2; fi
      interruptible sleep 0.5
      pause=1
    done
    interruptible copy_primary 2>"$RUN_DIR/copy.log" && break
    # The line that says what is wrong is not always the last. Each attempt costs the primary a checkpoint.
    echo "$NODE_NAME: no copy of the primary yet, tries again in $pause s:" \
      "$(grep -m 1 -E 'error:|ERROR|FATAL' "$RUN_DIR/copy.log" || tail -n 1 "$RUN_DIR/copy.log")" >&2
    rm -rf "$SEED"
    interruptible sleep "$pause"
    pause=$((pause < 32 ? pause * 2 : 60))
  done
  touch "$SEED/standby.signal"
  keep_seed
}

# Whether the data at $PGDATA can go on from its primary as that is now:
# follow, or without its slot no-slot; gone: not without WAL that the primary has no longer; foreign: it is of another
# cluster; ahead: it has more than the primary; parted: like gone, but on another timeline, where it may have what the
# primary lacks; unknown: the primary does not answer, or is none.
standing() {
  local control
  control=$(pg_controldata "$PGDATA")
  field() { sed -n "s/^$1: *//p" <<<"$control"; }
  ask --set=ON_ERROR_STOP=1 --set="mine=$(field 'Database system identifier')" --set="slot=$(slot_name)" \
    --set="timeline=$(field "Latest checkpoint's TimeLineID")" \
    --set="checkpoint=$(field 'Latest checkpoint location')" --set="minimum=$(field 'Minimum recovery ending location')" \
    "$PRIMARY_CONNINFO user=monitor passfile=$RUN_DIR/pgpass dbname=$DATABASE_NAME connect_timeout=3" <<'SQL' || echo unknown
SELECT CASE
  WHEN system_identifier <> :mine THEN 'foreign'
  WHEN pg_is_in_recovery() THEN 'unknown'
  WHEN pg_current_wal_lsn() < reached THEN 'ahead'
  -- A slot that somebody has made may ask for WAL that is gone: its wal_status goes by distance alone.
  WHEN EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = :'slot' AND wal_status <> 'lost'
               AND substr(pg_walfile_name(restart_lsn + 1), 9) >= oldest) THEN 'follow'
  WHEN substr(pg_walfile_name(reached), 9) < oldest
    THEN CASE WHEN left(pg_walfile_name(pg_current_wal_lsn()), 8) = upper(lpad(to_hex(:timeline), 8, '0')) THEN 'gone' ELSE 'parted' END
  ELSE 'no-slot' END
FROM pg_control_system(), greatest(:'checkpoint'::pg_lsn, :'minimum'::pg_lsn) AS reached,
  -- A WAL file's name ends in its place, after eight digits of its timeline.
  (SELECT min(substr(name, 9)) AS oldest FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$') AS wal
SQL
}

new_slot() {
  echo "$NODE_NAME: its slot is missing or lost. It makes a new one." >&2
  renew_slot || true # the health check tells if it does not stream
}

# Beside the server, which reads while its primary is away: when that is back, what the data is to it is known.
decide_later() {
  while kill -0 "$SERVER_PID" 2>/dev/null; do
    sleep 1
    primary_answers || continue
    case $(standing 2>/dev/null) in
    unknown) ;;
    follow) return ;;
    no-slot)
      new_slot
      return
      ;;
    *)
      echo "$NODE_NAME: its primary is back, and its data does not fit. It starts again, to mend that or to say why." >&2
      kill -INT "$SERVER_PID"
      return
      ;;
    esac
  done
}

# Leaves at $PGDATA what can stream from the primary.
follow() {
  if [ ! -e "$PGDATA/PG_VERSION" ]; then
    seed_standby
    return
  fi
  case $(standing 2>/dev/null) in
  foreign)
    fail "its volume holds another cluster than its primary '$PRIMARY_HOST', and may be the only copy of that data. To" \
      "make it the primary: ops/promote $NODE_NAME. To let it copy '$PRIMARY_HOST', without that data: ops/reseed $NODE_NAME"
    ;;
  ahead)
    fail "its volume holds later data than its primary '$PRIMARY_HOST', which has lost some. To make it the primary:" \
      "ops/promote $NODE_NAME. To let it copy '$PRIMARY_HOST', without that data: ops/reseed $NODE_NAME"
    ;;
  parted)
    fail "its volume is of an earlier timeline than its primary '$PRIMARY_HOST', which no longer has the WAL to follow from" \
      "there. It may hold what that lacks. To let it copy '$PRIMARY_HOST', without that data: ops/reseed $NODE_NAME"
    ;;
  gone)
    echo "$NODE_NAME: its primary no longer has the WAL that it needs. It copies the primary anew." >&2
    mv "$PGDATA" "$SEED"
    rm -rf "$SEED"
    seed_standby
    return
    ;;
  no-slot) new_slot ;;
  unknown) (SERVER_PID=$$ decide_later 9>&- &) ;;
  esac
  # A standby that starts again may be behind what it has shown before. By now nobody's proof of that is valid any
  # longer: dbrouting relies on one for a second (PROOF_LIFE).
  interruptible sleep 2
}
