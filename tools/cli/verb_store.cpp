// SPDX-License-Identifier: GPL-2.0-or-later
// store create, open, extend, modify, close, list; check has a file of its own.
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <optional>

#include <fmt/format.h>

#include "base/names.h"
#include "cli/exit.h"
#include "cli/verbs.h"

namespace cowsnap::cli {

namespace {

struct Arguments {
    std::vector<std::string> devices;
    std::string name;
    std::string volume_group;
    std::optional<std::uint64_t> volume_bytes;
    std::optional<std::uint64_t> full_wait_ms;
    std::vector<std::string> spares;
    std::vector<std::string> removed_spares;
    std::optional<std::uint64_t> max_size;
    std::optional<bool> autoextend;
    bool force = false;
};

std::vector<std::string> absolutePaths(const std::vector<std::string>& paths) {
    std::vector<std::string> result;
    for (const auto& path : paths)
        result.push_back(absolutePath(path));
    return result;
}

void printStore(Session& session, const std::string& path, std::string_view verb) {
    const Objects objects = session.client.objects();
    const Object* const store = objects.at(path);
    if (store == nullptr)
        return;
    warnIfDamaged(*store);
    if (session.output.json)
        printObjects(session.output, "stores", storeColumns(), objects, {*store});
    else
        printDone(session.output, fmt::format("{} the store {}", verb, store->text("Name")), {});
}

/// Whether an initramfs may have the list of stores as it was when it was made.
bool hasInitramfs() {
    return ::access("/usr/share/initramfs-tools/hooks/cowsnap", F_OK) == 0 ||
           ::access("/usr/lib/dracut/modules.d/90cowsnap", F_OK) == 0;
}

/// What a store is extended with when it gets full; empty if it is not.
std::string autoextendText(const Object& store) {
    std::string text;
    for (const auto& spare : store.texts("Spares"))
        text += (text.empty() ? "the spare " : ", then the spare ") + spare;
    if (const std::string group = store.text("AutoextendGroup"); !group.empty())
        text += (text.empty() ? "" : ", then ") +
                fmt::format("new volumes of the volume group {}", group);
    return store.flag("Autoextend") ? text : std::string();
}

/// What nobody asked for in words is said in words.
void noteAutoextend(Session& session, const std::string& path) {
    const Objects objects = session.client.objects();
    const Object* const store = objects.at(path);
    if (store == nullptr || session.output.json)
        return;
    const std::string text = autoextendText(*store);
    if (!text.empty())
        fmt::print(
            "Before it is full it is extended with {} (\"snapd-cli store modify {} "
            "--no-autoextend\" turns that off).\n",
            text, shellWord(store->text("Name")));
}

void addAutoextend(Dictionary& options, const Arguments& arguments) {
    if (arguments.autoextend)
        options["autoextend"] = *arguments.autoextend;
    if (!arguments.spares.empty())
        options["spares"] = absolutePaths(arguments.spares);
    if (!arguments.removed_spares.empty())
        options["remove_spares"] = absolutePaths(arguments.removed_spares);
    if (arguments.max_size)
        options["max_bytes"] = *arguments.max_size;
}

void addAutoextendOptions(CLI::App& verb, const std::shared_ptr<Arguments>& arguments) {
    verb.add_option("--max-size", arguments->max_size,
                    "It is not extended by itself beyond this size, such as 100G (0: no limit)")
        ->transform(CLI::AsSizeValue(false))
        ->transform(unsignedNumber());
}

void create(Session& session, const Arguments& arguments) {
    checkColumns(session.output, storeColumns());
    if (arguments.devices.empty() == arguments.volume_group.empty())
        throw Failure(ExitCode::Usage, "Usage",
                      "say what the store is made of: devices, or --volume-group");
    if (arguments.volume_group.empty() == arguments.volume_bytes.has_value())
        throw Failure(ExitCode::Usage, "Usage", "--volume-group and --volume-size belong together");
    Dictionary options;
    if (arguments.full_wait_ms)
        options["full_wait_ms"] = *arguments.full_wait_ms;
    if (arguments.volume_bytes) {
        options["volume_group"] = arguments.volume_group;
        options["volume_bytes"] = *arguments.volume_bytes;
    }
    addAutoextend(options, arguments);
    Message reply = session.client.callJob(
        kRootPath, kManagerInterface, "CreateStore",
        [&](Message& message) {
            message.append(Value(absolutePaths(arguments.devices)));
            message.append(Value(arguments.name.empty() ? std::string("main") : arguments.name));
        },
        options);
    const std::string path = reply.readObjectPath().path;
    printStore(session, path, "created");
    noteNewStore(session, path);
}

void open(Session& session, const Arguments& arguments) {
    Dictionary options;
    if (!arguments.name.empty())
        options["name"] = arguments.name;
    Message reply = session.client.callJob(
        kRootPath, kManagerInterface, "OpenStore",
        [&](Message& message) { message.append(Value(absolutePaths(arguments.devices))); },
        options);
    printOpened(session, reply.readObjectPath().path, "opened");
}

void extend(Session& session, const Arguments& arguments) {
    checkColumns(session.output, storeColumns());
    const std::string path = session.client.objects().store(arguments.name).path;
    session.client.callJob(path, kStoreInterface, "Extend", [&](Message& message) {
        message.append(Value(absolutePaths(arguments.devices)));
    });
    printStore(session, path, "extended");
    noteInitramfsIfThere(session);
}

void modify(Session& session, const Arguments& arguments) {
    checkColumns(session.output, storeColumns());
    Dictionary options;
    addAutoextend(options, arguments);
    if (options.empty())
        throw Failure(ExitCode::Usage, "Usage", "nothing to change was given");
    const std::string path = session.client.objects().store(arguments.name).path;
    session.client.callJob(path, kStoreInterface, "SetAutoextend", nullptr, options);
    printStore(session, path, "changed");
    noteAutoextend(session, path);
}

void close(Session& session, const Arguments& arguments) {
    const Object store = session.client.objects().store(arguments.name);
    confirm(session.output, fmt::format("Close the store {}?", store.text("Name")));
    Dictionary options;
    if (arguments.force)
        options["force"] = true;
    session.client.callJob(store.path, kStoreInterface, "Close", nullptr, options);
    printDone(session.output, fmt::format("closed the store {}", store.text("Name")),
              {{"closed", store.text("Name")}});
    noteInitramfsIfThere(session);
}

void list(Session& session) {
    session.client.refresh();
    const Objects objects = session.client.objects();
    printObjects(session.output, "stores", storeColumns(), objects, objects.stores);
    for (const auto& store : objects.stores) {
        warnIfDamaged(store);
        warnIfUnusable(store);
    }
}

}  // namespace

void noteInitramfs(Session& session) {
    if (session.client.isActive("cowsnap-initramfs.path"))
        fmt::print(stderr,
                   "The initramfs, which has a copy of this, is made anew by itself; 'systemctl "
                   "status cowsnap-initramfs' tells how that goes.\n");
    else
        fmt::print(stderr,
                   "If origins are attached by an initramfs here, make it anew now "
                   "(update-initramfs -u -k all, or dracut --regenerate-all --force): it has an "
                   "older copy of this.\n");
}

void noteInitramfsIfThere(Session& session) {
    if (hasInitramfs())
        noteInitramfs(session);
}

void noteNewStore(Session& session, const std::string& path) {
    noteAutoextend(session, path);
    noteInitramfsIfThere(session);
}

void addStore(CLI::App& app, Run& run) {
    auto arguments = std::make_shared<Arguments>();
    CLI::App* const store = app.add_subcommand("store", "Where old blocks go");
    store->require_subcommand(1);

    CLI::App* const make = store->add_subcommand("create", "Make a store on blank devices");
    make->add_option("device", arguments->devices, "Blank block devices");
    make->add_option("--volume-group", arguments->volume_group,
                     "Make it on a new logical volume of this volume group")
        ->check(notEmpty());
    make->add_option("--volume-size", arguments->volume_bytes, "Size of that volume, such as 20G")
        ->transform(CLI::AsSizeValue(false))
        ->transform(unsignedNumber());
    make->add_option("--name", arguments->name, "Name of the store (default: main)")
        ->check(notEmpty());
    make->add_option("--full-wait-ms", arguments->full_wait_ms,
                     "How long writes wait in a full store before the oldest snapshots go")
        ->check(unsignedNumber());
    make->add_option(
            "--spare", arguments->spares,
            "A blank device that it is extended with before it is full; may be given again")
        ->allow_extra_args(false)
        ->check(notEmpty());
    make->add_flag_callback(
        "--no-autoextend", [arguments] { arguments->autoextend = false; },
        "Do not extend it by itself; else one on a logical volume is, from its volume group");
    addAutoextendOptions(*make, arguments);
    make->callback([&run, arguments] {
        run = [arguments](Session& session) { create(session, *arguments); };
    });

    CLI::App* const find =
        store->add_subcommand("open", "Open a store, such as one from another machine");
    find->add_option("device", arguments->devices, "The store's devices, in their order")
        ->required();
    find->add_option("--name", arguments->name,
                     "What it is called from now on (default: as before)")
        ->check(notEmpty());
    find->callback(
        [&run, arguments] { run = [arguments](Session& session) { open(session, *arguments); }; });

    CLI::App* const grow = store->add_subcommand("extend", "Append blank devices to a store");
    grow->add_option("store", arguments->name, "Name or UUID")->required();
    grow->add_option("device", arguments->devices, "Blank block devices")->required();
    grow->callback([&run, arguments] {
        run = [arguments](Session& session) { extend(session, *arguments); };
    });

    CLI::App* const change =
        store->add_subcommand("modify", "Change what a store is extended with before it is full");
    change->add_option("store", arguments->name, "Name or UUID")->required();
    change
        ->add_option("--add-spare", arguments->spares, "A blank device to take; may be given again")
        ->allow_extra_args(false)
        ->check(notEmpty());
    change
        ->add_option("--remove-spare", arguments->removed_spares,
                     "A spare not to take; may be given again")
        ->allow_extra_args(false)
        ->check(notEmpty());
    CLI::Option* const off = change->add_flag_callback(
        "--no-autoextend", [arguments] { arguments->autoextend = false; },
        "Do not extend it by itself");
    change
        ->add_flag_callback(
            "--autoextend", [arguments] { arguments->autoextend = true; },
            "Extend it with its spares, and from its volume group if it is on a logical volume")
        ->excludes(off);
    addAutoextendOptions(*change, arguments);
    change->callback([&run, arguments] {
        run = [arguments](Session& session) { modify(session, *arguments); };
    });

    CLI::App* const shut = store->add_subcommand("close", "Stop a store that has no origins");
    shut->add_option("store", arguments->name, "Name or UUID")->required();
    shut->add_flag("--force", arguments->force,
                   "Also one that cannot be used, of which nobody knows what it has");
    shut->callback(
        [&run, arguments] { run = [arguments](Session& session) { close(session, *arguments); }; });

    addStoreCheck(*store, run);

    CLI::App* const all = store->add_subcommand("list", "List stores");
    all->footer(columnsHelp({{"", storeColumns()}}));
    all->callback([&run] { run = list; });
}

}  // namespace cowsnap::cli
