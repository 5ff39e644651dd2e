// SPDX-License-Identifier: GPL-2.0-or-later
// What the verbs do with files and terminal around check, dump, restore and repair.
#include "store/verbs.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>

#include <nlohmann/json.hpp>

#include "assembly/store_devices.h"
#include "assembly/store_header.h"
#include "base/durable_file.h"
#include "base/error.h"
#include "base/json_number.h"
#include "base/size_text.h"
#include "block/linux_block_devices.h"
#include "store/blocks.h"
#include "store/check.h"
#include "store/dump.h"
#include "store/engine.h"
#include "store/repair.h"
#include "store/report_text.h"
#include "store/terminal.h"

namespace cowsnap::store {

namespace {

bool isBlockDevice(const std::string& path) {
    struct stat status {};
    return ::stat(path.c_str(), &status) == 0 && S_ISBLK(status.st_mode);
}

/// A store that is written to while it is read looks damaged.
void warnIfUsed(const std::vector<std::string>& paths) {
    for (const auto& path : paths)
        if (const std::string user = userOf(path); !user.empty())
            std::cerr << fmt::format(
                "cowsnap-store: {} is {}: what is being written may look like damage\n", path,
                user);
}

/// What is on a device that is none of the store's, or in another place, is not to be taken for a
/// part of the store. Where the superblocks do not tell, check() does.
void refuseForeign(const std::vector<std::string>& paths, DeviceBlocks& blocks) {
    ShadowBlocks shadow(blocks);
    Engine engine(shadow);
    if (engine.probe() != 0)
        return;
    const std::uint64_t store_blocks = engine.get().super.store_blocks;
    if (const std::string foreign = blocks.behind(store_blocks); !foreign.empty())
        fail(ErrorKind::InvalidArgument,
             "{} is no device of the store on {}, which has {} and ends before it", foreign,
             paths.front(), sizeText(store_blocks * kBlockBytes));
    if (!std::all_of(paths.begin(), paths.end(), isBlockDevice))
        return;
    LinuxBlockDevices linux_devices;
    std::vector<BlockDevice> devices;
    for (const auto& path : paths)
        devices.push_back(linux_devices.describe(std::filesystem::absolute(path)));
    if (const auto header = readStoreHeader(linux_devices, devices.front().identity.path))
        checkStoreDevices(linux_devices, *header, devices);
}

ExitCode runCheck(const CommonOptions& common, const std::vector<std::string>& paths, bool data) {
    warnIfUsed(paths);
    DeviceBlocks devices(paths, DeviceBlocks::Access::ReadOnly);
    refuseForeign(paths, devices);
    Report report;
    {
        ProgressBar bar("checking data");
        CheckOptions options;
        options.data = data;
        options.progress = [&bar](std::uint64_t done, std::uint64_t total) {
            bar.show(done, total);
        };
        report = check(devices, options);
    }
    if (common.json)
        std::cout << reportJson(report, devices).dump(2) << '\n';
    else
        std::cout << reportText(report, devices);
    return report.passed() ? ExitCode::Done : ExitCode::Damaged;
}

ExitCode runDump(const std::vector<std::string>& paths, const std::string& output, bool no_data) {
    warnIfUsed(paths);
    DeviceBlocks devices(paths, DeviceBlocks::Access::ReadOnly);
    refuseForeign(paths, devices);
    ProgressBar bar("dumping");
    DumpOptions options;
    options.data = !no_data;
    options.progress = [&bar](std::uint64_t done, std::uint64_t total) { bar.show(done, total); };
    if (output == "-") {
        dump(devices, std::cout, options);
        return ExitCode::Done;
    }
    std::ofstream file(output, std::ios::binary | std::ios::trunc);
    if (!file)
        failErrno(errno, fmt::format("cannot write {}", output));
    dump(devices, file, options);
    file.close();
    if (!file)
        fail(ErrorKind::Failed, "cannot write {}", output);
    return ExitCode::Done;
}

/// One device, or an image file that is made if there is none.
class TargetFile : public RestoreTarget {
public:
    TargetFile(std::string path, const CommonOptions& options)
        : path_(std::move(path)), options_(options) {}

