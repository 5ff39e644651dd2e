# SPDX-License-Identifier: GPL-2.0-or-later
"""Talks to cowsnapd through "snapd-cli --json", for the modules of this collection.

Knows how to run it, what its JSON and its exit codes say, how to find things by name, and how to turn a failure into a
message that tells what to do. What is to be changed is the affair of the modules.
"""

from __future__ import annotations

import json
import os
import stat

# The version of the JSON that this was written for.
SCHEMA = 1

# What to do next, by the name of the error, where the daemon's own message cannot know it: it does not know of Ansible.
NEXT_STEPS = {
    "NoDaemon": 'Start it with "systemctl start cowsnapd"; "journalctl -u cowsnapd" tells why it does not run.',
    "NotAuthorized": 'Run the task as root, with "become: true".',
    "Held": 'Name the holds in the option "released" to have them released first.',
    "MetadataCorrupt": '"cowsnap-store check" on the devices of the store tells what is damaged.',
}

# Verbs that the daemon can judge before anything is changed, whatever else the task does.
ASKED_BEFORE = {("store", "create"), ("store", "extend"), ("origin", "attach"), ("rollback",)}


def same_device(one, other):
    """Whether two paths lead to one block device."""
    if os.path.normpath(one) == os.path.normpath(other):
        return True
    try:
        of_one, of_other = os.stat(one), os.stat(other)
    except OSError:
        return False
    return stat.S_ISBLK(of_one.st_mode) and stat.S_ISBLK(of_other.st_mode) and of_one.st_rdev == of_other.st_rdev


class Refused(Exception):
    """What keeps a task from being done. error is the name of an error of the daemon's."""

    def __init__(self, message, error="InvalidArgument", **details):
        super().__init__(message)
        self.error = error
        self.details = details


class Cowsnap:
    """The daemon of the managed machine, as one run of a module sees it."""

    def __init__(self, module):
        self._module = module
        self._program = module.get_bin_path("snapd-cli")
        # What was changed, or would be in check mode.
        self.commands = []
        if self._program is None:
            raise Refused('snapd-cli is not installed on this machine. Install the package cowsnap-cli; the role '
                          'cowsnap.cowsnap.cowsnap does.', "NotInstalled")

    def stores(self):
        return self._read("store", "list")["stores"]

    def origins(self):
        return self._read("origin", "list")["origins"]

    def snapshots(self):
        return self._read("list")["snapshots"]

    def change(self, doing, verb, options, *operands):
        """Runs a verb that changes something, unless in check mode. Its answer, or nothing in check mode.

        doing says what it is good for, such as "create the store main". No operand is ever taken for an option.
        """
        rest = [*options, *(["--", *operands] if operands else [])]
        self.commands.append(" ".join(["snapd-cli", *verb, *rest]))
        if self._module.check_mode:
            refusal = self.refusal(doing, verb, options, *operands) if tuple(verb) in ASKED_BEFORE else None
            # What an earlier task makes is not there yet.
            if refusal and refusal.error != "NotFound":
                raise refusal
            return None
        return self._run(doing, [*verb, "--json", "--yes", *rest])

    def refusal(self, doing, verb, options, *operands):
        """How the daemon would refuse a verb, which it only checks; None if it would not."""
        try:
            self._run(doing, [*verb, "--json", "--yes", "--dry-run", *options, *(["--", *operands] if operands else [])])
        except Refused as refused:
            return refused
        return None

    def find_store(self, wanted):
        """The store with this name or UUID, or None."""
        return self._only([store for store in self.stores() if wanted in (store["name"], store["uuid"])],
                          f'stores named "{wanted}"', "Name one by its UUID.")

    def find_origin(self, wanted, store=None):
        """The origin with this name, UUID or device, or None."""
        found = [origin for origin in self.origins()
                 if wanted in (origin["name"], origin["uuid"])
                 or wanted.startswith("/") and any(same_device(wanted, origin[key])
                                                   for key in ("device", "backing_device") if origin[key])]
        if store and len(found) > 1:
            found = [origin for origin in found if origin["store"] == store]
        return self._only(found, f'origins "{wanted}"', "Name one by its UUID.")

    def find_snapshot(self, wanted, store=None):
        """The snapshot with this name or UUID, in this store or in any, or None."""
        found = [snapshot for snapshot in self.snapshots()
                 if wanted in (snapshot["name"], snapshot["uuid"]) and store in (None, snapshot["store"])]
        return self._only(found, f'snapshots named "{wanted}"', 'Name its store with the option "store".')

    @staticmethod
    def _only(found, what, advice):
        if len(found) > 1:
            raise Refused(f"there are several {what}. {advice}")
        return found[0] if found else None

    def _read(self, *words):
        return self._run("ask cowsnapd what there is", [*words, "--json"])

    def _run(self, doing, words):
        code, output, errors = self._module.run_command([self._program, *words])
        details = {"cmd": " ".join(["snapd-cli", *words]), "rc": code}
        try:
            answer = json.loads(output)
            schema = answer["schema"]
        except (ValueError, TypeError, KeyError):
            said = (errors.strip() or output.strip() or "nothing")[:2000]
            raise Refused(f"cannot {doing}: snapd-cli ended with {code} and said, instead of an answer: {said}",
                          "Failed", **details) from None
        if schema != SCHEMA:
            raise Refused(f"cannot {doing}: snapd-cli answers in version {schema} of its JSON, this collection knows version "
                          f"{SCHEMA}. Install the collection and the package cowsnap-cli of the same version.",
                          "NotSupported", **details)
        if "error" in answer:
            name, message = answer["error"]["name"], answer["error"]["message"]
            raise Refused(with_next_step(f"cannot {doing}: {message}", name), name, **details)
        if code != 0:
            raise Refused(f"cannot {doing}: snapd-cli ended with {code} without telling why. {errors.strip()}", "Failed", **details)
        for line in errors.splitlines():
            self._module.warn(line.removeprefix("snapd-cli: "))
        return answer


def with_next_step(message, error):
    """The message, and what to do next if that is known."""
    step = NEXT_STEPS.get(error)
    return f"{message.rstrip('.')}. {step}" if step else message


def run_module(module, work):
    """Does the work of a module, which gets the Cowsnap and answers before, after and the results to return.

    Something was changed if a command was run, or would have been.
    """
    try:
        cowsnap = Cowsnap(module)
        before, after, results = work(cowsnap, module)
    except Refused as refused:
        module.fail_json(msg=str(refused), error=refused.error, **refused.details)
    module.exit_json(changed=bool(cowsnap.commands), commands=cowsnap.commands, diff={"before": before, "after": after}, **results)
