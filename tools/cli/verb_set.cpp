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
    std::string description;
    bool writable = false;
    bool activate = false;
};

void createSet(Session& session, const Arguments& arguments) {
    Objects objects = session.client.objects();
    std::vector<std::pair<ObjectPath, std::string>> members;
    bool attached = false;
    const auto origin_of = [&](const std::string& wanted, bool& attached_now) {
        try {
            return originOrAttach(session, objects, wanted, arguments.store, attached_now);
        } catch (const Failure& failure) {
            if (!attached)
                throw;
            throw Failure(
                ExitCode::Partly, failure.name(),
                std::string("some were attached, but no snapshot was created: ") + failure.what());
        }
    };
    for (const auto& member : arguments.members) {
        const auto equals = member.rfind('=');
        const std::string wanted = member.substr(0, equals);
        std::string name = equals == std::string::npos ? std::string() : member.substr(equals + 1);
        bool attached_now = false;
        const std::string origin = origin_of(wanted, attached_now);
        if (attached_now)
            objects = session.client.objects();
        attached = attached || attached_now;
        if (name.empty()) {
            if (arguments.name.empty())
                throw Failure(
                    ExitCode::Usage, "Usage",
                    fmt::format(
                        "\"{}\" has no name for its snapshot: write {}=NAME, or give --name",
                        wanted, wanted));
            name = fmt::format("{}-{}", arguments.name, objects.nameOf(origin));
        }
        members.emplace_back(ObjectPath{origin}, name);
    }
    Dictionary options{{"writable", arguments.writable}};
    if (!arguments.description.empty())
        options["description"] = arguments.description;
    createAndPrint(session, members, options, arguments.activate, attached);
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
    verb->add_option("--description", arguments->description, "Description");
    verb->add_flag("--writable", arguments->writable,
                   "They may be written to when they are active");
    verb->add_flag("--activate", arguments->activate, "Make their devices as well");
    verb->callback([&run, arguments] {
        run = [arguments](Session& session) { createSet(session, *arguments); };
    });
}

}  // namespace cowsnap::cli
