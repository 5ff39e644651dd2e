# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes what each task gave, a line of JSON each, to the file that RESULTS_FILE names."""

from __future__ import annotations

import json
import os

from ansible.parsing.ajson import AnsibleJSONEncoder
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: results
type: aggregate
short_description: Results as lines of JSON
description: For tests that look at what each task gave.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "results"

    def _write(self, result, outcome, loops=False):
        if result._task.loop and not loops:
            return  # each of its items was written
        with open(os.environ["RESULTS_FILE"], "a", encoding="utf-8") as file:
            line = {"task": result._task.get_name(), "outcome": outcome, **result._result}
            file.write(json.dumps(line, cls=AnsibleJSONEncoder) + "\n")

    def v2_runner_on_ok(self, result):
        self._write(result, "ok")

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._write(result, "failed")

    def v2_runner_on_skipped(self, result):
        self._write(result, "skipped")

    def v2_runner_on_unreachable(self, result):
        self._write(result, "unreachable", loops=True)

    def v2_runner_item_on_ok(self, result):
        self._write(result, "ok", loops=True)

    def v2_runner_item_on_failed(self, result):
        self._write(result, "failed", loops=True)

    def v2_runner_item_on_skipped(self, result):
        self._write(result, "skipped", loops=True)
