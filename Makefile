# `make demo` runs the main job, `make test` tests it. Each sets up what it needs; Python 3.11+ is all it takes.
.PHONY: demo demo-docker demo-down test test-fast test-devstack test-stack torture bench bench-quick race race-quick lock django-suite
VENV := .venv
PYTHON ?= python3
ANSWERS ?=
# A name of its own: the containers and volumes of a project that somebody made with the default answers are not ours.
DEMO_NAME ?= pgstack_demo
DEMO := .demo/$(DEMO_NAME)
DEMO_PORT ?= 8000

$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --no-deps --require-hashes -r requirements.txt
	touch $@

# usage: make demo [DEMO_PORT=8080] [ANSWERS="pool_mode=session web_worker=asgi connection_strategy=pool"]
demo: $(VENV)/installed
	mkdir -p .demo
	$(VENV)/bin/cookiecutter --no-input --overwrite-if-exists --output-dir .demo . $(ANSWERS) project_slug=$(DEMO_NAME)
	sed -i.bak 's/^WEB_PORT=.*/WEB_PORT=$(DEMO_PORT)/; s/localhost:8000/localhost:$(DEMO_PORT)/; s/^SHOW_ROUTING=.*/SHOW_ROUTING=on/' $(DEMO)/.env
	@if docker compose version >/dev/null 2>&1 && docker info >/dev/null 2>&1; then \
		$(MAKE) --no-print-directory demo-docker; \
	else \
		echo "No Docker Engine answers: the same stack as plain processes. Ctrl-C stops it."; \
		$(MAKE) --no-print-directory -C $(DEMO) demo PYTHON=$(PYTHON); \
	fi

demo-docker:
	cd $(DEMO) && docker compose up --detach --build --wait
	cd $(DEMO) && docker compose exec -T web python manage.py seed_articles
	cd $(DEMO) && docker compose exec -T web python manage.py topology
	@echo
	@echo "The site: http://localhost:$(DEMO_PORT)/    The project: $(DEMO)"
	@echo "Stop it: make demo-down (its data goes too), or in $(DEMO): docker compose down (its data stays)"

demo-down:
	cd $(DEMO) && docker compose --profile '*' down --volumes

# Everything. Without an engine the Docker tier is skipped, and says so; REQUIRE_DOCKER=1 makes that an error.
test: test-fast test-devstack test-stack

test-fast: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/shellcheck .ci/run tests/engine/install tests/engine/debian-mirror tests/base_images/build \
		tests/base_images/postgres/docker-entrypoint.sh
	$(VENV)/bin/hadolint tests/base_images/postgres/Dockerfile tests/base_images/python/Dockerfile
	$(VENV)/bin/pytest -n 2 -rs tests/fast

test-devstack: $(VENV)/installed
	$(VENV)/bin/pytest -n 2 --dist loadfile -rs --durations 15 tests/devstack

# Two workers, here and above: a test that waits for one stack leaves the processors to another.
test-stack: $(VENV)/installed
	$(VENV)/bin/pytest -n 2 --dist loadfile -rs --durations 15 tests/stack tests/torture

# The statistical attacks at full length, where `make test` runs a small fixed amount of each: about an hour. It prints its
# seed; TORTURE_SEED=… repeats a run. Each amount can be given, too: make torture FAULTS=5
torture: export TORTURE_ROUNDS ?= 2
torture: export FAULTS ?= 20
torture: export STALE_VISITS ?= 100
torture: export PGBOUNCER_RESTARTS ?= 20
torture: export FIRST_BOOT_KILLS ?= 40
torture: export DOCKER_BOOT_KILLS ?= 15
torture: export LIVE_INDEX ?= 1
torture: $(VENV)/installed
	export TORTURE_SEED=$${TORTURE_SEED:-$$(date +%s)}; echo "TORTURE_SEED=$$TORTURE_SEED"; \
	$(VENV)/bin/pytest -rs -s --timeout 7200 tests/torture tests/devstack/test_first_boot.py \
		tests/stack/test_choices.py::test_no_request_fails_on_a_stale_connection \
		tests/stack/test_choices.py::test_no_request_fails_while_pgbouncer_is_restarted \
		tests/stack/test_development.py tests/devstack/test_development.py

# Django's own tests through the generated project's databases, against plain Django: hours, and needs a Docker Engine. Outcomes
# and logs stay in .test/django-suite/. usage: make django-suite [DJANGO=5.2] [ONLY="pool-transaction"] [LABELS="transactions"]
DJANGO ?= 6.1
django-suite: $(VENV)/installed
	$(VENV)/bin/python -m tests.django_suite --django $(DJANGO) $(ONLY) $(LABELS)

# What each pooling choice is worth: about 70 minutes, and needs a Docker Engine. Stopped, it goes on where it was. The quick
# one, about 7 minutes, is one round of the most important, and only prints.
bench: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.pooling

bench-quick: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.pooling --rounds 1 default-0 default-1 choices

# Four routers, the same load and faults: about 11 minutes, and benchmarks/ is written anew. The quick one only prints.
race: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.race

race-quick: $(VENV)/installed
	$(VENV)/bin/python -m benchmarks.race --quick

# After editing pyproject.toml here or in the generated project.
lock: $(VENV)/installed
	$(VENV)/bin/python -m tests.lock
