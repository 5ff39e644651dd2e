#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes, changes and deletes snapshots, and takes origins back to them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cowsnap_snapshot
short_description: Make or delete a cowsnap snapshot, or roll an origin back to it
description:
  - A snapshot is what one block device, its origin, was at one moment. It is made while the device is in use.
  - A snapshot that is there is never made anew. To have a newer one, give it another name or delete the old one.
author:
  - The cowsnap project
extends_documentation_fragment:
  - cowsnap.cowsnap.cowsnap
options:
  name:
    description: The name of the snapshot. One that is there may also be named by its UUID.
    type: str
    required: true
  origin:
    description:
      - The origin, by name, UUID or device. A device that is not attached is attached first.
      - Needed if the snapshot is not there yet. If it is, and is of another origin, the task fails, whatever I(state) is.
    type: str
  store:
    description:
      - The name of the store, if there are several. Snapshots in other stores are not looked at then.
      - If the device has to be attached, this is the store to which its old blocks go.
    type: str
  description:
    description: What to say of the snapshot. If it is not given, what is there stays.
    type: str
  tags:
    description: The tags that the snapshot has, these and no others. If they are not given, those that it has stay.
    type: list
    elements: str
  holds:
    description: Holds that the snapshot has. Others stay. A snapshot that has a hold is not deleted by anybody.
    type: list
    elements: str
    default: []
  released:
    description:
      - Holds that the snapshot does not have. With I(state=absent) they are released before it is deleted.
      - A hold that is in I(holds), too, is refused.
    type: list
    elements: str
    default: []
  expires:
    description:
      - When C(snapd-cli prune) may delete the snapshot. As C(2030-12-31), C(2030-12-31 18:00) in local time of the machine, or C(never).
      - A span such as C(30m) (minutes), C(12h), C(30d) or C(8w) counts from the making of the snapshot. One that is there keeps its time then.
    type: str
  writable:
    description: Whether the snapshot may be written to when it is active. This cannot be changed later; if it differs the task fails.
    type: bool
  confirm_rollback:
    description:
      - Must be C(true) for I(state=rolled_back). Else the task fails if there is something to roll back, in check mode, too.
      - A rollback replaces what is on the origin now. What is there now is kept as the snapshot I(undo_name).
    type: bool
    default: false
  undo_name:
    description:
      - The name of the snapshot that keeps what is on the origin now, if it is rolled back. If it is not given, C(undo-) and the name.
      - It is also how a second run knows this rollback. As long as it is there and was not cancelled or undone, nothing is rolled back
        again. To roll back to the same snapshot once more, delete it or give another name; if it was cancelled or undone, the task fails
        until that is done.
    type: str
  schedule:
    description:
      - If the origin is in use, have the rollback begin when it is attached the next time, such as at boot, before file systems are mounted.
      - Without it, the rollback of an origin that is in use fails.
    type: bool
    default: false
  force:
    description: Roll back although the snapshot is stale, which means that it is not exactly what the origin was.
    type: bool
    default: false
  state:
    description:
      - With C(present) the snapshot is there.
      - With C(absent) it is not. What is held, active and open, or needed by a rollback is not deleted.
      - With C(rolled_back) its origin was taken back to it. This needs I(confirm_rollback=true).
    type: str
    choices: [present, absent, rolled_back]
    default: present
"""

EXAMPLES = r"""
- name: Have a snapshot of the device that is mounted on /srv
  cowsnap.cowsnap.cowsnap_snapshot:
    name: before-upgrade
    origin: /dev/sdb1
    tags: [upgrade]
    expires: 30d

- name: Take the origin back to it, at the next boot if it is in use now
  cowsnap.cowsnap.cowsnap_snapshot:
    name: before-upgrade
    state: rolled_back
    confirm_rollback: true
    schedule: true

- name: Delete it although the backup still holds it
  cowsnap.cowsnap.cowsnap_snapshot:
    name: before-upgrade
    state: absent
    released: [backup]
