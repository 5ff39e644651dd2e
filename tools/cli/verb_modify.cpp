// SPDX-License-Identifier: GPL-2.0-or-later
// modify: description, tags and time of expiry of a snapshot.
#include <algorithm>
#include <ctime>
#include <memory>
#include <optional>

#include <fmt/format.h>

#include "cli/exit.h"
#include "cli/times.h"
#include "cli/verbs.h"

namespace cowsnap::cli {

namespace {

struct Arguments {
    std::string snapshot;
    std::string description;
    bool describe = false;  ///< an empty description is one, too
    std::vector<std::string> added_tags;
    std::vector<std::string> removed_tags;
    std::string expires;
};

struct Change {
    const char* what;
    const char* method;
    std::vector<Value> values;
};

/// One after the other; nobody has to wait for the last one.
void make(Session& session, const Object& snapshot, const std::vector<Change>& changes) {
    std::string done;
    for (const auto& change : changes) {
        const auto append = [&](Message& message) {
            for (const auto& value : change.values)
                message.append(value);
        };
        const bool is_last = &change == &changes.back();
        try {
            if (session.output.dry_run && !is_last)
                session.client.onlyCheck(snapshot.path, kSnapshotInterface, change.method, append,
                                         {});
            else if (is_last)
                session.client.callJob(snapshot.path, kSnapshotInterface, change.method, append);
            else
                session.client.callStep(snapshot.path, kSnapshotInterface, change.method, append);
        } catch (const Failure& failure) {
            if (done.empty() || session.output.dry_run)
                throw;
            throw Failure(ExitCode::Partly, failure.name(),
                          fmt::format("{}; changed before that: {}", failure.what(), done));
        }
        done += (done.empty() ? "" : ", ") + std::string(change.what);
    }
}

void modify(Session& session, const Arguments& arguments) {
    const bool tags_change = !arguments.added_tags.empty() || !arguments.removed_tags.empty();
    if (!arguments.describe && !tags_change && arguments.expires.empty())
        throw Failure(ExitCode::Usage, "Usage",
                      "say what is to change: --description, --tag, --untag or --expires");
    const bool expiry_changes = !arguments.expires.empty();
    const std::uint64_t expires =
        expiry_changes ? timeFrom(arguments.expires, std::time(nullptr)) : 0;
    const Objects objects = session.client.objects();
    const Object& snapshot = objects.snapshot(arguments.snapshot);
    const std::string name = snapshot.text("Name");
    std::vector<Change> changes;
    if (arguments.describe)
        changes.push_back({"description", "SetDescription", {arguments.description}});
    if (tags_change)
        changes.push_back({"tags", "ChangeTags", {arguments.added_tags, arguments.removed_tags}});
    if (expiry_changes)
        changes.push_back({"expiry", "SetExpiry", {expires}});
    make(session, snapshot, changes);
    printDone(session.output, fmt::format("modified {}", name), {{"snapshot", name}});
}

}  // namespace

void addModify(CLI::App& app, Run& run) {
    auto arguments = std::make_shared<Arguments>();
    CLI::App* const verb =
        app.add_subcommand("modify", "Change the description, tags or expiry of a snapshot");
    verb->add_option("snapshot", arguments->snapshot, "Name, STORE/NAME or UUID")->required();
    const CLI::Option* const description =
        verb->add_option("--description", arguments->description, "Description; \"\": none");
    verb->add_option("--tag", arguments->added_tags, "Add a tag; may be given again")
        ->allow_extra_args(false)
        ->check(notEmpty());
    verb->add_option("--untag", arguments->removed_tags, "Remove a tag; may be given again")
        ->allow_extra_args(false)
        ->check(notEmpty());
    verb->add_option("--expires", arguments->expires, kExpiryHelp)->check(notEmpty());
    verb->callback([&run, arguments, description] {
        arguments->describe = description->count() > 0;
        run = [arguments](Session& session) { modify(session, *arguments); };
    });
}

}  // namespace cowsnap::cli
