# SPDX-License-Identifier: GPL-2.0-or-later
"""What fio does and measures, and what the machine counts meanwhile."""

import json
import os
import pathlib
import random
import re
import signal
import statistics
import subprocess
import time

import profiles
from devices import BLOCK, MIB, Failed, run

OUTPUT = pathlib.Path("/run/fio.json")
LOG = pathlib.Path("/run/log")
SCATTERED = pathlib.Path("/run/scattered")
CHUNK = 64 << 10
# Copied by fio when its first write is about to begin, and when its last one has ended: it takes longer to start than to write.
STAT, STAT_BEFORE, STAT_AFTER = pathlib.Path("/proc/stat"), pathlib.Path("/run/stat.before"), pathlib.Path("/run/stat.after")
PROFILES = pathlib.Path("/bed/profiles")
TRACE = pathlib.Path("/sys/kernel/tracing/events/block/block_rq_issue")
# fio's threads are there, and the first writes are over.
WARM_UP_S = 1.5
# Times of fio's log are in whole ms.
TICK_S = 0.001
# Writes in the background end before, and each one sooner.
MOST_S = 3600


def cpu_seconds(stat):
    """Of all CPUs, whatever was done in them."""
    words = stat.read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _, _, irq, softirq = (int(word) for word in words[:7])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def difference(after, before):
    return {device: {key: after[device][key] - before[device][key] for key in after[device]} for device in before}


def fio_words(spec):
    """Of all jobs. fio takes a seed only if it is not to repeat its own choices. It is to cost little itself: it takes all writes that have
    ended at once, without the kernel, and does not look at the clock for what nobody asks for."""
    return ["fio", "--name=global", "--direct=1", "--ioengine=libaio", f"--iodepth={spec['depth']}", f"--rw={spec['rw']}",
            f"--iodepth_batch_complete_max={spec['depth']}", "--userspace_reap", "--disable_slat=1", "--disable_bw_measurement=1",
            f"--bs={spec['bs']}", "--randrepeat=0", f"--randseed={spec['seed']}", "--output-format=json", f"--output={OUTPUT}",
            f"--exec_prerun=cp {STAT} {STAT_BEFORE}", f"--exec_postrun=cp {STAT} {STAT_AFTER}"]


