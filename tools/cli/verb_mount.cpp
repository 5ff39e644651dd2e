// SPDX-License-Identifier: GPL-2.0-or-later
// mount, umount: a snapshot's file system, with the options that a second copy of
// a file system needs. Runs mount(8) and umount(8), without a shell.
#include <blkid/blkid.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>

#include <fmt/format.h>

#include "cli/exit.h"
#include "cli/verbs.h"

namespace cowsnap::cli {

namespace {

struct Arguments {
    std::string snapshot;
    std::string directory;
    bool writable = false;
};

/// Runs a program of the system's and returns whether it ended well; it says itself what was wrong.
bool runProgram(const std::string& program, std::vector<std::string> words) {
    words.insert(words.begin(), program);
    std::vector<char*> arguments;
    for (auto& word : words)
        arguments.push_back(word.data());
    arguments.push_back(nullptr);
    pid_t child = 0;
    const int result =
        ::posix_spawn(&child, program.c_str(), nullptr, nullptr, arguments.data(), environ);
    if (result != 0)
        throw Failure(ExitCode::Failed, "Failed",
                      fmt::format("cannot run {}: {}", program, std::strerror(result)));
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

struct FreeDeleter {
    void operator()(char* text) const { std::free(text); }
};

std::string fileSystemOn(const std::string& device) {
    const std::unique_ptr<char, FreeDeleter> type(
        blkid_get_tag_value(nullptr, "TYPE", device.c_str()));
    if (!type)
        throw Failure(
            ExitCode::Failed, "Failed",
            fmt::format(
                "there is no file system that is known on {}: look at it with \"blkid -p {}\"",
                device, device));
    return type.get();
}

/// The snapshot has its origin's UUID, and a journal that must not be replayed on a read-only
/// device.
std::string mountOptions(const std::string& file_system, bool writable) {
    std::string options = writable ? "rw" : "ro";
    if (file_system == "xfs")
        options += writable ? ",nouuid" : ",nouuid,norecovery";
    if (!writable && (file_system == "ext4" || file_system == "ext3"))
        options += ",noload";
    return options;
}

void mount(Session& session, const Arguments& arguments) {
    const Objects objects = session.client.objects();
    const Object& snapshot = objects.snapshot(arguments.snapshot);
    std::error_code code;
    if (!std::filesystem::is_directory(arguments.directory, code))
        throw Failure(ExitCode::NotFound, "NotFound",
                      fmt::format("{} is no directory: make it first", arguments.directory));
    warnIfStale(snapshot);
    const bool was_active = !snapshot.text("Device").empty();
    const std::string device = session.client
                                   .callStep(snapshot.path, kSnapshotInterface, "Activate", nullptr,
                                             {{"read_only", !arguments.writable}})
                                   .readString();
    const std::string directory = absolutePath(arguments.directory);
    try {
        const std::string file_system = fileSystemOn(device);
        if (!runProgram("/bin/mount",
                        {"-t", file_system, "-o", mountOptions(file_system, arguments.writable),
                         "--", device, directory}))
            throw Failure(ExitCode::Failed, "Failed",
                          fmt::format("cannot mount {} on {}", device, directory));
    } catch (const Failure&) {
        if (!was_active)
            session.client.callStep(snapshot.path, kSnapshotInterface, "Deactivate", nullptr);
        throw;
    }
    printDone(session.output, fmt::format("mounted {} on {}", snapshot.text("Name"), directory),
              {{"snapshot", snapshot.text("Name")}, {"device", device}, {"directory", directory}});
}

void umount(Session& session, const Arguments& arguments) {
    const Objects objects = session.client.objects();
    const Object& snapshot = objects.snapshot(arguments.snapshot);
    const std::string device = snapshot.text("Device");
    if (device.empty())
        throw Failure(ExitCode::NotFound, "NotFound",
                      fmt::format("the snapshot {} is not active, so it is not mounted",
                                  snapshot.text("Name")));
    if (!runProgram("/bin/umount", {"--", device}))
        throw Failure(ExitCode::Busy, "Busy", fmt::format("cannot unmount {}", device));
    try {
        session.client.callStep(snapshot.path, kSnapshotInterface, "Deactivate", nullptr);
    } catch (const Failure& failure) {
        throw Failure(ExitCode::Partly, failure.name(),
                      std::string("unmounted, but still active: ") + failure.what());
    }
    printDone(session.output, fmt::format("unmounted {}", snapshot.text("Name")),
              {{"snapshot", snapshot.text("Name")}});
}

}  // namespace

void addMount(CLI::App& app, Run& run) {
    auto arguments = std::make_shared<Arguments>();
    CLI::App* const on = app.add_subcommand("mount", "Mount a snapshot, read-only");
    on->add_option("snapshot", arguments->snapshot, "Name, STORE/NAME or UUID")->required();
    on->add_option("directory", arguments->directory, "Where")->required();
    on->add_flag("--rw", arguments->writable, "Writable (for a snapshot that was created so)");
    on->callback(
        [&run, arguments] { run = [arguments](Session& session) { mount(session, *arguments); }; });
    CLI::App* const off = app.add_subcommand("umount", "Unmount a snapshot and remove its device");
    off->add_option("snapshot", arguments->snapshot, "Name, STORE/NAME or UUID")->required();
    off->callback([&run, arguments] {
        run = [arguments](Session& session) { umount(session, *arguments); };
    });
}

}  // namespace cowsnap::cli
