"""`make race`: a new project of the template, the race in it, and what came out: the samples, the table, the figure."""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from benchmarks.race import report
from tests.baking import cli

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results"


def run(*command: str | Path, cwd: Path, output: IO[str] | None = None, **env: str) -> int:
    """In a session of its own: Ctrl-C reaches this program only, which passes it on once, and waits until the databases
    are stopped.
    """
    process = subprocess.Popen(
        command, cwd=cwd, env=os.environ | env, stdout=output, stderr=output, start_new_session=True
    )
    try:
        return process.wait()
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGINT)
        process.wait()
        raise


def quietly(*command: str | Path, cwd: Path) -> None:
    with tempfile.TemporaryFile("w+") as output:
        if run(*command, cwd=cwd, output=output):
            output.seek(0)
            sys.exit(f"{output.read()}\n{' '.join(map(str, command))} has failed")


def main() -> None:
    # SIGTERM as Ctrl-C, and Ctrl-C also where a shell's background job began with it ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.race", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="shorter phases; the table is printed, nothing is kept")
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="leave the project, its data and its logs there")
    options = parser.parse_args()
    with ExitStack() as stack:
        scratch = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="race-")))
        print("A project of the template, with two replicas and both competitors (half a minute) …", flush=True)
        baked = cli(scratch, project_name="Race", project_slug="race_site", replicas="2")
        if baked.returncode:
            sys.exit(baked.stderr)
        project = scratch / "race_site"
        quietly("make", ".venv/installed", f"PYTHON={sys.executable}", cwd=project)
        python = project / ".venv" / "bin" / "python"
        install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement")
        quietly(python, *install, HERE / "requirements.txt", cwd=project)
        samples = scratch / "race.jsonl"
        arguments = [samples, str(options.rounds), str(int(options.quick))]
        if run(python, HERE / "run.py", *arguments, cwd=project, PYTHONPATH=str(project)):
            sys.exit("The race has failed. With --keep DIRECTORY its logs stay.")
        text = samples.read_text()
    if options.quick:
        print(report.markdown(report.Results(text)))
    else:
        report.write(text, RESULTS, HERE.parent / "README.md")


main()
