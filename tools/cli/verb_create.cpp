// SPDX-License-Identifier: GPL-2.0-or-later
// create: a snapshot of one origin, which is attached first if it is not.
#include <algorithm>
#include <charconv>
#include <ctime>
#include <filesystem>
#include <iterator>
#include <memory>

#include <fmt/chrono.h>

#include "base/error.h"
#include "cli/exit.h"
#include "cli/times.h"
#include "cli/verbs.h"

namespace cowsnap::cli {

namespace {

struct Arguments {
    std::string origin;
    std::string name;
    std::string store;
    NewSnapshot snapshot;
};

/// So many snapshots of an origin get a name by themselves in one second.
constexpr int kMostInASecond = 100;

std::string nameByTime(const std::string& origin_name) {
    return fmt::format("{}-{:%Y%m%d-%H%M%S}", origin_name, fmt::localtime(std::time(nullptr)));
}

/// Under its name by time, or where that is taken, under it with a number.
void createByTime(Session& session, const std::string& origin, const Dictionary& options,
                  bool activate, const std::vector<AttachedNow>& attached) {
    const std::string by_time = nameByTime(session.client.objects().nameOf(origin));
    std::string name = by_time;
    for (int number = 2;; ++number) {
        try {
            createAndPrint(session, {{ObjectPath{origin}, name}}, options, activate, attached);
            return;
        } catch (const Failure& failure) {
            // What was attached for it is detached again by now.
            // A call that was repeated may have made it itself.
            const bool is_taken =
                failure.name() == errorKindName(ErrorKind::Exists) && !failure.repeated();
            if (!is_taken || !attached.empty() || number > kMostInASecond)
                throw;
        }
        name = fmt::format("{}-{}", by_time, number);
    }
}

void create(Session& session, const Arguments& arguments) {
    checkNewSnapshot(session, arguments.snapshot);
    const Dictionary options = optionsOf(arguments.snapshot);
    std::vector<AttachedNow> attached;
    const std::string origin = originOrAttach(session, session.client.objects(), arguments.origin,
                                              arguments.store, attached);
    if (arguments.name.empty())
        createByTime(session, origin, options, arguments.snapshot.activate, attached);
    else
        createAndPrint(session, {{ObjectPath{origin}, arguments.name}}, options,
                       arguments.snapshot.activate, attached);
}

}  // namespace

CLI::Validator notEmpty() {
    return CLI::Validator(
        [](const std::string& value) { return value.empty() ? "it must not be empty" : ""; }, "");
}

CLI::Validator unsignedNumber() {
    return CLI::Validator(
        [](const std::string& value) -> std::string {
            if (value.starts_with('-'))
                return "it must not be negative";
            std::uint64_t number = 0;
            const auto [end, code] =
                std::from_chars(value.data(), value.data() + value.size(), number);
            return code == std::errc::result_out_of_range ? "it is too large" : "";
        },
        "");
}

namespace {

/// As Objects::findOrigin(), in a store that is named, or in all. Usage if it is in another one.
const Object* findOriginIn(const Objects& objects, const std::string& store,
                           const std::string& wanted) {
    if (store.empty())
        return objects.findOrigin(wanted);
    const std::string store_path = objects.store(store).path;
    Objects in_store;
    std::copy_if(objects.origins.begin(), objects.origins.end(),
                 std::back_inserter(in_store.origins),
                 [&](const Object& origin) { return origin.text("Store") == store_path; });
    if (const Object* const found = in_store.findOrigin(wanted))
        return objects.at(found->path);
    if (const Object* const elsewhere = objects.findOrigin(wanted))
        throw Failure(
            ExitCode::Usage, "Usage",
            fmt::format("{} is an origin of the store {}, not of {}: leave --store out", wanted,
                        objects.nameOf(elsewhere->text("Store")), objects.nameOf(store_path)));
    return nullptr;
}

}  // namespace

std::string originOrAttach(Session& session, const Objects& objects, const std::string& wanted,
                           const std::string& store, std::vector<AttachedNow>& attached) {
    const bool is_path = wanted.find('/') != std::string::npos;
    const std::string device = is_path ? absolutePath(wanted) : wanted;
    const Object* const known = findOriginIn(objects, store, device);
    if (known != nullptr && (known->text("State") == "attached" || !is_path))
        return known->path;
    if (!is_path)
        return objects.origin(wanted).path;
    const auto storePath = [&] {
        if (known != nullptr)
            return known->text("Store");
        return store.empty() && objects.stores.empty() ? makeFirstStore(session, device)
                                                       : objects.store(store).path;
    };
    const std::string store_path = storePath();
    Message reply =
        session.client.callStep(kRootPath, kManagerInterface, "Attach", [&](Message& message) {
            message.append(Value(device));
            message.append(Value(ObjectPath{store_path}));
        });
    attached.push_back({reply.readObjectPath().path, known == nullptr});
    return attached.back().path;
}

void undoAttach(Session& session, const std::vector<AttachedNow>& attached,
                const Failure& failure) {
    const Objects objects = session.client.objects();
    std::string left;
    for (auto origin = attached.rbegin(); origin != attached.rend(); ++origin) {
        std::string why;
        if (origin->is_new) {
            try {
                session.client.callStep(origin->path, kOriginInterface, "Detach", nullptr);
                continue;
            } catch (const Failure& stays) {
                why = fmt::format(" ({})", stays.what());
            }
        }
        left += (left.empty() ? "" : ", ") + objects.nameOf(origin->path) + why;
    }
    if (left.empty())
        throw Failure(failure);
    throw Failure(ExitCode::Partly, failure.name(),
                  fmt::format("{}; attached, but without a snapshot: {}", failure.what(), left));
}

std::string attachedText(const Object& origin) {
    const std::string device = origin.text("Device");
    const std::string done =
        fmt::format("attached {} as {}", origin.text("BackingDevice"), origin.text("Name"));
    if (origin.text("Method") == "interposed")
        return fmt::format("{}, interposed: {} goes on as it is", done, device);
    return fmt::format("{}; use {} in place of the device from now on", done, device);
}

void addNewSnapshotOptions(CLI::App& verb, NewSnapshot& snapshot) {
    verb.add_option("--description", snapshot.description, "Description");
    verb.add_option("--tag", snapshot.tags, "A tag; may be given again")
        ->allow_extra_args(false)
        ->check(notEmpty());
    verb.add_option("--hold", snapshot.holds, "Hold it under this name from the start")
        ->allow_extra_args(false)
        ->check(notEmpty());
    verb.add_option("--expires", snapshot.expires, kExpiryHelp)->check(notEmpty());
    verb.add_flag("--writable", snapshot.writable, "It may be written to when it is active");
    verb.add_flag("--activate", snapshot.activate, "Make its device as well");
}

Dictionary optionsOf(const NewSnapshot& snapshot) {
    Dictionary options{{"writable", snapshot.writable}};
    if (!snapshot.description.empty())
        options["description"] = snapshot.description;
    if (!snapshot.tags.empty())
        options["tags"] = snapshot.tags;
    if (!snapshot.holds.empty())
        options["holds"] = snapshot.holds;
    if (!snapshot.expires.empty())
        options["expires"] = timeFrom(snapshot.expires, std::time(nullptr));
    return options;
}

void checkNewSnapshot(const Session& session, const NewSnapshot& snapshot) {
    checkColumns(session.output, snapshotColumns());
    if (snapshot.activate && session.output.no_wait)
        throw Failure(
            ExitCode::Usage, "Usage",
            "--activate needs the snapshot, and --no-wait does not wait for it: leave out "
            "one of them, or run \"snapd-cli activate\" later");
}

void createAndPrint(Session& session,
                    const std::vector<std::pair<ObjectPath, std::string>>& members,
                    const Dictionary& options, bool activate,
                    const std::vector<AttachedNow>& attached) {
    std::vector<ObjectPath> created;
    try {
        Message reply = session.client.callJob(
            kRootPath, kManagerInterface, "CreateSnapshots",
            [&](Message& message) { message.append(members); }, options);
        created = reply.readObjectPaths();
    } catch (const JobBegun&) {
        const Objects objects = session.client.objects();
        for (const auto& now : attached)
            if (const Object* const origin = objects.at(now.path))
                printWarning(attachedText(*origin));
        throw;
    } catch (const Failure& failure) {
        undoAttach(session, attached, failure);
    }
    try {
        if (activate)
            for (const auto& snapshot : created)
                session.client.callStep(snapshot.path, kSnapshotInterface, "Activate", nullptr,
                                        {{"read_only", !std::get<bool>(options.at("writable"))}});
    } catch (const Failure& failure) {
        throw Failure(ExitCode::Partly, failure.name(),
                      std::string("created, but not active: ") + failure.what());
    }
    const Objects objects = session.client.objects();
    std::vector<Object> shown;
    for (const auto& path : created)
        if (const Object* const snapshot = objects.at(path.path))
            shown.push_back(*snapshot);
    if (session.output.json) {
        printObjects(session.output, "snapshots", snapshotColumns(), objects, shown);
        return;
    }
    for (const auto& now : attached)
        if (const Object* const origin = objects.at(now.path))
            printDone(session.output, attachedText(*origin), {});
    for (const auto& snapshot : shown) {
        std::string text =
            fmt::format("created {} of {} ({} consistent)", snapshot.text("Name"),
                        objects.nameOf(snapshot.text("Origin")), snapshot.text("Consistency"));
        if (!snapshot.text("Device").empty())
            text += fmt::format("; active as {}", snapshot.text("Device"));
        printDone(session.output, text, {});
    }
}

void addCreate(CLI::App& app, Run& run) {
    auto arguments = std::make_shared<Arguments>();
    CLI::App* const verb = app.add_subcommand("create", "Create a snapshot of a device");
    verb->add_option("origin", arguments->origin,
                     "An origin's name, or a device, which is attached if it is not")
        ->required();
    verb->add_option("--name", arguments->name, "Name of the snapshot (default: origin and time)")
        ->check(notEmpty());
    verb->add_option("--store", arguments->store,
                     "Store to attach a device to (default: the only one)");
    addNewSnapshotOptions(*verb, arguments->snapshot);
    verb->callback([&run, arguments] {
        run = [arguments](Session& session) { create(session, *arguments); };
    });
}

}  // namespace cowsnap::cli
