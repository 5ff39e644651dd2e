#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes, extends and closes stores."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cowsnap_store
short_description: Make, extend or close a cowsnap store
description:
  - A store is where cowsnap puts old blocks. It serves any number of origins and snapshots.
  - Stores are made on blank block devices only. cowsnapd refuses a device on which there is something.
author:
  - The cowsnap project
extends_documentation_fragment:
  - cowsnap.cowsnap.cowsnap
options:
  name:
    description: The name of the store. To close one, its UUID will do as well.
    type: str
    default: main
  devices:
    description:
      - The block devices of the store.
      - Those that it does not have yet are appended, in this order. A store is never made smaller, so the task fails if the store has a
        device that is not named here. Volumes that the daemon itself has extended it with, from its volume group, are not asked for.
      - Needed if the store is not there yet.
    type: list
    elements: path
  full_wait_ms:
    description:
      - For how many milliseconds writes to origins wait in a full store before the oldest snapshots are dropped.
      - Counts when the store is made. It is not changed later.
    type: int
  spares:
    description:
      - Blank block devices that the store is extended with before it is full.
      - It has no other spares then. One that it was extended with already is a device of it, and is not named in I(devices).
    type: list
    elements: path
  max_size:
    description: The store is not extended by itself beyond this size, such as C(100G). C(0) is no limit.
    type: bytes
  state:
    description:
      - With C(present) the store is there and has these devices.
      - With C(absent) the store is closed. What is in it stays on its devices, C(snapd-cli store open) brings it back. A store that has
        origins is not closed.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Have a store
  cowsnap.cowsnap.cowsnap_store:
    name: main
    devices:
      - /dev/disk/by-id/nvme-example_1

- name: Give it more room
  cowsnap.cowsnap.cowsnap_store:
    name: main
    devices:
      - /dev/disk/by-id/nvme-example_1
      - /dev/disk/by-id/nvme-example_2

- name: Have it extended by itself
  cowsnap.cowsnap.cowsnap_store:
    name: main
    spares: [/dev/disk/by-id/nvme-example_3]
    max_size: 2T

- name: Close it
  cowsnap.cowsnap.cowsnap_store:
    name: main
    state: absent
"""

RETURN = r"""
store:
  description: The store, as C(snapd-cli store list --json) shows it. Not in check mode if it would have to be made.
  returned: when there is one
  type: dict
  sample:
    name: main
    state: active
    size: 134217728
    used: 1048576
    free: 133169152
    devices: [/dev/sdc]
    origins: 1
    snapshots: 2
commands:
  description: The commands of snapd-cli that changed something, or that would have in check mode.
  returned: always
  type: list
  elements: str
  sample: ["snapd-cli store create --name=main -- /dev/sdc"]
error:
  description: The name of the error, such as C(NotFound), C(Busy), C(NoDaemon).
  returned: on failure
  type: str
  sample: Busy
"""

import re

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.cowsnap.cowsnap.plugins.module_utils.cowsnap import Refused, run_module, same_device


def shown(store, params):
    """What of a store this task looks after, for the diff."""
    if not store:
        return {}
    named = {"spares": store["spares"], "max_size": store["autoextend_max_bytes"]}
    return {"name": store["name"], "devices": store["devices"], **{key: named[key] for key in named if params[key] is not None}}


def make(cowsnap, module):
    name, devices = module.params["name"], module.params["devices"]
    if not devices:
        raise Refused(f'there is no store {name}, and without the option "devices" none can be made')
    options = [f"--name={name}"]
    if module.params["full_wait_ms"] is not None:
        options.append(f"--full-wait-ms={module.params['full_wait_ms']}")
    options += [f"--spare={spare}" for spare in module.params["spares"] or []]
    if module.params["max_size"] is not None:
        options.append(f"--max-size={module.params['max_size']}")
    cowsnap.change(f"create the store {name}", ["store", "create"], options, *devices)
    return {"name": name, "devices": devices, **{key: module.params[key] for key in ("spares", "max_size") if module.params[key] is not None}}


def without(paths, others):
    """Those of the paths that lead to none of the others."""
    return [path for path in paths if not any(same_device(path, other) for other in others)]


def made_by_daemon(path):
    """Whether that is a logical volume which the daemon has made to extend a store, in the volume group that the store is in."""
    return re.search("_cowsnap[0-9]+$", path) is not None


def extend(cowsnap, module, store):
    name, devices = store["name"], module.params["devices"]
    if store["state"] == "unusable":
        raise Refused(f"the store {name} is there and cannot be used: {store['problem']}", "Failed")
    if store["state"] != "active":
        module.warn(f"the store {name} is {store['state']}: {store['problem'] or 'see snapd-cli store list'}")
    if devices is None:
        return shown(store, module.params)
    more = without(store["devices"], devices + (module.params["spares"] or []))
    too_many = [path for path in more if not made_by_daemon(path)]
    if too_many:
        raise Refused(f'the store {name} also has {", ".join(too_many)}, and a store cannot be made smaller. Name all of its '
                      f'devices in the option "devices", or close it and make another one.')
    missing = without(devices, store["devices"])
    if missing:
        cowsnap.change(f"extend the store {name}", ["store", "extend"], [], name, *missing)
    return {**shown(store, module.params), "devices": store["devices"] + missing}


def modify(cowsnap, module, store, after):
    """What it is extended with by itself, once it has the devices of after."""
    wanted, most = module.params["spares"], module.params["max_size"]
    options = []
    if wanted is not None:
        has = without(store["spares"], after["devices"])
        gone = without(has, wanted)
        new = without(wanted, has + after["devices"])
        options += [f"--add-spare={spare}" for spare in new] + [f"--remove-spare={spare}" for spare in gone]
        after["spares"] = without(has, gone) + new
    if most is not None and most != store["autoextend_max_bytes"]:
        options.append(f"--max-size={most}")
        after["max_size"] = most
    if options:
        cowsnap.change(f"change what the store {store['name']} is extended with", ["store", "modify"], options, store["name"])
    return after


def close(cowsnap, module, store):
    if module.check_mode and store["origins"]:
        raise Refused(f"cannot close the store {store['name']}: it has origins ({store['origins']}). Detach them first.", "Busy")
    cowsnap.change(f"close the store {store['name']}", ["store", "close"], [], store["uuid"])
    return {}


def work(cowsnap, module):
    name = module.params["name"]
    store = cowsnap.find_store(name)
    if module.params["state"] == "absent":
        after = close(cowsnap, module, store) if store else {}
    else:
        after = modify(cowsnap, module, store, extend(cowsnap, module, store)) if store else make(cowsnap, module)
    now = cowsnap.find_store(name) if cowsnap.commands else store
    return shown(store, module.params), after if module.check_mode else shown(now, module.params), {"store": now} if now else {}


def main():
    run_module(AnsibleModule(
        argument_spec={
            "name": {"type": "str", "default": "main"},
            "devices": {"type": "list", "elements": "path"},
            "full_wait_ms": {"type": "int"},
            "spares": {"type": "list", "elements": "path"},
            "max_size": {"type": "bytes"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True), work)


if __name__ == "__main__":
    main()
