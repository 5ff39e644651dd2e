#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Inside the guest: measures what /bed/plan.json asks for, in its order, and appends a line of JSON for each measurement to
/bed/results.jsonl.

A measurement sets its peer up on the devices of its group, with so many snapshots, writes with fio, compares snapshots with what they were
before, and takes all down again. See plan.py for the words of a measurement.
"""

import json
import os
import pathlib
import subprocess
import sys
import time

import large
import operations
from devices import CONFIGFS, Devices, Failed, run
from peers import PEERS

BED = pathlib.Path("/bed")
IMAGES = BED / "images"


def measure(devices, spec):
    operation = spec["operation"]
    if operation == "plain":
        return operations.plain(devices, spec)
    reads = operation in ("read_oldest", "read_newest")
    between = operations.Spread(devices, spec["snapshots"], spec["seed"]) if reads else None
    image = IMAGES / f"{spec['image']}.packed" if spec["image"] else None
    stamped = json.loads((IMAGES / f"{spec['image']}.json").read_text())["stamped"] if image else []
    peer = PEERS[spec["peer"]](devices, spec["snapshots"], writable=operation == "write_snapshot", between=between, image=image)
    if operation == "activate":
        return large.activate(peer, spec, stamped)
    tops = peer.setup()
    try:
        if reads:
            return operations.read_snapshot(peer, spec)
        if operation == "delete":
            return large.delete(peer, tops, spec, stamped)
        return {"write": operations.write, "write_snapshot": operations.write_snapshot,
                "roll_back": operations.roll_back, "create": large.create}[operation](peer, tops, spec)
    finally:
        peer.teardown()


def remove_all(parts):
    """What a measurement that failed has left must not be in the way of all that follow. parts: mapped devices that stay."""
    # those that others are above are busy until these are gone
    for _ in range(8):
        names = {line.split()[0] for line in run("dmsetup", "ls").splitlines() if "(" in line} - set(parts)
        for name in names:
            subprocess.run(["dmsetup", "remove", name], capture_output=True, check=False)


def prepare():
    module = os.environ["MODULE"]
    needs = [name for name in run("modinfo", "-F", "depends", module).strip().split(",") if name]
    # udev loads it where the CPU can do that
    subprocess.run(["modprobe", "--quiet", "crc32c-intel"], check=False)
    run("modprobe", "-a", "dm-mod", "null_blk", "dm-snapshot", "dm-thin-pool", *needs)
    run("insmod", module)
    if not CONFIGFS.exists():
        run("mount", "-t", "configfs", "configfs", "/sys/kernel/config")


def main():
    plan = json.loads((BED / "plan.json").read_text())
    prepare()
    with open(BED / "results.jsonl", "a", encoding="utf-8") as results:
        for group in plan["groups"]:
            devices = Devices(**group["devices"])
            for spec in group["measurements"]:
                began = time.monotonic()
                spec["profile"] = "-".join(str(spec[key]) for key in ("cell", "peer", "snapshots", "round")) if plan["profiled"] else None
                try:
                    result = measure(devices, spec)
                except (Failed, OSError, subprocess.CalledProcessError) as error:
                    result = {"failed": str(error)}
                    remove_all(devices.parts)
                    # nobody knows what is in the pool
                    devices.thin_filled = False
                print(f"{time.monotonic():8.2f} {spec['cell']} round {spec['round']} {spec['peer']} {spec['snapshots']}: "
                      f"{result.get('failed') or round(result['iops'], 1)}, {time.monotonic() - began:.1f} s", flush=True)
                results.write(json.dumps({**spec, "devices": group["devices"], **result}) + "\n")
                results.flush()
            devices.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
