// SPDX-License-Identifier: GPL-2.0-or-later
// TROUBLESHOOTING.md: each part's trouble is made, the message is the one that the part begins
// with, and what it says to type is typed and helps. What only the boot and packages say is
// compared with their sources by tests/documents.
#include <catch2/catch.hpp>

#include <fstream>
#include <functional>
#include <map>

#include "assembly/activation.h"
#include "bus_bed.h"
#include "cowsnap_dm.h"
#include "recorded_log.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;

namespace {

struct Part {
    std::string message;   ///< with … for what differs
    std::string commands;  ///< lines of a shell
};

/// By the names of the cases; "" is what comes before them.
std::map<std::string, Part> readParts() {
    std::ifstream file(COWSNAP_TROUBLESHOOTING);
    std::map<std::string, Part> parts;
    Part quoted;  // nobody types anything for these
    Part* part = &parts[""];
    bool in_commands = false;
    const std::string case_begins = "<!-- case: ";
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with(case_begins)) {
            const auto end = line.find(" -->");
            part = &parts[line.substr(case_begins.size(), end - case_begins.size())];
        } else if (line.starts_with("<!-- quote: ")) {
            part = &quoted;
        } else if (line == "```sh" || line == "```") {
            in_commands = line == "```sh";
        } else if (in_commands) {
            part->commands += line + "\n";
        } else if (line.starts_with("> ")) {
            part->message += line.substr(2);
        }
    }
    return parts;
}

/// Whether text has what is between the … of a pattern, in that order.
bool isLike(const std::string& text, const std::string& pattern) {
    constexpr std::string_view anything = "…";
    std::size_t at = 0;
    for (std::size_t begin = 0; begin <= pattern.size();) {
        const auto end = std::min(pattern.find(anything, begin), pattern.size());
        const auto found = text.find(pattern.substr(begin, end - begin), at);
        if (found == std::string::npos)
            return false;
        at = found + end - begin;
        begin = end + anything.size();
    }
    return true;
}

CliResult typed(const std::string& commands) {
    const std::string script = "PATH=$(dirname \"$1\"):$PATH\nset -e\n" + commands;
    return runProgram({"bash", "-c", script, "bash", COWSNAP_CLI});
}

/// The machine of the examples.
struct ExampleBed : RecordedLog, BusBed {
    ExampleBed() {
        machine.addDisk("/dev/sdb1", kOriginSectors, "serial-b");
        machine.addDisk("/dev/sdc", kStoreSectors, "serial-c");
        machine.addDisk("/dev/sdd", kStoreSectors, "serial-d");
        must("store create /dev/sdc --name main --no-autoextend");
    }

    void must(const std::string& words) {
        const CliResult result = typed("snapd-cli " + words + "\n");
        INFO(words << ": " << result.errors);
        REQUIRE(result.code == 0);
    }
    void haveOrigin() { must("origin attach /dev/sdb1 --name data"); }
    void haveSnapshot() {
        haveOrigin();
        must("create data --name before-upgrade");
    }
    /// What is said when this is typed, and fails.
    static std::string refused(const std::string& words) {
        const CliResult result = typed("snapd-cli " + words + "\n");
        CHECK(result.code != 0);
        return result.errors;
    }
    static std::string shown(const std::string& words) {
        return typed("snapd-cli " + words + "\n").output;
    }
};

struct Trouble {
    std::function<std::string(ExampleBed&)> make;  ///< the message that comes of it
    std::function<void(ExampleBed&)> check;        ///< once the commands were typed
};

void noSnapshots(ExampleBed& /*bed*/) {
    CHECK(ExampleBed::shown("list --no-headings").empty());
}

void onlyFresh(ExampleBed& /*bed*/) {
    CHECK(ExampleBed::shown("list --no-headings -o name,state") == "fresh  active\n");
}

