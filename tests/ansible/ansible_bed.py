# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of the Ansible collection stand on: the collection, installed as its README says; and a daemon on a private bus
with a fake machine, for which ansible-playbook is run. Knows nothing of what is tested.
"""

import contextlib
import copy
import json
import os
import pathlib
import re
import shutil
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.parent.parent
COLLECTION = SOURCE / "packaging" / "ansible"
LIMIT_S = 300


class Failed(Exception):
    """A promise that does not hold."""


class Skipped(Exception):
    """Why a test cannot be run here."""


def expect(holds, *what):
    if not holds:
        raise Failed("\n".join(one if isinstance(one, str) else json.dumps(one, indent=1) for one in what))


def documented(name):
    """What the README of the collection has under the line <!-- ansible: NAME -->."""
    return re.search(rf"^<!-- ansible: {re.escape(name)} -->\n```\w+\n(.*?)^```$", (COLLECTION / "README.md").read_text(),
                     re.MULTILINE | re.DOTALL)[1]


def examples(module):
    """What a module's documentation has as examples."""
    text = (COLLECTION / "plugins" / "modules" / f"{module}.py").read_text()
    return re.search(r'^EXAMPLES = r"""\n(.*?)"""', text, re.MULTILINE | re.DOTALL)[1]


class Controller:
    """Where Ansible is run: a home of its own, with the collection in it. No network, no configuration of the machine's."""

    def __init__(self, directory):
        self.directory = directory
        home = directory / "home"
        home.mkdir()
        self.collection = home / ".ansible" / "collections" / "ansible_collections" / "cowsnap" / "cowsnap"
        self.environment = {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_CONFIG": str(HERE / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_DEPRECATION_WARNINGS": "0",
            "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback_plugins"),
            "ANSIBLE_CALLBACKS_ENABLED": "results",
            "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
        }

    def install(self):
        self.succeed(["bash", "-ec", documented("install")], cwd=SOURCE)

    def in_directory(self, name):
        """The same with a directory of its own, for a test that runs beside others."""
        other = copy.copy(self)
        other.directory = self.directory / name
        other.directory.mkdir()
        return other

    def run(self, words, environment=None, cwd=None):
        return subprocess.run([str(word) for word in words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="replace", cwd=cwd or self.directory, timeout=LIMIT_S, check=False,
                              env={**self.environment, **(environment or {})})

    def succeed(self, words, **more):
        done = self.run(words, **more)
        expect(done.returncode == 0, f"{' '.join(map(str, words))} ended with {done.returncode}:", done.stdout)
        return done.stdout

    def answer(self, words, environment=None):
        """What a program answers in JSON. Warnings beside it are none of it."""
        done = subprocess.run([str(word) for word in words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, cwd=self.directory, timeout=LIMIT_S, check=False, env={**self.environment, **(environment or {})})
        expect(done.returncode == 0, f"{' '.join(map(str, words))} ended with {done.returncode}:", done.stdout, done.stderr)
        return json.loads(done.stdout)

    def play(self, play, environment=None, options=(), prefix=()):
        """Runs a play, and gives the results of its tasks."""
        playbook = self.directory / "playbook.json"
        playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, **play}]))
        return self.results([*prefix, "ansible-playbook", "-i", "localhost,", "-c", "local", *options, playbook], environment)

    def results(self, command, environment=None):
        """Runs a command that runs plays, and gives the results of their tasks."""
        results = self.directory / "results"
        results.unlink(missing_ok=True)
        results.touch(mode=0o666)
        results.chmod(0o666)  # a test runs as somebody else
        done = self.run(command, {"RESULTS_FILE": str(results), **(environment or {})})
        expect("Traceback" not in done.stdout, done.stdout)
        lines = [json.loads(line) for line in results.read_text().splitlines()]
        expect(lines, "no task gave a result:", done.stdout)
        return lines


