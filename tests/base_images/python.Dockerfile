# Stands in for python:3.14-slim-trixie: `python` and `pip` on PATH, and the certificates by which the machine
# that built it reaches its package index, so that the generated Dockerfile need not know of them.
FROM pgstack-debian:forky
COPY ca-certificates.crt /usr/local/share/ca-bundle.crt
ENV SSL_CERT_FILE=/usr/local/share/ca-bundle.crt PIP_CERT=/usr/local/share/ca-bundle.crt
RUN set -eux; \
    apt-get update; \
    apt-get install -y --no-install-recommends python3 python3-venv python3-pip; \
    python3 --version | grep -F 'Python 3.14.'; \
    ln -s /usr/bin/python3 /usr/local/bin/python; \
    rm -rf /var/lib/apt/lists/* /usr/lib/python3*/EXTERNALLY-MANAGED
CMD ["python"]
