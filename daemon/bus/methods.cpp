// SPDX-License-Identifier: GPL-2.0-or-later
// One function a method, found by interface and name.
#include "bus/methods.h"

#include <algorithm>
#include <ctime>
#include <initializer_list>
#include <map>
#include <set>

#include "base/error.h"
#include "base/names.h"
#include "bus/options.h"
#include "config/configuration.h"
#include "model/published.h"
#include "model/snapshot_checks.h"

namespace cowsnap {

namespace {

using Reader = Operation (*)(Message& call);
using About = Operation::About;

Operation about(std::vector<ObjectPath> objects, Work work) {
    return {About::Objects, std::move(objects), std::move(work)};
}

/// With a subject in words.
Operation withSubject(std::string subject, Operation operation) {
    operation.subject = std::move(subject);
    return operation;
}

/// About the object that is called.
Operation aboutItself(const Message& call, Work work) {
    return about({{call.path()}}, std::move(work));
}

/// The options that say what a store is extended with.
AutoextendChange takeAutoextend(Options& options) {
    AutoextendChange change;
    change.enabled = options.take<bool>("autoextend");
    change.add_spares =
        options.take<std::vector<std::string>>("spares").value_or(change.add_spares);
    change.max_bytes = options.take<std::uint64_t>("max_bytes");
    return change;
}

Operation createStore(Message& call) {
    auto devices = call.readStrings();
    auto name = call.readString();
    Options options(call);
    StoreOptions store_options;
    store_options.full_wait_ms = options.take<std::uint64_t>("full_wait_ms");
    store_options.segment_sectors = options.take<std::uint64_t>("segment_sectors");
    const AutoextendChange autoextend = takeAutoextend(options);
    const auto group = options.take<std::string>("volume_group");
    const auto volume_bytes = options.take<std::uint64_t>("volume_bytes");
    options.finish();
    if (group.has_value() != volume_bytes.has_value())
        fail(ErrorKind::InvalidArgument,
             "the options \"volume_group\" and \"volume_bytes\" belong together");
    if (group && !devices.empty())
        fail(ErrorKind::InvalidArgument,
             "a store is made on devices or in a volume group, not on both");
    const Work work = [=](Engine& engine) {
        return storePath(
            group ? engine.createStoreIn(*group, *volume_bytes, name, store_options, autoextend)
                  : engine.createStore(devices, name, store_options, autoextend));
    };
    return withSubject(name, {About::UnknownStores, {}, work});
}

Operation listStoreCandidates(Message& call) {
    const auto origin = call.readString();
    Options(call).finish();
    const Work work = [=](Engine& engine) {
        std::vector<Dictionary> answer;
        for (const auto& candidate : engine.storeCandidates(origin)) {
            const bool is_group = candidate.kind == StoreCandidate::Kind::VolumeGroup;
            answer.push_back({{"Kind", std::string(is_group ? "volume-group" : "device")},
                              {"Name", candidate.name},
                              {"FreeBytes", candidate.free_bytes},
                              {"SizeBytes", candidate.size_bytes}});
        }
        return answer;
    };
    return {About::UnknownStores, {}, work};
}

Operation openStore(Message& call) {
    auto devices = call.readStrings();
    Options options(call);
    auto name = options.take<std::string>("name").value_or("");
    const auto origins = options.take<bool>("import").value_or(false) ? Recognize::ByTheirMarks
                                                                      : Recognize::AsBefore;
    options.finish();
    const Work work = [=](Engine& engine) {
        return storePath(engine.openStore(devices, name, origins));
    };
    return withSubject(fmt::format("{}", fmt::join(devices, ", ")),
                       {About::UnknownStores, {}, work});
}

/// Nothing: the one that fits.
std::optional<AttachMethod> methodFrom(const std::string& text) {
    if (text == "auto")
        return std::nullopt;
    if (text == "stack")
        return AttachMethod::Stacked;
    if (text == "interpose")
        return AttachMethod::Interposed;
    fail(ErrorKind::InvalidArgument,
         "the option \"method\" is auto, stack or interpose, not \"{}\"", text);
}

BootPolicy policyFrom(const std::string& text) {
    if (const auto policy = policyNamed(text))
        return *policy;
    fail(ErrorKind::InvalidArgument, "a boot policy is fail-open or fail-closed, not \"{}\"", text);
}

Operation attach(Message& call) {
    auto device = call.readString();
    const ObjectPath store_path = call.readObjectPath();
    const Uuid store = uuidInPath(store_path, "store");
    Options options(call);
    auto name = options.take<std::string>("name").value_or("");
    const auto method = methodFrom(options.take<std::string>("method").value_or("auto"));
    auto known_as = options.take<std::string>("known_as").value_or("");
    std::optional<BootPolicy> policy;
    if (const auto wanted = options.take<std::string>("boot_policy"))
        policy = policyFrom(*wanted);
    options.finish();
    return withSubject(
        device, about({store_path}, [=](Engine& engine) {
            return originPath(engine.attach(device, store, name, method, known_as, policy));
        }));
}

std::set<std::string> namesIn(Options& options, const std::string& option) {
    const auto names = options.take<std::vector<std::string>>(option);
    return names ? std::set<std::string>(names->begin(), names->end()) : std::set<std::string>();
}

Operation createSnapshots(Message& call) {
    std::vector<std::pair<Uuid, std::string>> members;
    std::vector<ObjectPath> origins;
    std::vector<std::string> names;
    const auto pairs = call.readPairs();
    // Before it is a job, which says all their names. One without any is the engine's to refuse.
    if (!pairs.empty())
        checkSetSize(pairs.size());
    for (const auto& [origin, name] : pairs) {
        checkName("snapshot", name);
        members.emplace_back(uuidInPath(origin, "origin"), name);
        origins.push_back(origin);
        names.push_back(name);
    }
    Options options(call);
    SnapshotOptions snapshot_options;
    snapshot_options.writable = options.take<bool>("writable").value_or(false);
    snapshot_options.description = options.take<std::string>("description").value_or("");
    snapshot_options.tags = namesIn(options, "tags");
    snapshot_options.holds = namesIn(options, "holds");
    snapshot_options.expires = options.take<std::uint64_t>("expires").value_or(0);
    options.finish();
    const Work work = [=](Engine& engine) {
        std::vector<ObjectPath> paths;
        for (const Uuid& uuid : engine.createSnapshots(members, snapshot_options))
            paths.push_back(snapshotPath(uuid));
        return paths;
    };
    return withSubject(fmt::format("{}", fmt::join(names, ", ")), about(origins, work));
}

std::vector<Uuid> uuidsIn(const std::vector<ObjectPath>& paths, std::string_view kind) {
    std::vector<Uuid> uuids;
    for (const auto& path : paths)
        uuids.push_back(uuidInPath(path, kind));
    return uuids;
}

Operation deleteSnapshots(Message& call) {
    const auto paths = call.readObjectPaths();
    const auto snapshots = uuidsIn(paths, "snapshot");
    Options(call).finish();
    return about(paths, [=](Engine& engine) {
        engine.deleteSnapshots(snapshots);
        return std::nullopt;
    });
}

Operation holdSnapshots(Message& call) {
    const auto paths = call.readObjectPaths();
    const auto snapshots = uuidsIn(paths, "snapshot");
    const auto hold = call.readString();
    Options(call).finish();
    return about(paths, [=](Engine& engine) {
        engine.holdSnapshots(snapshots, hold);
        return std::nullopt;
    });
}

Operation releaseSnapshots(Message& call) {
    const auto paths = call.readObjectPaths();
    const auto snapshots = uuidsIn(paths, "snapshot");
    const auto hold = call.readString();
    Options(call).finish();
    return about(paths, [=](Engine& engine) {
        engine.releaseSnapshots(snapshots, hold);
        return std::nullopt;
    });
}

/// The rules among the options; nothing if there is none.
std::optional<RetentionRules> takeRules(Options& options) {
    RetentionRules rules;
    bool given = false;
    for (const auto& [name, count] :
         std::initializer_list<std::pair<const char*, std::uint64_t RetentionRules::*>>{
             {"last", &RetentionRules::last},
             {"hourly", &RetentionRules::hourly},
             {"daily", &RetentionRules::daily},
             {"weekly", &RetentionRules::weekly},
             {"monthly", &RetentionRules::monthly},
             {"yearly", &RetentionRules::yearly}})
        if (const auto value = options.take<std::uint64_t>(name)) {
            rules.*count = *value;
            given = true;
        }
    if (!given)
        return std::nullopt;
    if (rules == RetentionRules())
        fail(ErrorKind::InvalidArgument,
             "these rules keep nothing: one of them must keep at least 1");
    return rules;
}

std::string actionName(PruneResult::Action action) {
    switch (action) {
        case PruneResult::Action::Delete:
            return "delete";
        case PruneResult::Action::Failed:
            return "failed";
        case PruneResult::Action::Keep:
            break;
    }
    return "keep";
}

Operation prune(Message& call) {
    const auto paths = call.readObjectPaths();
    const auto origins = uuidsIn(paths, "origin");
    Options options(call);
    PruneOptions prune_options;
    prune_options.rules = takeRules(options).value_or(RetentionRules());
    prune_options.tags = namesIn(options, "tags");
    prune_options.dry_run = options.dryRun();
    options.finish();
    const Work work = [=](Engine& engine) mutable {
        prune_options.now = static_cast<std::uint64_t>(std::time(nullptr));
        std::vector<Dictionary> answer;
        for (const auto& result : engine.prune(origins, prune_options))
            answer.push_back(
                {{"Snapshot", result.snapshot ? snapshotPath(*result.snapshot) : ObjectPath{"/"}},
                 {"Name", result.name},
                 {"Action", actionName(result.action)},
                 {"Reason", result.reason}});
        return answer;
    };
    Operation operation{paths.empty() ? About::AllStores : About::Objects, paths, work};
    operation.only_looks = prune_options.dry_run;
    return operation;
}

Operation getMetrics(Message& call) {
    Options(call).finish();
    return {About::GetMetrics, {}, {}};
}

Operation refresh(Message& call) {
    Options(call).finish();
    return {About::Refresh, {}, {}};
}

Operation reload(Message& call) {
    Options(call).finish();
    return {About::Reload, {}, {}};
}

Operation setLogLevel(Message& call) {
    auto level = call.readString();
    Options(call).finish();
    const auto& known = logLevels();
    if (std::find(known.begin(), known.end(), level) == known.end())
        fail(ErrorKind::InvalidArgument, "there is no level \"{}\" of the log; there are: {}",
             level, fmt::join(known, ", "));
    return withSubject(level, {About::SetLogLevel, {}, {}});
}

Operation listJobs(Message& call) {
    Options options(call);
    auto request_id = options.take<std::string>("request").value_or("");
    options.finish();
    return withSubject(request_id, {About::ListJobs, {}, {}});
}

Operation listSnapshots(Message& call) {
    Options(call).finish();
    return {About::ListSnapshots, {}, {}};
}

Operation cancelJob(Message& call) {
    Options(call).finish();
    return {About::CancelJob, {{call.path()}}, {}};
}

Operation extendStore(Message& call) {
    const Uuid store = uuidInPath({call.path()}, "store");
    auto devices = call.readStrings();
    Options(call).finish();
    return aboutItself(call, [=](Engine& engine) {
        engine.extendStore(store, devices);
        return std::nullopt;
    });
}

ObjectPath pathOf(const StoreFinding& finding) {
    switch (finding.about) {
        case StoreFinding::About::Origin:
            return originPath(finding.uuid);
        case StoreFinding::About::Snapshot:
            return snapshotPath(finding.uuid);
        case StoreFinding::About::Store:
            break;
    }
    return storePath(finding.uuid);
}

Operation checkStore(Message& call) {
    const Uuid store = uuidInPath({call.path()}, "store");
    Options(call).finish();
    return aboutItself(call, [=](Engine& engine) {
        std::vector<Dictionary> answer;
        for (const auto& finding : engine.checkStore(store))
            answer.push_back({{"Object", pathOf(finding)},
                              {"Name", finding.name},
                              {"Damage", finding.damage},
                              {"Text", finding.text}});
        return answer;
    });
}

Operation setAutoextend(Message& call) {
    const Uuid store = uuidInPath({call.path()}, "store");
    Options options(call);
    AutoextendChange change = takeAutoextend(options);
    change.remove_spares =
        options.take<std::vector<std::string>>("remove_spares").value_or(change.remove_spares);
    options.finish();
    return aboutItself(call, [=](Engine& engine) {
        engine.changeAutoextend(store, change);
        return std::nullopt;
    });
}

Operation closeStore(Message& call) {
    const Uuid store = uuidInPath({call.path()}, "store");
    Options options(call);
    const bool force = options.take<bool>("force").value_or(false);
    options.finish();
    return aboutItself(call, [=](Engine& engine) {
        engine.closeStore(store, force);
        return std::nullopt;
    });
}

Operation detach(Message& call) {
    const Uuid origin = uuidInPath({call.path()}, "origin");
    Options(call).finish();
    return aboutItself(call, [=](Engine& engine) {
        engine.detach(origin);
        return std::nullopt;
    });
}

Operation setBootPolicy(Message& call) {
    const Uuid origin = uuidInPath({call.path()}, "origin");
    const BootPolicy policy = policyFrom(call.readString());
    Options(call).finish();
    return aboutItself(call, [=](Engine& engine) {
        engine.setBootPolicy(origin, policy);
        return std::nullopt;
    });
}

Operation deleteSnapshot(Message& call) {
    const Uuid snapshot = uuidInPath({call.path()}, "snapshot");
    Options(call).finish();
    return aboutItself(call, [=](Engine& engine) {
        engine.deleteSnapshots({snapshot});
        return std::nullopt;
    });
}

Operation renameSnapshot(Message& call) {
    const Uuid snapshot = uuidInPath({call.path()}, "snapshot");
    const auto name = call.readString();
    Options(call).finish();
    return aboutItself(call, [=](Engine& engine) {
        engine.renameSnapshot(snapshot, name);
        return std::nullopt;
    });
}

Operation setDescription(Message& call) {
    const Uuid snapshot = uuidInPath({call.path()}, "snapshot");
    const auto description = call.readString();
    Options(call).finish();
    return aboutItself(call, [=](Engine& engine) {
        engine.setDescription(snapshot, description);
        return std::nullopt;
    });
}

Operation setTags(Message& call) {
    const Uuid snapshot = uuidInPath({call.path()}, "snapshot");
    const auto tags = call.readStrings();
    Options(call).finish();
    return aboutItself(call, [=](Engine& engine) {
        engine.setTags(snapshot, tags);
        return std::nullopt;
    });
}

Operation changeTags(Message& call) {
    const Uuid snapshot = uuidInPath({call.path()}, "snapshot");
    const auto added = call.readStrings();
    const auto removed = call.readStrings();
    Options(call).finish();
    return aboutItself(call, [=](Engine& engine) {
        engine.changeTags(snapshot, added, removed);
        return std::nullopt;
    });
}

Operation setExpiry(Message& call) {
    const Uuid snapshot = uuidInPath({call.path()}, "snapshot");
    const auto expires = call.readUint64();
    Options(call).finish();
    return aboutItself(call, [=](Engine& engine) {
        engine.setExpiry(snapshot, expires);
        return std::nullopt;
    });
}

Operation holdSnapshot(Message& call) {
    const Uuid snapshot = uuidInPath({call.path()}, "snapshot");
    const auto hold = call.readString();
    Options(call).finish();
    return aboutItself(call, [=](Engine& engine) {
        engine.holdSnapshots({snapshot}, hold);
        return std::nullopt;
    });
}

Operation releaseSnapshot(Message& call) {
    const Uuid snapshot = uuidInPath({call.path()}, "snapshot");
    const auto hold = call.readString();
    Options(call).finish();
    return aboutItself(call, [=](Engine& engine) {
        engine.releaseSnapshots({snapshot}, hold);
        return std::nullopt;
    });
}

Operation rollback(Message& call) {
    const Uuid snapshot = uuidInPath({call.path()}, "snapshot");
    Options options(call);
    RollbackOptions rollback_options;
    rollback_options.undo_name = options.take<std::string>("undo_name").value_or("");
    rollback_options.schedule = options.take<bool>("schedule").value_or(false);
    rollback_options.force = options.take<bool>("force").value_or(false);
    options.finish();
    return aboutItself(call, [=](Engine& engine) {
        return snapshotPath(engine.rollback(snapshot, rollback_options));
    });
}

Operation cancelRollback(Message& call) {
    const Uuid origin = uuidInPath({call.path()}, "origin");
    Options(call).finish();
    return aboutItself(call, [=](Engine& engine) {
        engine.cancelRollback(origin);
        return std::nullopt;
    });
}

Operation activate(Message& call) {
    const Uuid snapshot = uuidInPath({call.path()}, "snapshot");
    Options options(call);
    const bool read_only = options.take<bool>("read_only").value_or(true);
    options.finish();
    return aboutItself(call, [=](Engine& engine) { return engine.activate(snapshot, read_only); });
}

Operation deactivate(Message& call) {
    const Uuid snapshot = uuidInPath({call.path()}, "snapshot");
    Options(call).finish();
    return aboutItself(call, [=](Engine& engine) {
        engine.deactivate(snapshot);
        return std::nullopt;
    });
}

struct Method {
    Reader read = nullptr;
    const char* job = "";             ///< empty: it is none
    std::optional<Answer> at_once{};  ///< its answer if nobody waits for the job
};

const Answer kNoObject = Value(ObjectPath{"/"});
const Answer kNoObjects = Value(std::vector<ObjectPath>{});
const Answer kNoText = Value(std::string());
const Answer kNoResults = std::vector<Dictionary>{};

const std::map<std::pair<std::string, std::string>, Method> kMethods{
    {{kManagerInterface, "CreateStore"}, {createStore, "create-store", kNoObject}},
    {{kManagerInterface, "ListStoreCandidates"}, {listStoreCandidates}},
    {{kManagerInterface, "OpenStore"}, {openStore, "open-store", kNoObject}},
    {{kManagerInterface, "Attach"}, {attach, "attach", kNoObject}},
    {{kManagerInterface, "CreateSnapshots"}, {createSnapshots, "create", kNoObjects}},
    {{kManagerInterface, "DeleteSnapshots"}, {deleteSnapshots, "delete"}},
    {{kManagerInterface, "HoldSnapshots"}, {holdSnapshots, "hold"}},
    {{kManagerInterface, "ReleaseSnapshots"}, {releaseSnapshots, "release"}},
    {{kManagerInterface, "Prune"}, {prune, "prune", kNoResults}},
    {{kManagerInterface, "GetMetrics"}, {getMetrics}},
    {{kManagerInterface, "Refresh"}, {refresh}},
    {{kManagerInterface, "ListJobs"}, {listJobs}},
    {{kManagerInterface, "ListSnapshots"}, {listSnapshots}},
    {{kManagerInterface, "Reload"}, {reload}},
    {{kManagerInterface, "SetLogLevel"}, {setLogLevel}},
    {{kStoreInterface, "Extend"}, {extendStore, "extend-store"}},
    {{kStoreInterface, "SetAutoextend"}, {setAutoextend, "set-autoextend"}},
    {{kStoreInterface, "Check"}, {checkStore}},
    {{kStoreInterface, "Close"}, {closeStore, "close-store"}},
    {{kOriginInterface, "Detach"}, {detach, "detach"}},
    {{kOriginInterface, "CancelRollback"}, {cancelRollback, kCancelRollback}},
    {{kOriginInterface, "SetBootPolicy"}, {setBootPolicy, "set-boot-policy"}},
    {{kSnapshotInterface, "Delete"}, {deleteSnapshot, "delete"}},
    {{kSnapshotInterface, "Rename"}, {renameSnapshot, "rename"}},
    {{kSnapshotInterface, "SetDescription"}, {setDescription, "describe"}},
    {{kSnapshotInterface, "SetTags"}, {setTags, "tag"}},
    {{kSnapshotInterface, "ChangeTags"}, {changeTags, "tag"}},
    {{kSnapshotInterface, "SetExpiry"}, {setExpiry, "expire"}},
    {{kSnapshotInterface, "Hold"}, {holdSnapshot, "hold"}},
    {{kSnapshotInterface, "Release"}, {releaseSnapshot, "release"}},
    {{kSnapshotInterface, "Rollback"}, {rollback, kRollback, kNoObject}},
    {{kSnapshotInterface, "Activate"}, {activate, "activate", kNoText}},
    {{kSnapshotInterface, "Deactivate"}, {deactivate, "deactivate"}},
    {{kJobInterface, "Cancel"}, {cancelJob}},
};

}  // namespace

Operation readCall(Message& call, bool dry_run) {
    const auto method = kMethods.find({call.interface(), call.member()});
    if (method == kMethods.end())
        fail(ErrorKind::InvalidArgument, "there is no method {}.{}", call.interface(),
             call.member());
    Operation operation = method->second.read(call);
    operation.answer_at_once = method->second.at_once;
    if (operation.only_looks)
        return operation;
    operation.job = method->second.job;
    if (!dry_run)
        return operation;
    if (operation.job.empty())
        fail(ErrorKind::InvalidArgument, "the option \"{}\" is for jobs, and this call is none",
             kDryRunOption);
    operation.job.clear();
    operation.only_check = true;
    return operation;
}

}  // namespace cowsnap