const std::map<std::string, Trouble>& troubles() {
    static const std::map<std::string, Trouble> all{
        {"stale",
         {[](ExampleBed& bed) {
              bed.haveSnapshot();
              bed.machine.writtenUnseen(1);
              return ExampleBed::refused("rollback before-upgrade --yes");
          },
          onlyFresh}},
        {"lost",
         {[](ExampleBed& bed) {
              bed.haveSnapshot();
              bed.machine.lose(1);
              return ExampleBed::refused("activate before-upgrade");
          },
          onlyFresh}},
        {"held",
         {[](ExampleBed& bed) {
              bed.haveSnapshot();
              bed.must("hold backup before-upgrade");
              return ExampleBed::refused("delete before-upgrade --yes");
          },
          noSnapshots}},
        {"open",
         {[](ExampleBed& bed) {
              bed.haveSnapshot();
              bed.must("activate before-upgrade");
              bed.machine.setOpen("/dev/mapper/cowsnap-snap-before-upgrade", true);
              const std::string message = ExampleBed::refused("delete before-upgrade --yes");
              bed.machine.setOpen("/dev/mapper/cowsnap-snap-before-upgrade", false);
              return message;
          },
          noSnapshots}},
        {"exists",
         {[](ExampleBed& bed) {
              bed.haveSnapshot();
              return ExampleBed::refused("create data --name before-upgrade");
          },
          [](ExampleBed&) {
              CHECK(ExampleBed::shown("list --no-headings -o name") ==
                    "before-upgrade-old\nbefore-upgrade\n");
          }}},
        {"full",
         {[](ExampleBed& bed) {
              bed.haveOrigin();
              bed.machine.raise(COWSNAP_EVENT_LOW_WATER, 3);
              bed.signalsUntil("Event");
              return bed.with("free segments").at(0).text;
          },
          [](ExampleBed&) { CHECK_THAT(ExampleBed::shown("show main"), Contains("/dev/sdd")); }}},
        {"missing-store",
         {[](ExampleBed& bed) {
              bed.stopDaemon();
              bed.machine.reboot();
              bed.machine.renameDisk("/dev/sdc", "/dev/sde");
              bed.machine.setSerial("/dev/sde", "");
              bed.startDaemon();
              return ExampleBed::shown("show main");
          },
          [](ExampleBed&) {
              CHECK_THAT(ExampleBed::shown("store list --no-headings"), Contains("active"));
          }}},
        {"not-blank",
         {[](ExampleBed& bed) {
              bed.machine.setContents("/dev/spare", "rubbish");
              return ExampleBed::refused("store create /dev/spare --name other");
          },
          [](ExampleBed&) {
              CHECK_THAT(ExampleBed::shown("store list --no-headings"), Contains("other"));
          }}},
        {"store-in-use",
         {[](ExampleBed& bed) {
              bed.haveSnapshot();
              return ExampleBed::refused("store close main --yes");
          },
          [](ExampleBed&) { CHECK(ExampleBed::shown("store list --no-headings").empty()); }}},
        {"metadata-damaged",
         {[](ExampleBed& bed) {
              bed.haveSnapshot();
              bed.stopDaemon();
              bed.machine.damageSlot(0);
              bed.machine.damageSlot(1);
              bed.startDaemon();
              return ExampleBed::shown("show main");
          },
          [](ExampleBed&) {
              CHECK_THAT(ExampleBed::shown("store list -o name,state,problem --no-headings"),
                         Contains("In this order: ") && Contains("cowsnap-store repair"));
          }}},
        {"not-activated",
         {[](ExampleBed& bed) {
              bed.haveSnapshot();
              bed.stopDaemon();
              bed.machine.reboot();
              bed.machine.renameDisk("/dev/sdc", "/dev/away");
              bed.machine.setSerial("/dev/away", "");
              const auto stores = StoreRegistry(bed.directory.path() / "state").read();
              activateStores(bed.machine, bed.machine, LossRecords("/nonexistent"), stores);
              bed.machine.renameDisk("/dev/away", "/dev/sdc");
              bed.machine.setSerial("/dev/sdc", "serial-c");
              bed.startDaemon();
              return bed.with("is not activated").at(0).text;
          },
          [](ExampleBed&) {
              CHECK_THAT(ExampleBed::shown("store list --no-headings"), Contains("active"));
              CHECK_THAT(ExampleBed::shown("list --no-headings"), Contains("before-upgrade"));
          }}},
        {"still-snapshots",
         {[](ExampleBed& bed) {
              bed.haveSnapshot();
              return ExampleBed::refused("origin detach data --yes");
          },
          [](ExampleBed&) { CHECK(ExampleBed::shown("origin list --no-headings").empty()); }}},
        {"in-use",
         {[](ExampleBed& bed) {
              bed.machine.setUser("/dev/sdb1", "mounted on /srv");
              return ExampleBed::refused("origin attach /dev/sdb1 --name data --method stack");
          },
          [](ExampleBed&) {
              CHECK_THAT(ExampleBed::shown("origin list --no-headings"), Contains("interposed"));
              CHECK_THAT(ExampleBed::shown("list --no-headings"), Contains("before-upgrade"));
          }}},
        {"no-hook",
         {[](ExampleBed& bed) {
              bed.machine.setUser("/dev/sdb1", "mounted on /srv");
              bed.machine.refuseInterposing("submit_bio_noacct() is hooked by something else");
              const std::string message = ExampleBed::refused("origin attach /dev/sdb1");
              bed.machine.setUser("/dev/sdb1", "");
              return message;
          },
          [](ExampleBed&) {
              CHECK_THAT(ExampleBed::shown("origin list --no-headings"), Contains("stacked"));
          }}},
        {"missing-origin",
         {[](ExampleBed& bed) {
              bed.haveSnapshot();
              bed.stopDaemon();
              bed.machine.reboot();
              bed.machine.renameDisk("/dev/sdb1", "/dev/away");
              bed.machine.setSerial("/dev/away", "");
              bed.startDaemon();
              const std::string message = ExampleBed::refused("create data --name more");
              bed.machine.renameDisk("/dev/away", "/dev/sdb1");
              bed.machine.setSerial("/dev/sdb1", "serial-b");
              return message;
          },
          [](ExampleBed&) {
              CHECK_THAT(ExampleBed::shown("origin list --no-headings"), Contains("attached"));
          }}},
        {"withheld",
         {[](ExampleBed& bed) {
              bed.must("origin attach /dev/sdb1 --name data --boot-policy fail-closed");
              bed.stopDaemon();
              bed.machine.reboot();
              bed.machine.renameDisk("/dev/sdc", "/dev/away");
              bed.machine.setSerial("/dev/away", "");
              const auto stores = StoreRegistry(bed.directory.path() / "state").read();
              const Activation result =
                  activateStores(bed.machine, bed.machine, LossRecords("/nonexistent"), stores);
              bed.machine.renameDisk("/dev/away", "/dev/sdc");
              bed.machine.setSerial("/dev/sdc", "serial-c");
              bed.startDaemon();
              return withheldText(result.withheld.at(0));
          },
          [](ExampleBed&) {
              CHECK_THAT(ExampleBed::shown("origin list"), Contains("fail-open"));
          }}},
        {"extended",
         {[](ExampleBed& bed) {
              bed.machine.setUser("/dev/sdb1", "mounted on /srv");
              bed.haveSnapshot();
              bed.machine.resizeDisk("/dev/sdb1", 2 * kOriginSectors);
              return ExampleBed::refused("create data --name more");
          },
          [](ExampleBed& bed) {
              CHECK(bed.machine.describe("/dev/mapper/cowsnap-data").identity.size_sectors ==
                    2 * kOriginSectors);
              CHECK_THAT(ExampleBed::shown("list --no-headings"), Contains("before-upgrade"));
          }}},
        {"pulled-out",
         {[](ExampleBed& bed) {
              bed.machine.setUser("/dev/sdb1", "mounted on /srv");
              bed.haveSnapshot();
              bed.machine.removeDisk("/dev/sdb1");
              const std::string message = ExampleBed::refused("create data --name more");
              bed.machine.addDisk("/dev/sdb1", kOriginSectors, "serial-b");
              return message;
          },
          [](ExampleBed&) {
              CHECK_THAT(ExampleBed::shown("origin list --no-headings"), Contains("attached"));
              CHECK_THAT(ExampleBed::shown("list --no-headings"), Contains("active"));
          }}},
        {"rollback-in-use",
         {[](ExampleBed& bed) {
              bed.haveSnapshot();
              bed.machine.setUser("/dev/mapper/cowsnap-data", "mounted on /srv");
              return ExampleBed::refused("rollback before-upgrade --yes");
          },
          [](ExampleBed& bed) { CHECK(bed.machine.rollbackOf(1) == COWSNAP_ROLLBACK_SCHEDULED); }}},
        {"rollback-runs",
         {[](ExampleBed& bed) {
              bed.haveSnapshot();
              bed.must("rollback before-upgrade --yes");
              return ExampleBed::refused("rollback before-upgrade --yes");
          },
          [](ExampleBed&) { CHECK_THAT(ExampleBed::shown("job list"), Contains("copy-back")); }}},
        {"not-authorized",
         {[](ExampleBed& bed) {
              bed.callers_are_root = false;
              const std::string message = ExampleBed::refused("store close main --yes");
              bed.callers_are_root = true;
              return message;
          },
          [](ExampleBed&) {}}},
        {"no-module",
         {[](ExampleBed& bed) {
              bed.stopDaemon();
              bed.machine.reboot();
              bed.machine.removeModule();
              bed.startDaemon();
              return ExampleBed::refused("store create /dev/sdd --name other");
          },
          [](ExampleBed& bed) {
              bed.machine.loadModule();
              CHECK_THAT(ExampleBed::shown("store list -o name,state"), Contains("active"));
          }}},
        {"no-daemon",
         {[](ExampleBed& bed) {
              bed.stopDaemon();
              const std::string message = ExampleBed::refused("list");
              bed.startDaemon();
              return message;
          },
          [](ExampleBed&) {}}},
    };
    return all;
}

}  // namespace

TEST_CASE(
    "what TROUBLESHOOTING.md says to type helps, and its messages are those that are printed") {
    const auto parts = readParts();
    REQUIRE(parts.size() > 1);
    for (const auto& [name, part] : parts)
        if (!name.empty()) {
            INFO(name);
            CHECK(troubles().contains(name));
        }
    for (const auto& [name, trouble] : troubles()) {
        DYNAMIC_SECTION(name) {
            REQUIRE(parts.contains(name));
            const Part& part = parts.at(name);
            ExampleBed bed;
            const std::string message = trouble.make(bed);
            INFO("it says: " << message);
            INFO("the page has: " << part.message);
            CHECK(isLike(message, part.message));
            CHECK(part.message.size() > 5);
            const CliResult result = typed(parts.at("").commands + part.commands);
            INFO(result.output << result.errors);
            CHECK(result.code == 0);
            trouble.check(bed);
        }
    }
}