def scattered(path, size, seed):
    """What fio is to replay: a write of a block in each 64 KiB of the device, in random order."""
    choices = random.Random(seed)
    offsets = [chunk + BLOCK * choices.randrange(CHUNK // BLOCK) for chunk in range(0, size, CHUNK)]
    choices.shuffle(offsets)
    return "\n".join(["fio version 2 iolog", f"{path} add", f"{path} open",
                      *(f"{path} write {offset} {BLOCK}" for offset in offsets), f"{path} close", ""])


def load(paths, spec, mib):
    """Until the time is over or every block was written; what fio says of all paths together. mib: of each of them."""
    words = fio_words(spec)
    if spec["apart"]:
        SCATTERED.write_text("".join(scattered(path, mib * MIB, spec["seed"]) for path in paths))
        words += [f"--read_iolog={SCATTERED}", "--replay_no_stall=1"]
    if spec["fsync"]:
        words.append(f"--fsync={spec['fsync']}")
    if spec["seconds"]:
        words.append(f"--runtime={spec['seconds']}")
        if spec["again"] or spec["over_and_over"]:
            words.append("--time_based")
    if spec["series"]:
        words += [f"--write_iops_log={LOG}", f"--log_avg_msec={spec['series']}"]
    if spec["profile"]:
        words = [*profiles.words(spec["profile"], PROFILES), *words]
    run(*words, "--group_reporting", *(word for path in paths for word in (f"--name={path}", f"--filename={path}")))
    return json.loads(OUTPUT.read_text())["jobs"][0]


def series():
    """Pairs of milliseconds and I/Os a second."""
    return [[int(word) for word in line.split(",")[:2]] for line in pathlib.Path(f"{LOG}_iops.1.log").read_text().splitlines()]


class Write:
    """One write of a log: when it began and ended, in seconds since 1970, and where."""

    def __init__(self, line):
        ended_ms, latency_ns, _, _, offset = [int(word) for word in line.split(",")[:5]]
        self.ended = ended_ms / 1000
        self.latency = latency_ns / 1e9
        self.began = self.ended - self.latency
        self.offset = offset


class Background:
    """Random writes for as long as the block of "with" takes; writes: all of them, afterwards."""

    def __init__(self, path, spec):
        self._words = [*fio_words(spec), "--norandommap", "--time_based", f"--runtime={MOST_S}", f"--write_lat_log={LOG}", "--log_offset=1",
                       "--log_unix_epoch=1", f"--name={path}", f"--filename={path}"]
        self.writes = []

    def __enter__(self):
        self._fio = subprocess.Popen(self._words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(WARM_UP_S)
        return self

    def __exit__(self, kind, *_):
        self._fio.send_signal(signal.SIGINT)
        errors = self._fio.communicate()[1]
        if kind:
            return
        text = OUTPUT.read_text()
        # in front of it is a line on the signal
        job = json.loads(text[text.index("{"):])["jobs"][0]
        if job["error"]:
            raise Failed(f"fio: {errors.strip() or os.strerror(job['error'])}")
        self.writes = [Write(line) for line in pathlib.Path(f"{LOG}_lat.1.log").read_text().splitlines()]
        if not self.writes:
            raise Failed("nothing was written")
        # without any clock that it looks at itself fio logs whatever was in memory
        if not all(0 < write.latency < MOST_S for write in self.writes):
            raise Failed("fio's log has latencies that cannot be")

    def rate(self, since, until):
        """Writes that ended a second."""
        return sum(since <= write.ended < until for write in self.writes) / (until - since)

    def longest(self, since, until):
        """The longest latency, in seconds, of those that were under way at any time of these."""
        return max((write.latency for write in self.writes if write.ended + TICK_S >= since and write.began <= until), default=0)


class Issued:
    """Counts the requests that reach a device, by their kind: letters of the kernel's, with F behind the first one for FUA."""

    def __init__(self, device):
        self._filter = f"dev=={os.major(device) << 20 | os.minor(device)}"

    def __enter__(self):
        if not TRACE.exists():
            run("mount", "-t", "tracefs", "tracefs", "/sys/kernel/tracing")
        (TRACE / "trigger").write_text(f"hist:keys=rwbs if {self._filter}")
        return self

    def __exit__(self, *_):
        self.text = (TRACE / "hist").read_text()
        (TRACE / "trigger").write_text(f"!hist:keys=rwbs if {self._filter}")

    def kinds(self):
        return kinds_of(self.text)


def kinds_of(histogram):
    return {kind: int(count) for kind, count in re.findall(r"\{ rwbs: (\S+)\s*\} hitcount:\s+(\d+)", histogram)}


def unsafe_writes(kinds):
    """Those that are not durable when they end. A write with data and a flush in front has its F at the beginning."""
    return sum(count for kind, count in kinds.items() if "W" in kind and "F" not in kind.split("W", 1)[1])


class Counted:
    """I/Os of all devices, from its making to end()."""

    def __init__(self, devices):
        self._devices = devices
        self._before = self._counts()

    def _counts(self):
        return {name: device.counts() for name, device in self._devices.counted.items()}

    def end(self):
        run("sync")
        return {"ios": difference(self._counts(), self._before)}


def of_job(job, kind, spec):
    """What fio measured of its reads or writes, and the CPU time that they took."""
    part = job[kind]
    percentile = part["clat_ns"].get("percentile", {})
    result = {"iops": part["iops"], "bytes_per_s": part["bw_bytes"], "writes": part["total_ios"],
              "mean_ns": part["lat_ns"]["mean"], "p50_ns": percentile.get("50.000000"), "p99_ns": percentile.get("99.000000"),
              "cpu_s": cpu_seconds(STAT_AFTER) - cpu_seconds(STAT_BEFORE)}
    if spec["fsync"]:
        # A write and the sync behind it. fio's latency of a sync begins while that write is under way (8 ms where a write and a flush take
        # 4 ms each), so the sum of both would count the write twice.
        result["mean_ns"] = 1e9 * spec["depth"] / part["iops"]
    if spec["series"]:
        result["series"] = series()
    return result


def of_background(background, since, until):
    """The same of writes in the background, in that time."""
    latencies = sorted(write.latency for write in background.writes if since <= write.ended < until)
    if not latencies:
        raise Failed("nothing was written meanwhile")
    return {"iops": len(latencies) / (until - since), "bytes_per_s": None, "writes": len(latencies),
            "mean_ns": 1e9 * statistics.mean(latencies), "p50_ns": 1e9 * statistics.median(latencies),
            "p99_ns": 1e9 * latencies[int(0.99 * (len(latencies) - 1))]}
