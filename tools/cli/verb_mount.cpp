// SPDX-License-Identifier: GPL-2.0-or-later
// mount, umount: a snapshot's file system, with the options that a second copy of
// a file system needs. Runs mount(8) and umount(8), without a shell.
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>

#include <fmt/format.h>

#include "cli/exit.h"
#include "cli/file_systems.h"
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

/// Makes the snapshot's device and mounts it.
class Mounting {
public:
    Mounting(Session& session, const Object& snapshot, const Arguments& arguments)
        : session_(session), snapshot_(snapshot), arguments_(arguments) {}

    void run() {
        const bool was_active = !snapshot_.text("Device").empty();
        activate(arguments_.writable);
        try {
            mount(was_active);
        } catch (const Failure&) {
            if (!was_active)
                deactivate();
            throw;
        }
        printDone(
            session_.output, fmt::format("mounted {} on {}", snapshot_.text("Name"), directory_),
            {{"snapshot", snapshot_.text("Name")}, {"device", device_}, {"directory", directory_}});
    }

private:
    void activate(bool writable) {
        device_ = session_.client
                      .callStep(snapshot_.path, kSnapshotInterface, "Activate", nullptr,
                                {{"read_only", !writable}})
                      .readString();
    }
    void deactivate() {
        session_.client.callStep(snapshot_.path, kSnapshotInterface, "Deactivate", nullptr);
    }

    /// Replaying a journal writes: it is done where writing is what the snapshot is for.
    MountAs howToMount(const std::string& file_system, bool was_active) {
        if (arguments_.writable)
            return MountAs::Writable;
        const bool frozen = snapshot_.text("Consistency") == "file-system";
        if (!needsReplay(file_system, device_, frozen))
            return MountAs::ReadOnly;
        if (snapshot_.flag("Writable") && !was_active) {
            deactivate();
            activate(true);
            return MountAs::ReadOnlyAfterReplay;
        }
        printWarning(
            fmt::format("the journal of {} on the snapshot {} is not replayed, since that would "
                        "write: what was "
                        "changed last may be missing or unreadable. {}",
                        file_system, snapshot_.text("Name"),
                        snapshot_.flag("Writable")
                            ? "Deactivate the snapshot before it is mounted: then it is replayed"
                            : "A snapshot that is created with --writable is mounted with its "
                              "journal replayed"));
        return MountAs::ReadOnly;
    }

    void mount(bool was_active) {
        const std::string file_system = fileSystemOn(device_);
        const MountAs how = howToMount(file_system, was_active);
        if (!runProgram("/bin/mount", {"-t", file_system, "-o", mountOptions(file_system, how),
                                       "--", device_, directory_}))
            throw Failure(ExitCode::Failed, "Failed",
                          fmt::format("cannot mount {} on {}", device_, directory_));
    }

    Session& session_;
    const Object& snapshot_;
    const Arguments& arguments_;
    const std::string directory_ = absolutePath(arguments_.directory);
    std::string device_;
};

void mount(Session& session, const Arguments& arguments) {
    const Objects objects = session.client.objects();
    const Object& snapshot = objects.snapshot(arguments.snapshot);
    std::error_code code;
    if (!std::filesystem::is_directory(arguments.directory, code))
        throw Failure(ExitCode::NotFound, "NotFound",
                      fmt::format("{} is no directory: make it first", arguments.directory));
    warnIfStale(snapshot);
    Mounting(session, snapshot, arguments).run();
}

void umount(Session& session, const Arguments& arguments) {
    const Objects objects = session.client.objects();
    const Object& snapshot = objects.snapshot(arguments.snapshot);
    const std::string device = snapshot.text("Device");
    if (device.empty())
        throw Failure(ExitCode::NotFound, "NotFound",
                      fmt::format("the snapshot {} is not active, so it is not mounted",
                                  snapshot.text("Name")));
    if (!isMounted(device)) {
        session.client.callJob(snapshot.path, kSnapshotInterface, "Deactivate", nullptr);
        printDone(session.output,
                  fmt::format("{} was not mounted; its device is removed", snapshot.text("Name")),
                  {{"snapshot", snapshot.text("Name")}});
        return;
    }
    if (session.output.dry_run) {
        printDone(session.output,
                  fmt::format("nothing was changed: {} would be unmounted, then removed; whether "
                              "somebody uses what is mounted was not checked",
                              device),
                  {{"dry_run", true}, {"checked", nullptr}, {"first_step", true}});
        return;
    }
    if (!runProgram("/bin/umount", {"--", device}))
        throw Failure(
            ExitCode::Busy, "Busy",
            fmt::format("cannot unmount {0}: \"fuser -vm {0}\" tells who uses it", device));
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
