#!/usr/bin/env bash
# The users of the cache: the site, with its password, and anybody, for the health check's PING.
set -euo pipefail
umask 077
password=$(cat /run/secrets/cache_password)
cat >/run/valkey/users.acl <<ACL
user default on nopass sanitize-payload resetchannels -@all +ping
user cache on >${password:?secrets/cache_password is empty: run make setup} ~* &* +@all -@admin
ACL
exec valkey-server /etc/valkey.conf
