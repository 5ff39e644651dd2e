// SPDX-License-Identifier: GPL-2.0-or-later
// activate, deactivate: the devices of snapshots.
#include <memory>

#include <fmt/format.h>

#include "cli/verbs.h"

namespace cowsnap::cli {

namespace {

void activate(Session& session, const std::string& wanted, bool writable) {
    const Objects objects = session.client.objects();
    const Object& snapshot = objects.snapshot(wanted);
    warnIfStale(snapshot);
    Message reply = session.client.callJob(snapshot.path, kSnapshotInterface, "Activate", nullptr,
                                           {{"read_only", !writable}});
    const std::string device = reply.readString();
    printDone(session.output, device, {{"snapshot", snapshot.text("Name")}, {"device", device}});
}

void deactivate(Session& session, const std::string& wanted) {
    const Objects objects = session.client.objects();
    const Object& snapshot = objects.snapshot(wanted);
    session.client.callJob(snapshot.path, kSnapshotInterface, "Deactivate", nullptr);
    printDone(session.output, fmt::format("deactivated {}", snapshot.text("Name")),
              {{"snapshot", snapshot.text("Name")}});
}

}  // namespace

void addActivate(CLI::App& app, Run& run) {
    auto name = std::make_shared<std::string>();
    auto writable = std::make_shared<bool>(false);
    CLI::App* const on =
        app.add_subcommand("activate", "Make the device of a snapshot and print its path");
    on->add_option("snapshot", *name, "Name, STORE/NAME or UUID")->required();
    on->add_flag("--rw", *writable, "Writable (for a snapshot that was created so)");
    on->callback([&run, name, writable] {
        run = [name, writable](Session& session) { activate(session, *name, *writable); };
    });
    CLI::App* const off = app.add_subcommand("deactivate", "Remove the device of a snapshot");
    off->add_option("snapshot", *name, "Name, STORE/NAME or UUID")->required();
    off->callback([&run, name] { run = [name](Session& session) { deactivate(session, *name); }; });
}

}  // namespace cowsnap::cli
