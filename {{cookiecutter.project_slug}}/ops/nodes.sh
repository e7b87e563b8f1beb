# shellcheck shell=bash
# What the commands for nodes have in common. They source this in the project's directory.

fail() {
  echo "$*" >&2
  exit 1
}

# usage: choice NAME   its value for compose, whether .env, --env-file or the shell has set it
choice() { docker compose config --environment | sed -n "s/^$1=//p"; }

primary=$(choice PRIMARY_HOST)
# shellcheck disable=SC2034 # whoever sources this uses it
volume=$(choice POSTGRES_VOLUME)
# shellcheck disable=SC2034
data=$volume/$(choice POSTGRES_VERSION)/docker
standbys=()
for node in primary replica-1 replica-2 replica-3; do
  if [ "$node" != "$primary" ] && [[ $node == primary || ${node#replica-} -le $(choice REPLICAS) ]]; then standbys+=("$node"); fi
done

# usage: on_node NODE   SQL from standard input, as the superuser
on_node() { docker compose exec -T "$1" psql -XAtq --username=postgres --dbname=postgres --set=ON_ERROR_STOP=1; }

# usage: in_volume NODE COMMAND   of a node that does not run
in_volume() { docker compose --progress quiet run --rm --no-deps -T --entrypoint bash "$1" -c "$2" </dev/null; }

empty_volume() { in_volume "$1" "find $volume -mindepth 1 -delete"; }

is_standby() { [[ " ${standbys[*]-} " == *" $1 "* ]]; }
