# Stands in for python:<version>-slim-trixie: `python` and `pip` on PATH, and the certificates by which the machine
# that built it reaches its package index, so that the generated Dockerfile need not know of them.
ARG SUITE=forky
FROM pgstack-debian:${SUITE}
ARG VERSION=3.14
COPY ca-certificates.crt /usr/local/share/ca-bundle.crt
ENV SSL_CERT_FILE=/usr/local/share/ca-bundle.crt PIP_CERT=/usr/local/share/ca-bundle.crt
RUN set -eux; \
    apt-get update; \
    apt-get install -y --no-install-recommends python3 python3-venv python3-pip; \
    python3 --version | grep -F "Python $VERSION."; \
    ln -s /usr/bin/python3 /usr/local/bin/python; \
    rm -rf /var/lib/apt/lists/* /usr/lib/python3*/EXTERNALLY-MANAGED
CMD ["python"]
