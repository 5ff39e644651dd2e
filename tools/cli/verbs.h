// SPDX-License-Identifier: GPL-2.0-or-later
// The verbs of snapd-cli, one file each; this is what main() knows of them. A verb
// adds itself to the command line and leaves in "run" what is to be done.
#ifndef COWSNAP_CLI_VERBS_H
#define COWSNAP_CLI_VERBS_H

#include <functional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "cli/client.h"
#include "cli/exit.h"
#include "cli/output.h"

namespace cowsnap::cli {

/// What a verb gets to do its work with.
struct Session {
    Client& client;
    const OutputOptions& output;
    /// How it ends if nothing is thrown.
    ExitCode end = ExitCode::Done;
};

/// Set by the verb that was named.
using Run = std::function<void(Session&)>;

void addActivate(CLI::App& app, Run& run);
void addCreate(CLI::App& app, Run& run);
void addDelete(CLI::App& app, Run& run);
void addHold(CLI::App& app, Run& run);
void addImport(CLI::App& app, Run& run);
void addJob(CLI::App& app, Run& run);
void addList(CLI::App& app, Run& run);
void addMount(CLI::App& app, Run& run);
void addMetrics(CLI::App& app, Run& run);
void addModify(CLI::App& app, Run& run);
void addOrigin(CLI::App& app, Run& run);
void addPrune(CLI::App& app, Run& run);
void addRename(CLI::App& app, Run& run);
void addRollback(CLI::App& app, Run& run);
void addSet(CLI::App& app, Run& run);
void addShow(CLI::App& app, Run& run);
void addStore(CLI::App& app, Run& run);
void addStoreCheck(CLI::App& store, Run& run);
void addWatch(CLI::App& app, Run& run);

/// An origin that a verb attached by itself.
struct AttachedNow {
    std::string path;
    bool is_new = false;  ///< the store did not know it before
};

/// The path of the origin that wanted names. A device that is not attached is attached
/// to the store (empty: the only one, which is made if there is none) first, and added to attached.
std::string originOrAttach(Session& session, const Objects& objects, const std::string& wanted,
                           const std::string& store, std::vector<AttachedNow>& attached);

/// Makes the first store, which is to be for the snapshots of a device; returns its path. Failure
/// (NotFound) that names the choices if there is not exactly one.
std::string makeFirstStore(Session& session, const std::string& device);
/// An initramfs has a copy of the list of stores and of boot policies: says who brings that up to
/// date.
void noteInitramfs(Session& session);
/// The same if there may be one that has such a copy.
void noteInitramfsIfThere(Session& session);
/// Says what follows from there being a new store.
void noteNewStore(Session& session, const std::string& path);

/// Detaches again the new ones of those that were attached for snapshots that there are not, and
/// throws the failure; Partly if some stay attached.
[[noreturn]] void undoAttach(Session& session, const std::vector<AttachedNow>& attached,
                             const Failure& failure);

/// Says which store was opened, and which of its origins are attached or missing: with one that is
/// missing it was done in part. verb: "opened" or "imported".
void printOpened(Session& session, const std::string& path, const std::string& verb);

/// What attaching an origin means for those who use its device.
std::string attachedText(const Object& origin);

/// Asks before a rollback that runs is cancelled.
void confirmCancelRollback(Session& session, const std::string& origin);

/// Refuses an option that was given without a value, which else would count as not given.
CLI::Validator notEmpty();

/// Refuses a number that is negative, or too large for 64 bits, which else would be taken for
/// another one. With a unit behind it, such as 5G, too.
CLI::Validator unsignedNumber();

/// What create and set create say of a new snapshot.
struct NewSnapshot {
    std::string description;
    std::vector<std::string> tags;
    std::vector<std::string> holds;
    std::string expires;
    bool writable = false;
    bool activate = false;
};
void addNewSnapshotOptions(CLI::App& verb, NewSnapshot& snapshot);
/// As options of CreateSnapshots. Failure (Usage) if a time makes no sense.
Dictionary optionsOf(const NewSnapshot& snapshot);

/// Makes the snapshots and prints them. members: origins' paths and names.
/// Usage if what is asked for makes no sense: before anything is attached for it.
void checkNewSnapshot(const Session& session, const NewSnapshot& snapshot);
void createAndPrint(Session& session,
                    const std::vector<std::pair<ObjectPath, std::string>>& members,
                    const Dictionary& options, bool activate,
                    const std::vector<AttachedNow>& attached);

}  // namespace cowsnap::cli

#endif
