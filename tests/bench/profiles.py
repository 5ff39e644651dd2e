# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the time goes while a load runs, by perf's samples of the clock. In a machine that counts instructions these are samples of
instructions; what runs with interrupts off is sampled at its end."""

import shutil
import subprocess

# A prime number of samples a second, so that nothing that is regular is missed or met each time.
SAMPLES_HZ = 4999


def words(name, directory):
    """In the guest: in front of a program's."""
    directory.mkdir(exist_ok=True)
    symbols = directory / "kallsyms"
    if not symbols.exists():
        shutil.copyfile("/proc/kallsyms", symbols)
    return ["perf", "record", "--all-cpus", "--event=cpu-clock", f"--freq={SAMPLES_HZ}", "--quiet",
            f"--output={directory / name}.data", "--"]


def report(directory, to):
    """On the host: a text for each profile, in DIR/NAME.txt."""
    to.mkdir(parents=True, exist_ok=True)
    for data in sorted(directory.glob("*.data")):
        done = subprocess.run(["perf", "report", "--force", f"--input={data}", f"--kallsyms={directory / 'kallsyms'}", "--stdio",
                               "--no-children", "--sort=comm,dso,symbol", "--show-nr-samples"],
                              capture_output=True, text=True, check=False)
        (to / f"{data.stem}.txt").write_text(done.stdout + done.stderr)