"""

RETURN = r"""
snapshot:
  description: The snapshot, as C(snapd-cli list --json) shows it. Not in check mode if it would have to be made.
  returned: when there is one
  type: dict
  sample:
    name: before-upgrade
    origin: srv
    store: main
    state: active
    created: 1767225600
    expires: 1769817600
    tags: [upgrade]
    holds: []
    writable: false
    consistency: file-system
origin:
  description: The origin, as C(snapd-cli origin list --json) shows it. Its C(rollback) says whether blocks are copied back still.
  returned: with state C(rolled_back)
  type: dict
  sample:
    name: srv
    device: /dev/mapper/cowsnap-srv
    rollback: running
    rollback_target: before-upgrade
    rollback_undo: undo-before-upgrade
commands:
  description: The commands of snapd-cli that changed something, or that would have in check mode.
  returned: always
  type: list
  elements: str
  sample: ["snapd-cli create --name=before-upgrade -- /dev/sdb1"]
error:
  description: The name of the error, such as C(NotFound), C(Held), C(NotConfirmed).
  returned: on failure
  type: str
  sample: NotConfirmed
"""

import re
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.cowsnap.cowsnap.plugins.module_utils.cowsnap import Refused, run_module

NO_ROLLBACK = "none"


def check_holds(params):
    """Refuses what cannot be: a hold that the snapshot has and does not have."""
    both = sorted(set(params["holds"]) & set(params["released"]))
    if both:
        raise Refused(f'"holds" says that the snapshot {params["name"]} has what "released" says that it does not have: {", ".join(both)}. '
                      f"Take it out of one of them.")


def shown(snapshot):
    """What of a snapshot this module looks after, for the diff."""
    keys = ("name", "origin", "store", "description", "tags", "holds", "expires", "writable")
    return {key: snapshot[key] for key in keys} if snapshot else {}


def operand(snapshot):
    """How snapd-cli is told which snapshot; names need not be unique."""
    return snapshot["uuid"]


def is_span(expires):
    return re.fullmatch(r"[0-9]+[mhdw]", expires) is not None


def expiry(expires):
    """A time that is not a span, in seconds since 1970; 0: never."""
    if expires == "never":
        return 0
    for pattern in ("%Y-%m-%d", "%Y-%m-%d %H:%M"):
        try:
            return int(time.mktime(time.strptime(expires, pattern)))
        except (ValueError, OverflowError):
            continue
    raise Refused(f'"{expires}" is no time of expiry: write 30m (minutes), 12h, 30d or 8w (counted from the making of the snapshot), '
                  f'2030-12-31 or "2030-12-31 18:00" (local time), or never')


def described(params):
    """The options of a verb for what can be said of a new snapshot."""
    options = []
    if params["description"]:
        options.append(f"--description={params['description']}")
    options += [f"--tag={tag}" for tag in params["tags"] or []]
    options += [f"--hold={hold}" for hold in params["holds"]]
    if params["expires"] is not None:
        options.append(f"--expires={params['expires']}")
    return options + (["--writable"] if params["writable"] else [])


def check_can_be_made(cowsnap, module):
    """Refuses an origin that cannot be. In check mode, warns of what an earlier task may have made."""
    params = module.params
    wanted, store = params["origin"], params["store"]
    if wanted is None:
        raise Refused(f'there is no snapshot {params["name"]}, and without the option "origin" none can be made', "NotFound")
    origin = cowsnap.find_origin(wanted, store)
    if origin or not module.check_mode:
        return origin
    if not wanted.startswith("/"):
        module.warn(f"there is no origin {wanted} yet: if no earlier task attaches it, this one will fail")
    elif not cowsnap.stores():
        module.warn("there is no store yet: if no earlier task makes one, this one will fail")
    elif store is None and len(cowsnap.stores()) > 1:
        names = ", ".join(one["name"] for one in cowsnap.stores())
        raise Refused(f'cannot attach {wanted}: there are several stores ({names}). Choose one with the option "store".')
    elif store is not None and cowsnap.find_store(store) is None:
        module.warn(f"there is no store {store} yet: if no earlier task makes it, this one will fail")
    return origin


def make(cowsnap, module):
    params = module.params
    if params["expires"] is not None and not is_span(params["expires"]):
        expiry(params["expires"])
    origin = check_can_be_made(cowsnap, module)
    options = [f"--name={params['name']}", *described(params)]
    if params["store"] is not None:
        options.append(f"--store={params['store']}")
    cowsnap.change(f"create the snapshot {params['name']}", ["create"], options,
                   origin["uuid"] if origin and origin["state"] == "attached" else params["origin"])
    return {"name": params["name"], "origin": origin["name"] if origin else params["origin"],
            "description": params["description"] or "", "tags": sorted(params["tags"] or []), "holds": sorted(params["holds"]),
            "expires": params["expires"] or 0, "writable": bool(params["writable"])}


def is_of_another_origin(cowsnap, params, snapshot):
    """Whether the snapshot with that name is not one of the origin that the task names."""
    if params["origin"] is None:
        return False
    origin = cowsnap.find_origin(params["origin"], snapshot["store"])
    return origin is None or origin["name"] != snapshot["origin"]


def check_is_meant(cowsnap, params, snapshot, doing):
    """Refuses to do something to a snapshot of another origin, which has the name by chance only."""
    if is_of_another_origin(cowsnap, params, snapshot):
        raise Refused(f"cannot {doing} the snapshot {snapshot['name']}: it is of the origin {snapshot['origin']} and not of "
                      f"{params['origin']}. Correct the name or the origin.", "InvalidArgument")


def check_same(cowsnap, params, snapshot):
    """Refuses what cannot be changed of a snapshot."""
    if is_of_another_origin(cowsnap, params, snapshot):
        raise Refused(f"there is a snapshot {snapshot['name']} already, of the origin {snapshot['origin']} and not of "
                      f"{params['origin']}: choose another name, or delete it", "Exists")
    if params["writable"] not in (None, snapshot["writable"]):
        there, wanted = ("writable", "read-only") if snapshot["writable"] else ("read-only", "writable")
        raise Refused(f"the snapshot {snapshot['name']} is {there}, and cannot be made {wanted}: choose another name, or delete it",
                      "Exists")


def change(cowsnap, params, snapshot):
    """Makes what can be changed as it is wanted."""
    check_same(cowsnap, params, snapshot)
    after, options = shown(snapshot), []
    if params["description"] not in (None, snapshot["description"]):
        # An empty one must be a word of its own: after "=" it would be taken for missing.
        options += [f"--description={params['description']}"] if params["description"] else ["--description", ""]
        after["description"] = params["description"]
    if params["tags"] is not None and set(params["tags"]) != set(snapshot["tags"]):
        options += [f"--tag={tag}" for tag in sorted(set(params["tags"]) - set(snapshot["tags"]))]
        options += [f"--untag={tag}" for tag in sorted(set(snapshot["tags"]) - set(params["tags"]))]
        after["tags"] = sorted(set(params["tags"]))
    if params["expires"] is not None and not is_span(params["expires"]):
        after["expires"] = expiry(params["expires"])
        if after["expires"] != snapshot["expires"]:
            options.append(f"--expires={params['expires']}")
    name = snapshot["name"]
    if options:
        cowsnap.change(f"change the snapshot {name}", ["modify"], options, operand(snapshot))
    for hold in params["holds"]:
        if hold not in after["holds"]:
            cowsnap.change(f"hold the snapshot {name}", ["hold"], [], hold, operand(snapshot))
            after["holds"] = sorted([*after["holds"], hold])
    release(cowsnap, params, snapshot)
    after["holds"] = [hold for hold in after["holds"] if hold not in params["released"]]
    return after


def release(cowsnap, params, snapshot):
    for hold in params["released"]:
        if hold in snapshot["holds"]:
            cowsnap.change(f"release the snapshot {snapshot['name']}", ["release"], [], hold, operand(snapshot))


def check_can_be_deleted(cowsnap, params, snapshot):
    """Refuses what cowsnapd would refuse. Before holds are released, so that a task that fails leaves them; and in check mode."""
    name = snapshot["name"]
    held = [hold for hold in snapshot["holds"] if hold not in params["released"]]
    if held:
        raise Refused(f"cannot delete the snapshot {name}: it is held ({', '.join(held)}). Name the holds in the option "
                      f'"released" to have them released first.', "Held")
    if snapshot["open"]:
        raise Refused(f"cannot delete the snapshot {name}: it is open as {snapshot['device']}. Unmount it, or stop what uses "
                      f"it, first.", "Busy")
    for origin in cowsnap.origins():
        if origin["rollback"] != NO_ROLLBACK and origin["store"] == snapshot["store"] and name in (
                origin["rollback_target"], origin["rollback_undo"]):
            raise Refused(f"cannot delete the snapshot {name}: the rollback of the origin {origin['name']} ({origin['rollback']}) "
                          f'needs it. Let that end, or cancel it with "snapd-cli cancel {origin["name"]}".', "Busy")


def delete(cowsnap, params, snapshot):
    check_is_meant(cowsnap, params, snapshot, "delete")
    check_can_be_deleted(cowsnap, params, snapshot)
    release(cowsnap, params, snapshot)
    cowsnap.change(f"delete the snapshot {snapshot['name']}", ["delete"], [], operand(snapshot))


def rollback_is_made(origin, snapshot, undo, undo_name):
    """Whether this rollback was made, is being made or is scheduled. undo is the snapshot with that name, if there is one."""
    if origin["rollback"] != NO_ROLLBACK:
        if origin["rollback_target"] == snapshot["name"]:
            return True
        raise Refused(f"cannot roll the origin {origin['name']} back to {snapshot['name']}: it has a rollback to "
                      f"{origin['rollback_target'] or 'what was before another one'} ({origin['rollback']}). Let that end, or cancel "
                      f'it with "snapd-cli cancel {origin["name"]}".', "Busy")
    if undo is None:
        return False
    if (origin.get("rolled_back_to"), origin.get("rolled_back_undo")) == (snapshot["name"], undo_name):
        return True
    if undo["origin"] == origin["name"] and undo["id"] > snapshot["id"]:
        raise Refused(f"the origin {origin['name']} is not known to be rolled back to {snapshot['name']}, and what is there now could not "
                      f"be kept as {undo_name}: there is such a snapshot, left by a rollback that was cancelled or undone. Delete it, or "
                      f'choose another name with the option "undo_name".', "Exists")
    raise Refused(f"cannot roll the origin {origin['name']} back to {snapshot['name']}: what is there now could not be kept as "
                  f"{undo_name}, because there is another snapshot with that name. Delete that, or choose another name with the "
                  f'option "undo_name".', "Exists")


def check_can_be_rolled_back(module, origin, snapshot):
    """Refuses what is not confirmed; and in check mode, what cowsnapd would refuse as far as that shows."""
    params, name = module.params, snapshot["name"]
    if not params["confirm_rollback"]:
        raise Refused(f"rolling the origin {origin['name']} back to {name} replaces what is on it now, and was not confirmed. If this "
                      f'is what you want, set "confirm_rollback: true" (with the role cowsnap: "cowsnap_rollback_confirmed: true").',
                      "NotConfirmed")
    if not module.check_mode:
        return
    if snapshot["state"] == "stale" and not params["force"]:
        raise Refused(f"cannot roll back: the snapshot {name} is stale, so it is not what the origin was. To go back to what it "
                      f'has all the same, set "force: true".', "Stale")
    if snapshot["state"] == "lost":
        raise Refused(f"cannot roll back: the snapshot {name} is lost, it missed writes of its origin", "Overflowed")
    if snapshot["state"] == "damaged":
        raise Refused(f"cannot roll back: the snapshot {name} is damaged, some of its blocks cannot be read", "MetadataCorrupt")
    if snapshot["open"] and not params["schedule"]:
        raise Refused(f"cannot roll back: the snapshot {name} is open as {snapshot['device']}. Unmount it first.", "Busy")


def state_to_be(cowsnap, doing, options, snapshot):
    """In check mode, of a rollback that is not refused: whether it would begin now, or has to wait."""
    refusal = cowsnap.refusal(doing, ["rollback"], [option for option in options if option != "--schedule"], operand(snapshot))
    return "scheduled" if refusal and refusal.error == "Busy" else "running"


def roll_back(cowsnap, module, snapshot):
    params = module.params
    if snapshot is None:
        raise Refused(f'there is no snapshot "{params["name"]}" to roll back to. "snapd-cli list" shows those that are there.',
                      "NotFound")
    check_is_meant(cowsnap, params, snapshot, "roll back to")
    origin = cowsnap.find_origin(snapshot["origin"], snapshot["store"])
    undo_name = params["undo_name"] or f"undo-{snapshot['name']}"
    undo = cowsnap.find_snapshot(undo_name, snapshot["store"])
    before = {"origin": origin["name"], "rollback": origin["rollback"], "rolled_back_to": None}
    if rollback_is_made(origin, snapshot, undo, undo_name):
        before["rolled_back_to"] = snapshot["name"]
        return before, before, origin
    check_can_be_rolled_back(module, origin, snapshot)
    doing = f"roll back to {snapshot['name']}"
    options = [f"--undo-name={undo_name}", *(f"--{key}" for key in ("schedule", "force") if params[key])]
    try:
        answer = cowsnap.change(doing, ["rollback"], options, operand(snapshot))
    except Refused as refused:
        if refused.error == "Busy" and not params["schedule"] and not snapshot["open"]:
            raise Refused(f'{refused}. In a task this is the option "schedule: true".', refused.error, **refused.details) from None
        raise
    state = answer["state"] if answer else state_to_be(cowsnap, doing, options, snapshot)
    return before, {**before, "rollback": state, "rolled_back_to": snapshot["name"]}, cowsnap.find_origin(origin["uuid"])


def work(cowsnap, module):
    params = module.params
    name, store = params["name"], params["store"]
    check_holds(params)
    snapshot = cowsnap.find_snapshot(name, store)
    if params["state"] == "rolled_back":
        before, after, origin = roll_back(cowsnap, module, snapshot)
        return before, after, {"snapshot": snapshot, "origin": origin}
    after = {}
    if params["state"] == "absent":
        if snapshot:
            delete(cowsnap, params, snapshot)
    elif snapshot:
        after = change(cowsnap, params, snapshot)
    else:
        after = make(cowsnap, module)
    now = cowsnap.find_snapshot(name, store) if cowsnap.commands else snapshot
    return shown(snapshot), after if module.check_mode else shown(now), {"snapshot": now} if now else {}


def main():
    run_module(AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "origin": {"type": "str"},
            "store": {"type": "str"},
            "description": {"type": "str"},
            "tags": {"type": "list", "elements": "str"},
            "holds": {"type": "list", "elements": "str", "default": []},
            "released": {"type": "list", "elements": "str", "default": []},
            "expires": {"type": "str"},
            "writable": {"type": "bool"},
            "confirm_rollback": {"type": "bool", "default": False},
            "undo_name": {"type": "str"},
            "schedule": {"type": "bool", "default": False},
            "force": {"type": "bool", "default": False},
            "state": {"type": "str", "choices": ["present", "absent", "rolled_back"], "default": "present"},
        },
        supports_check_mode=True), work)


if __name__ == "__main__":
    main()
