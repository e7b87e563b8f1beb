# Stands in for postgres:<major>-trixie. Its contract: user postgres (999), PG_MAJOR, PGDATA, PATH, VOLUME, STOPSIGNAL,
# and apt that can install pgbouncer. The official entrypoint is not here: the generated project brings its own.
ARG SUITE=forky
FROM pgstack-debian:${SUITE}
ARG PG_MAJOR PGDATA VOLUME
ENV PG_MAJOR=${PG_MAJOR} PGDATA=${PGDATA} LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive PATH=$PATH:/usr/lib/postgresql/${PG_MAJOR}/bin
RUN set -eux; \
    groupadd -r postgres --gid=999; \
    useradd -r -g postgres --uid=999 --home-dir=/var/lib/postgresql --shell=/bin/bash postgres; \
    apt-get update; \
    mkdir -p /etc/postgresql-common; \
    echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf; \
    apt-get install -y --no-install-recommends postgresql-${PG_MAJOR}; \
    rm -rf /var/lib/apt/lists/*; \
    install --directory --owner postgres --group postgres --mode 1777 /var/lib/postgresql "$VOLUME"; \
    install --directory --owner postgres --group postgres --mode 3777 /var/run/postgresql
VOLUME ${VOLUME}
STOPSIGNAL SIGINT
EXPOSE 5432