    Blocks& open(std::uint64_t store_blocks) override {
        const bool is_device = isBlockDevice(path_);
        const bool exists = ::access(path_.c_str(), F_OK) == 0;
        if (exists) {
            refuseUsed({path_});
            const std::string contents =
                is_device ? LinuxBlockDevices().contents(path_) : std::string();
            if (!confirmed(options_, fmt::format("Overwrite {}{}?", path_,
                                                 contents.empty() ? "" : " (" + contents + ")")))
                fail(ErrorKind::NotAuthorized, "not confirmed: nothing was changed");
        }
        if (!is_device)
            makeFile(store_blocks);
        devices_.emplace(std::vector<std::string>{path_}, DeviceBlocks::Access::ReadWrite);
        if (devices_->size() < store_blocks)
            fail(ErrorKind::NoSpace, "{} has {}, the store needs {}", path_,
                 sizeText(devices_->size() * kBlockBytes), sizeText(store_blocks * kBlockBytes));
        return *devices_;
    }

    void zero(std::uint64_t block, std::uint64_t count) override { devices_->zero(block, count); }

private:
    /// Of the size of the store at least.
    void makeFile(std::uint64_t store_blocks) const {
        const FileDescriptor file(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        struct stat status {};
        if (!file || ::fstat(file.get(), &status) != 0)
            failErrno(errno, fmt::format("cannot write {}", path_));
        const auto size = static_cast<off_t>(store_blocks * kBlockBytes);
        if (S_ISREG(status.st_mode) && status.st_size < size && ::ftruncate(file.get(), size) != 0)
            failErrno(errno, fmt::format("cannot make {} large enough", path_));
    }

    std::string path_;
    CommonOptions options_;
    std::optional<DeviceBlocks> devices_;
};

ExitCode runRestore(const CommonOptions& common, const std::string& input,
                    const std::string& path) {
    TargetFile target(path, common);
    RestoreResult result;
    if (input == "-") {
        result = restore(std::cin, target);
    } else {
        std::ifstream file(input, std::ios::binary);
        if (!file)
            failErrno(errno, fmt::format("cannot read {}", input));
        result = restore(file, target);
    }
    if (common.json) {
        std::cout << nlohmann::ordered_json{{"version", kReportVersion},
                                            {"segments", result.segments},
                                            {"with_data", result.with_data},
                                            {"lost_snapshots", result.lost_snapshots}}
                         .dump(2)
                  << '\n';
    } else {
        std::cout << fmt::format("restored to {}: {} segments\n", path, result.segments);
        if (!result.with_data)
            std::cout << fmt::format(
                "the dump has no data: {} snapshots were recorded as lost, reads of them are "
                "errors\n",
                result.lost_snapshots);
    }
    return ExitCode::Done;
}

struct RepairOptions {
    std::vector<std::string> paths;
    bool data = false;
    bool dry_run = false;
    std::string metadata;  ///< a file
};

/// What the daemon wrote into its backups.
Metadata metadataIn(const std::string& path) {
    const auto text = readIfThere(path);
    if (!text)
        fail(ErrorKind::NotFound, "there is no file {}", path);
    // The schema stands in it, too.
    const auto json = nlohmann::json::parse(*text, nullptr, false);
    if (!json.is_object() || !json.contains("schema"))
        fail(ErrorKind::InvalidArgument, "{} is no metadata of a store", path);
    return parseMetadata(numberFrom<std::uint32_t>(json.at("schema")), *text);
}

ExitCode runRepair(const CommonOptions& common, const RepairOptions& repair) {
    if (repair.dry_run)
        warnIfUsed(repair.paths);
    else
        refuseUsed(repair.paths);
    DeviceBlocks devices(repair.paths, repair.dry_run ? DeviceBlocks::Access::ReadOnly
                                                      : DeviceBlocks::Access::ReadWrite);
    refuseForeign(repair.paths, devices);
    ShadowBlocks shadow(devices);
    RepairPlan plan;
    {
        ProgressBar bar("checking data");
        CheckOptions options;
        options.data = repair.data;
        options.progress = [&bar](std::uint64_t done, std::uint64_t total) {
            bar.show(done, total);
        };
        std::optional<Metadata> metadata;
        if (!repair.metadata.empty())
            metadata = metadataIn(repair.metadata);
        plan = planRepair(shadow, options, metadata);
    }
    // JSON is one document, printed at the end: where the repair fails, it is that of the error.
    const auto say = [&](const std::string& text) {
        if (!common.json)
            std::cout << text << std::flush;
    };
    const auto sayJson = [&](bool repaired) {
        if (common.json)
            std::cout << planJson(plan, devices, repaired).dump(2) << '\n';
    };
    say(reportText(plan.before, devices));
    if (!plan.needed()) {
        say("there is nothing to repair\n");
        sayJson(false);
        return ExitCode::Done;
    }
    say(planText(plan));
    if (repair.dry_run) {
        sayJson(false);
        return plan.before.passed() ? ExitCode::Done : ExitCode::Damaged;
    }
    if (!confirmed(common, plan.dropped.empty()
                               ? std::string("Repair the store?")
                               : fmt::format("Drop {} snapshots and repair the store?",
                                             plan.dropped.size())))
        fail(ErrorKind::NotAuthorized, "not confirmed: nothing was changed");
    if (const int error = shadow.apply())
        failErrno(-error, "the store cannot be written; run repair again");
    const Report after = check(devices, {});
    if (!after.passed())
        fail(ErrorKind::Failed, "the store is damaged still; run repair again");
    say("the store is repaired\n");
    sayJson(true);
    return ExitCode::Done;
}

}  // namespace

void refuseUsed(const std::vector<std::string>& paths) {
    for (const auto& path : paths)
        if (const std::string user = userOf(path); !user.empty())
            fail(ErrorKind::Busy, "{} is {}: stop that first", path, user);
}

bool confirmed(const CommonOptions& options, const std::string& question) {
    if (options.yes)
        return true;
    if (options.json)
        fail(ErrorKind::NotAuthorized,
             "with --json nothing is asked, so nothing was changed; --yes answers the question "
             "\"{}\"",
             question);
    if (!canAsk())
        fail(ErrorKind::NotAuthorized,
             "there is no terminal to ask on, so nothing was changed; --yes answers the question "
             "\"{}\"",
             question);
    return ask(question);
}

void addDevices(CLI::App& command, std::vector<std::string>& paths) {
    command
        .add_option("device", paths, "The store's devices in their order, or an image file of it")
        ->required();
}

void addCheck(CLI::App& app, Run& run) {
    CLI::App* command = app.add_subcommand(
        "check", "Say whether a store is right, and name what is damaged (exit code 8)");
    auto paths = std::make_shared<std::vector<std::string>>();
    auto data = std::make_shared<bool>(false);
    addDevices(*command, *paths);
    command->add_flag("--data", *data,
                      "Also compare all data that a snapshot may return with its checksum");
    command->callback([&run, paths, data] {
        run = [paths, data](const CommonOptions& options) {
            return runCheck(options, *paths, *data);
        };
    });
}

void addDump(CLI::App& app, Run& run) {
    CLI::App* command = app.add_subcommand(
        "dump", "Write a store as JSON, with the data of its snapshots unless --no-data");
    auto paths = std::make_shared<std::vector<std::string>>();
    auto output = std::make_shared<std::string>("-");
    auto no_data = std::make_shared<bool>(false);
    addDevices(*command, *paths);
    command->add_option("--output", *output, "The file to write (default: standard output)");
    command->add_flag("--no-data", *no_data,
                      "Leave out the data: restoring that gives snapshots that are lost");
    command->callback([&run, paths, output, no_data] {
        run = [paths, output, no_data](const CommonOptions&) {
            return runDump(*paths, *output, *no_data);
        };
    });
}

void addRestore(CLI::App& app, Run& run) {
    CLI::App* command = app.add_subcommand(
        "restore", "Make the store of a dump again on a device or in an image file");
    auto path = std::make_shared<std::string>();
    auto input = std::make_shared<std::string>("-");
    command->add_option("device", *path, "Where to: all that is there is overwritten")->required();
    command->add_option("--input", *input, "The dump (default: standard input)");
    command->callback([&run, path, input] {
        run = [path, input](const CommonOptions& options) {
            return runRestore(options, *input, *path);
        };
    });
}

void addRepair(CLI::App& app, Run& run) {
    CLI::App* command = app.add_subcommand(
        "repair", "Keep all that can be proven exact, drop the snapshots that cannot");
    auto repair = std::make_shared<RepairOptions>();
    addDevices(*command, repair->paths);
    command->add_flag("--data", repair->data,
                      "Also check all data, and drop the snapshots that have damaged data");
    command->add_flag("--dry-run", repair->dry_run, "Only say what would be done");
    command->add_option("--metadata", repair->metadata,
                        "If both copies of the metadata are damaged: a file of "
                        "/var/lib/cowsnap/backups");
    command->callback([&run, repair] {
        run = [repair](const CommonOptions& options) { return runRepair(options, *repair); };
    });
}

}  // namespace cowsnap::store
