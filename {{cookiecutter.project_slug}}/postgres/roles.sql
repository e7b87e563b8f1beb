-- What the project needs of its PostgreSQL: roles, database, extension, rights, slots. Safe to run again at any time.
-- psql variables: database, replicas, adopt (yes: set the passwords of existing roles too).

-- Before there is a standby, a synchronous commit would wait for ever.
SET synchronous_commit = local;
-- A statement that sets a password must reach neither the log nor pg_stat_statements.
SET log_min_duration_statement = -1;
SET log_min_error_statement = panic;
SET log_statement = 'none';
SET pg_stat_statements.track = 'none';
SET client_min_messages = warning;

-- owner makes tables, app uses them, replicator streams, monitor reads statistics.
SELECT format('CREATE ROLE %I LOGIN', name)
FROM unnest(ARRAY['owner', 'app', 'replicator', 'monitor']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
ALTER ROLE replicator REPLICATION;
GRANT pg_monitor TO monitor;

\set owner `cat "$SECRETS_DIR/owner_password"`
\set app `cat "$SECRETS_DIR/app_password"`
\set replicator `cat "$SECRETS_DIR/replicator_password"`
\set monitor `cat "$SECRETS_DIR/monitor_password"`
SELECT format('ALTER ROLE %I PASSWORD %L', name, password)
FROM (VALUES ('owner', :'owner'), ('app', :'app'), ('replicator', :'replicator'), ('monitor', :'monitor'))
  AS secret (name, password)
JOIN pg_authid ON rolname = name
WHERE rolpassword IS NULL OR :'adopt' = 'yes' \gexec

-- PgBouncer passes no startup options on, so what a session needs is a property of its role. The time zone saves
-- Django a round trip for each connection.
ALTER ROLE app SET timezone = 'UTC';
ALTER ROLE app SET statement_timeout = '30s';
ALTER ROLE app SET lock_timeout = '10s';
ALTER ROLE app SET idle_in_transaction_session_timeout = '60s';
ALTER ROLE owner SET timezone = 'UTC';

SELECT format('CREATE DATABASE %I OWNER owner', :'database')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') \gexec
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO app, monitor, replicator;

SELECT pg_create_physical_replication_slot(name, true)
FROM (SELECT format('replica_%s', number) AS name FROM generate_series(1, :replicas) AS number) AS wanted
WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = name) \g /dev/null
-- A slot that nobody reads keeps WAL for its replica: those beyond REPLICAS go.
SELECT pg_drop_replication_slot(slot_name)
FROM pg_replication_slots
WHERE slot_name ~ '^replica_[0-9]+$' AND substr(slot_name, 9)::int > :replicas AND NOT active \g /dev/null

\connect :"database"
SET synchronous_commit = local;
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
GRANT USAGE ON SCHEMA public TO app;
-- Also in schemas that a migration makes. UPDATE on a sequence is for setval(): rows that bring their ids.
ALTER DEFAULT PRIVILEGES FOR ROLE owner GRANT USAGE ON SCHEMAS TO app;
ALTER DEFAULT PRIVILEGES FOR ROLE owner GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO app;
ALTER DEFAULT PRIVILEGES FOR ROLE owner GRANT SELECT, USAGE, UPDATE ON SEQUENCES TO app;
-- Those that an earlier version of this file left without it.
GRANT UPDATE ON ALL SEQUENCES IN SCHEMA public TO app;
