// SPDX-License-Identifier: GPL-2.0-or-later
// rollback, cancel: an origin goes back to a snapshot of it, or does not after all.
#include <memory>

#include <fmt/format.h>

#include "base/error.h"
#include "base/names.h"
#include "cli/verbs.h"

namespace cowsnap::cli {

namespace {

struct Arguments {
    std::string snapshot;
    std::string undo_name;
    bool schedule = false;
    bool force = false;
};

Dictionary optionsOf(const Arguments& arguments, bool schedule) {
    Dictionary options;
    if (!arguments.undo_name.empty())
        options["undo_name"] = arguments.undo_name;
    if (schedule)
        options["schedule"] = true;
    if (arguments.force)
        options["force"] = true;
    return options;
}

std::string callRollback(Session& session, const Object& snapshot, const Arguments& arguments,
                         bool schedule) {
    return session.client
        .callJob(
            snapshot.path, kSnapshotInterface, "Rollback", [](Message&) {},
            optionsOf(arguments, schedule))
        .readObjectPath()
        .path;
}

/// Whether it could be scheduled as things are. What is busy may also be the daemon, or a store
/// whose rollback is copied back: that is not helped by waiting for the next boot.
bool canBeScheduled(Session& session, const Object& snapshot, const Arguments& arguments) {
    try {
        session.client.onlyCheck(snapshot.path, kSnapshotInterface, "Rollback", nullptr,
                                 optionsOf(arguments, true));
        return true;
    } catch (const Failure&) {
        return false;
    }
}

/// Asks before it is scheduled instead, if that was not asked for.
std::string rollBackOrSchedule(Session& session, const Object& snapshot,
                               const Arguments& arguments) {
    try {
        return callRollback(session, snapshot, arguments, arguments.schedule);
    } catch (const Failure& failure) {
        const bool may_schedule = !arguments.schedule && !session.output.yes &&
                                  !session.output.dry_run && failure.code() == ExitCode::Busy;
        if (!may_schedule || !canBeScheduled(session, snapshot, arguments))
            throw;
        confirm(session.output, fmt::format("{}.\nSchedule it?", failure.what()));
    }
    return callRollback(session, snapshot, arguments, true);
}

void rollBack(Session& session, const Arguments& arguments) {
    const Objects before = session.client.objects();
    const Object snapshot = before.snapshot(arguments.snapshot);
    const std::string name = snapshot.text("Name");
    const std::string origin_path = snapshot.text("Origin");
    const std::string origin_name = before.nameOf(origin_path);
    warnIfStale(snapshot);
    confirm(session.output, fmt::format("Roll {} back to {}? What is there now becomes a snapshot.",
                                        origin_name, name));
    const std::string undo_path = rollBackOrSchedule(session, snapshot, arguments);
    const Objects objects = session.client.objects();
    const Object* const origin = objects.at(origin_path);
    const std::string state = origin == nullptr ? "none" : origin->text("Rollback");
    const std::string device = origin == nullptr ? "" : origin->text("Device");
    const Object* const undo = objects.at(undo_path);
    const std::string undo_name = undo == nullptr ? "" : undo->text("Name");
    std::string text;
    if (state == "scheduled") {
        text = fmt::format(
            "scheduled: {} goes back to {} when it is attached the next time, such as at boot",
            origin_name, name);
    } else {
        text = fmt::format("{} shows {}; what was there before is {}", device, name, undo_name);
        if (state != "none")
            text += fmt::format("; blocks are copied back now (snapd-cli show {})",
                                shellWord(origin_name));
    }
    printDone(session.output, text,
              {{"rolled_back", origin_name},
               {"to", name},
               {"state", state},
               {"undo", undo_name},
               {"device", device}});
}

void cancel(Session& session, const std::string& wanted) {
    const Objects objects = session.client.objects();
    const Object& origin = objects.origin(wanted);
    const std::string name = origin.text("Name");
    const std::string state = origin.text("Rollback");
    const bool scheduled = state == "scheduled";
    // Without a rollback the daemon says so, and nothing is lost.
    if (!scheduled && state != "none")
        confirmCancelRollback(session, name);
    session.client.callJob(origin.path, kOriginInterface, "CancelRollback", [](Message&) {});
    printDone(session.output,
              scheduled ? fmt::format("the rollback of {} is not scheduled any more", name)
                        : fmt::format("{} goes back to what was before the rollback", name),
              {{"cancelled", name}});
}

}  // namespace

void confirmCancelRollback(Session& session, const std::string& origin) {
    confirm(
        session.output,
        fmt::format("Cancel the rollback of {}? What was written since it began is lost.", origin));
}

void addRollback(CLI::App& app, Run& run) {
    auto arguments = std::make_shared<Arguments>();
    CLI::App* const verb =
        app.add_subcommand("rollback", "Take an origin back to a snapshot of it");
    verb->add_option("snapshot", arguments->snapshot, "Name, STORE/NAME or UUID")->required();
    verb->add_option("--undo-name", arguments->undo_name,
                     "Name of the snapshot of what is there now (undo-SNAPSHOT)")
        ->check(notEmpty());
    verb->add_flag("--schedule", arguments->schedule,
                   "If the origin or the snapshot is in use, have it done when the origin is "
                   "attached the next time");
    verb->add_flag("--force", arguments->force, "Although the snapshot is stale");
    verb->callback([&run, arguments] {
        run = [arguments](Session& session) { rollBack(session, *arguments); };
    });

    auto origin = std::make_shared<std::string>();
    CLI::App* const cancel_verb = app.add_subcommand("cancel", "Cancel a rollback");
    cancel_verb->add_option("origin", *origin, "Name, UUID or device")->required();
    cancel_verb->callback(
        [&run, origin] { run = [origin](Session& session) { cancel(session, *origin); }; });
}

}  // namespace cowsnap::cli
