-- What the project needs of its PostgreSQL: roles, database, extension, rights. Safe to run again at any time.
-- psql variables: database, adopt (yes: set the passwords of existing roles too).

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
-- An index of a large table sorts in temporary files.
ALTER ROLE owner SET temp_file_limit = -1;
-- Visitors' data stays out of the log: no row that an error is about, no statement that failed, no parameters. Django's
-- exception has them.
SELECT format('ALTER ROLE %I SET %s', role, setting)
FROM unnest(ARRAY['app', 'owner']) AS role,
  unnest(ARRAY['log_error_verbosity = terse', 'log_min_error_statement = panic', 'log_parameter_max_length = 0'])
    AS setting \gexec

SELECT format('CREATE DATABASE %I OWNER owner', :'database')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') \gexec
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO app, monitor, replicator;

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
