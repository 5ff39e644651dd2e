// SPDX-License-Identifier: GPL-2.0-or-later
// set create: snapshots of several origins at one instant.
#include <memory>

#include <fmt/format.h>

#include "cli/exit.h"
#include "cli/verbs.h"

namespace cowsnap::cli {

namespace {

struct Arguments {
    std::vector<std::string> members;
    std::string name;
    std::string store;
    NewSnapshot snapshot;
};

/// A member as it was written: an origin or device, and the name of its snapshot or nothing.
std::pair<std::string, std::string> memberFrom(const std::string& text,
                                               const std::string& common_name) {
    const auto equals = text.rfind('=');
    const std::string wanted = text.substr(0, equals);
    const std::string name = equals == std::string::npos ? std::string() : text.substr(equals + 1);
    if (name.empty() && common_name.empty())
        throw Failure(
            ExitCode::Usage, "Usage",
            fmt::format("\"{}\" has no name for its snapshot: write {}=NAME, or give --name",
                        wanted, wanted));
    return {wanted, name};
}

void createSet(Session& session, const Arguments& arguments) {
    checkNewSnapshot(session, arguments.snapshot);
    const Dictionary options = optionsOf(arguments.snapshot);
    std::vector<std::pair<std::string, std::string>> wanted;
    for (const auto& member : arguments.members)
        wanted.push_back(memberFrom(member, arguments.name));
    Objects objects = session.client.objects();
    std::vector<std::pair<ObjectPath, std::string>> members;
    std::vector<AttachedNow> attached;
    for (auto& [device, name] : wanted) {
        const std::size_t attached_before = attached.size();
        std::string origin;
        try {
            origin = originOrAttach(session, objects, device, arguments.store, attached);
        } catch (const Failure& failure) {
            undoAttach(session, attached, failure);
        }
        if (attached.size() > attached_before)
            objects = session.client.objects();
        if (name.empty())
            name = fmt::format("{}-{}", arguments.name, objects.nameOf(origin));
        members.emplace_back(ObjectPath{origin}, name);
    }
    createAndPrint(session, members, options, arguments.snapshot.activate, attached);
}

}  // namespace

void addSet(CLI::App& app, Run& run) {
    auto arguments = std::make_shared<Arguments>();
    CLI::App* const set = app.add_subcommand("set", "Snapshots of several origins at one instant");
    set->require_subcommand(1);
    CLI::App* const verb =
        set->add_subcommand("create", "Create a snapshot of each of several origins");
    verb->add_option("member", arguments->members,
                     "ORIGIN=NAME, or ORIGIN with --name; devices are attached")
        ->required();
    verb->add_option("--name", arguments->name, "Snapshots without a name are called NAME-ORIGIN")
        ->check(notEmpty());
    verb->add_option("--store", arguments->store,
                     "Store to attach devices to (default: the only one)");
    addNewSnapshotOptions(*verb, arguments->snapshot);
    verb->callback([&run, arguments] {
        run = [arguments](Session& session) { createSet(session, *arguments); };
    });
}

}  // namespace cowsnap::cli