class Bed:
    """A machine with a daemon: a program of tests/bus, which this ends."""

    def __init__(self, controller, programs):
        self.controller = controller
        self._process = subprocess.Popen([programs / "tests" / "bus" / "bed-daemon"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=open(controller.directory / "daemon.log", "ab"), text=True)
        bus = self._answer("bus ")
        self.configuration = pathlib.Path(self._answer("configuration "))
        tools = controller.directory / "bin"
        tools.mkdir(exist_ok=True)
        shutil.copy(programs / "tools" / "snapd-cli", tools)
        self.environment = {"DBUS_SYSTEM_BUS_ADDRESS": bus, "PATH": f"{tools}:{os.environ['PATH']}"}

    def _answer(self, beginning):
        line = self._process.stdout.readline().rstrip("\n")
        expect(line.startswith(beginning), f'the daemon said "{line}", not "{beginning}..."')
        return line.removeprefix(beginning)

    def tell(self, line):
        """Something happens to the machine; see tests/bus/bed_daemon.cpp."""
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        self._answer("done")

    def end(self):
        self._process.stdin.close()
        self._process.stdout.close()
        expect(self._process.wait(LIMIT_S) == 0, "the daemon did not end well; see daemon.log")

    def cli(self, *words):
        """What snapd-cli answers, as JSON."""
        return self.controller.answer(["snapd-cli", "--json", *words], self.environment)

    def state(self):
        """All that the daemon has, to compare."""
        return {"stores": self.cli("store", "list"), "origins": self.cli("origin", "list"), "snapshots": self.cli("list")}

    def tasks(self, *tasks, prefix=(), environment=None):
        """Runs tasks, one after the other whatever becomes of each; a result for each."""
        written = [{"ignore_errors": True, "diff": True, **task} for task in tasks]
        results = self.controller.play({"tasks": written}, {**self.environment, **(environment or {})}, prefix=prefix)
        expect(len(results) == len(tasks), "there is not a result for each task", results)
        return results

    def role_variables(self):
        """Of the role, on a machine without packages and systemd."""
        return {"cowsnap_manage_packages": False, "cowsnap_manage_services": False,
                "cowsnap_configuration_directory": str(self.configuration.parent)}

    def role(self, variables, options=(), environment=None):
        play = {"roles": [{"role": "cowsnap.cowsnap.cowsnap", "vars": {**self.role_variables(), **variables}}]}
        return self.controller.play(play, {**self.environment, **(environment or {})}, options=options)


@contextlib.contextmanager
def bed(controller, programs):
    made = Bed(controller, programs)
    try:
        yield made
    finally:
        made.end()


def store(check=False, **arguments):
    return {"cowsnap.cowsnap.cowsnap_store": arguments, "check_mode": check}


def origin(check=False, **arguments):
    return {"cowsnap.cowsnap.cowsnap_origin": arguments, "check_mode": check}


def snapshot(check=False, **arguments):
    return {"cowsnap.cowsnap.cowsnap_snapshot": arguments, "check_mode": check}


def expect_changed(*results):
    for result in results:
        expect(result["outcome"] == "ok" and result["changed"], "this should have changed something:", result)


def expect_same(*results):
    for result in results:
        expect(result["outcome"] == "ok" and not result["changed"], "this should have changed nothing:", result)
        expect(result["diff"]["before"] == result["diff"]["after"], "nothing was changed, but there is a difference:", result)


def expect_failure(result, error, *words):
    """A failure with an error's name, and a message that has these words and is for people."""
    expect(result["outcome"] == "failed", "this should have failed:", result)
    expect(result.get("error") == error, f'the error should be "{error}":', result)
    for word in words:
        expect(word in result["msg"], f'the message should say "{word}":', result)
    expect("Traceback" not in json.dumps(result) and not result.get("changed"), "this is no message for people:", result)


def expect_predicted(predicted, done):
    """Check mode said what was then done."""
    expect_changed(predicted, done)
    expect(predicted["diff"] == done["diff"], "check mode said something else than what was done:", predicted["diff"], done["diff"])
    expect(predicted["commands"] == done["commands"], "check mode named other commands:", predicted["commands"], done["commands"])
