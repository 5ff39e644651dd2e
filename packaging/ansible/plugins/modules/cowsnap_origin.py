#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Attaches and detaches origins."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cowsnap_origin
short_description: Attach or detach an origin of cowsnap
description:
  - An origin is a block device that is snapshotted. M(cowsnap.cowsnap.cowsnap_snapshot) attaches a device by itself; this module is for
    those who want to choose the name, the store or the method.
author:
  - The cowsnap project
extends_documentation_fragment:
  - cowsnap.cowsnap.cowsnap
options:
  device:
    description: The device. Needed to attach; to detach, the name will do as well.
    type: path
  name:
    description:
      - The name of the origin. If it is not given, cowsnapd calls it as the device.
      - An origin is not renamed, so the task fails if the device is known under another name.
    type: str
  store:
    description: Name or UUID of the store to which old blocks go. May be left out if there is only one.
    type: str
  method:
    description:
      - With C(stack) its own mapped device is put over the device, which must not be in use. From then on that is to be used.
      - With C(interpose) the device goes on as it is, in use or not.
      - With C(auto) a device that is in use is interposed, and any other one stacked. An attached origin stays as it is.
    type: str
    choices: [auto, stack, interpose]
    default: auto
  boot_policy:
    description:
      - What the boot does if it cannot attach the origin. With C(fail-open) it goes on, and the snapshots become stale; with C(fail-closed) it
        does not mount the device.
      - If it is not given it is left as it is; a new origin is C(fail-open).
      - The initramfs has a copy of it. The role has that made anew.
    type: str
    choices: [fail-open, fail-closed]
  state:
    description:
      - With C(present) the device is attached.
      - With C(absent) it is not. An origin that has snapshots is not detached.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Attach the device that is mounted on /srv, as it is
  cowsnap.cowsnap.cowsnap_origin:
    device: /dev/sdb1
    name: srv
    method: interpose

- name: Not to be mounted at boot unless it is attached
  cowsnap.cowsnap.cowsnap_origin:
    device: /dev/sdb1
    name: srv
    boot_policy: fail-closed

- name: Detach it
  cowsnap.cowsnap.cowsnap_origin:
    name: srv
    state: absent
"""

RETURN = r"""
origin:
  description: The origin, as C(snapd-cli origin list --json) shows it. Not in check mode if it would have to be attached.
  returned: when there is one
  type: dict
  sample:
    name: srv
    state: attached
    method: interposed
    device: /dev/sdb1
    backing_device: /dev/sdb1
    store: main
    snapshots: 0
    boot_policy: fail-open
    rollback: none
commands:
  description: The commands of snapd-cli that changed something, or that would have in check mode.
  returned: always
  type: list
  elements: str
  sample: ["snapd-cli origin attach --method=interpose --name=srv -- /dev/sdb1"]
error:
  description: The name of the error, such as C(NotFound), C(Busy), C(NoDaemon).
  returned: on failure
  type: str
  sample: Busy
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.cowsnap.cowsnap.plugins.module_utils.cowsnap import Refused, run_module, same_device

METHODS = {"stack": "stacked", "interpose": "interposed"}


def shown(origin):
    """What of an origin this module looks after, for the diff."""
    return {key: origin[key] for key in ("name", "state", "method", "backing_device", "store", "boot_policy")} if origin else {}


def find(cowsnap, params):
    return cowsnap.find_origin(params["device"] or params["name"], params["store"])


def check_same(cowsnap, origin, params):
    """Refuses what attaching cannot change."""
    if params["name"] not in (None, origin["name"]):
        raise Refused(f"{params['device']} is known as the origin {origin['name']}, and origins are not renamed: use that name, "
                      f"or detach it first", "Exists")
    if not params["device"].startswith("/") or not any(
            same_device(params["device"], origin[key]) for key in ("backing_device", "device") if origin[key]):
        raise Refused(f"the origin {origin['name']} is of {origin['backing_device']}, not of {params['device']}", "Exists")
    if params["store"] is not None:
        store = cowsnap.find_store(params["store"])
        if store is None or store["name"] != origin["store"]:
            raise Refused(f"the origin {origin['name']} is in the store {origin['store']}, not in {params['store']}: delete its "
                          f"snapshots and detach it to attach it to another store", "Exists")
    method = METHODS.get(params["method"], origin["method"])
    if origin["state"] == "attached" and method != origin["method"]:
        raise Refused(f"the origin {origin['name']} is {origin['method']}, not {method}: detach it first, or leave out the "
                      f'option "method"', "Exists")


def check_store(cowsnap, module, wanted):
    """Warns in check mode of a store that is not there, and that an earlier task may have made."""
    if module.check_mode and (cowsnap.find_store(wanted) is None if wanted else not cowsnap.stores()):
        module.warn(f"there is no store{f' {wanted}' if wanted else ''} yet: if no earlier task makes it, this one will fail")


def attach(cowsnap, module, origin):
    params = module.params
    if origin:
        check_same(cowsnap, origin, params)
        if origin["state"] == "attached":
            return set_boot_policy(cowsnap, module, origin)
    else:
        check_store(cowsnap, module, params["store"])
    options = [f"--method={params['method']}"]
    options += [f"--{key}={params[key]}" for key in ("name", "store") if params[key] is not None]
    if params["boot_policy"] is not None:
        options.append(f"--boot-policy={params['boot_policy']}")
    if origin and params["store"] is None:
        options.append(f"--store={origin['store']}")
    cowsnap.change(f"attach {params['device']}", ["origin", "attach"], options, params["device"])
    return {"boot_policy": "fail-open", **shown(origin), "state": "attached", "backing_device": params["device"],
            **{key: params[key] for key in ("name", "store", "boot_policy") if params[key] is not None}}


def set_boot_policy(cowsnap, module, origin):
    policy = module.params["boot_policy"]
    if policy in (None, origin["boot_policy"]):
        return shown(origin)
    cowsnap.change(f"make the origin {origin['name']} {policy}", ["origin", "set-boot-policy"], [], origin["uuid"], policy)
    return {**shown(origin), "boot_policy": policy}


def detach(cowsnap, module, origin):
    name = origin["name"]
    if module.check_mode and origin["snapshots"]:
        raise Refused(f"cannot detach the origin {name}: it still has snapshots ({origin['snapshots']}). Delete them first.", "Busy")
    cowsnap.change(f"detach the origin {name}", ["origin", "detach"], [], origin["uuid"])
    return {}


def work(cowsnap, module):
    params = module.params
    origin = find(cowsnap, params)
    if params["state"] == "absent":
        after = detach(cowsnap, module, origin) if origin else {}
    else:
        after = attach(cowsnap, module, origin)
    now = find(cowsnap, params) if cowsnap.commands else origin
    return shown(origin), after if module.check_mode else shown(now), {"origin": now} if now else {}


def main():
    run_module(AnsibleModule(
        argument_spec={
            "device": {"type": "path"},
            "name": {"type": "str"},
            "store": {"type": "str"},
            "method": {"type": "str", "choices": ["auto", "stack", "interpose"], "default": "auto"},
            "boot_policy": {"type": "str", "choices": ["fail-open", "fail-closed"]},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ["device"])],
        required_one_of=[("device", "name")],
        supports_check_mode=True), work)


if __name__ == "__main__":
    main()
