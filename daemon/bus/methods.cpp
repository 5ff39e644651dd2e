// SPDX-License-Identifier: GPL-2.0-or-later
// One function a method, found by interface and name.
#include "bus/methods.h"

#include <ctime>
#include <initializer_list>
#include <map>
#include <set>

#include "base/error.h"
#include "bus/options.h"
#include "model/metrics.h"
#include "model/published.h"

namespace cowsnap {

namespace {

using Reader = Work (*)(Message& call);

Work createStore(Message& call) {
    auto devices = call.readStrings();
    auto name = call.readString();
    Options options(call);
    StoreOptions store_options;
    store_options.full_wait_ms = options.take<std::uint64_t>("full_wait_ms");
    store_options.segment_sectors = options.take<std::uint64_t>("segment_sectors");
    options.finish();
    return
        [=](Engine& engine) { return storePath(engine.createStore(devices, name, store_options)); };
}

Work openStore(Message& call) {
    auto devices = call.readStrings();
    Options options(call);
    auto name = options.take<std::string>("name").value_or("");
    options.finish();
    return [=](Engine& engine) { return storePath(engine.openStore(devices, name)); };
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

Work attach(Message& call) {
    auto device = call.readString();
    const Uuid store = uuidInPath(call.readObjectPath(), "store");
    Options options(call);
    auto name = options.take<std::string>("name").value_or("");
    const auto method = methodFrom(options.take<std::string>("method").value_or("auto"));
    options.finish();
    return [=](Engine& engine) { return originPath(engine.attach(device, store, name, method)); };
}

std::set<std::string> namesIn(Options& options, const std::string& option) {
    const auto names = options.take<std::vector<std::string>>(option);
    return names ? std::set<std::string>(names->begin(), names->end()) : std::set<std::string>();
}

Work createSnapshots(Message& call) {
    std::vector<std::pair<Uuid, std::string>> members;
    for (const auto& [origin, name] : call.readPairs())
        members.emplace_back(uuidInPath(origin, "origin"), name);
    Options options(call);
    SnapshotOptions snapshot_options;
    snapshot_options.writable = options.take<bool>("writable").value_or(false);
    snapshot_options.description = options.take<std::string>("description").value_or("");
    snapshot_options.tags = namesIn(options, "tags");
    snapshot_options.holds = namesIn(options, "holds");
    snapshot_options.expires = options.take<std::uint64_t>("expires").value_or(0);
    options.finish();
    return [=](Engine& engine) {
        std::vector<ObjectPath> paths;
        for (const Uuid& uuid : engine.createSnapshots(members, snapshot_options))
            paths.push_back(snapshotPath(uuid));
        return paths;
    };
}

std::vector<Uuid> readSnapshots(Message& call) {
    std::vector<Uuid> snapshots;
    for (const auto& path : call.readObjectPaths())
        snapshots.push_back(uuidInPath(path, "snapshot"));
    return snapshots;
}

Work deleteSnapshots(Message& call) {
    const auto snapshots = readSnapshots(call);
    Options(call).finish();
    return [=](Engine& engine) {
        engine.deleteSnapshots(snapshots);
        return std::nullopt;
    };
}

Work holdSnapshots(Message& call) {
    const auto snapshots = readSnapshots(call);
    const auto hold = call.readString();
    Options(call).finish();
    return [=](Engine& engine) {
        engine.holdSnapshots(snapshots, hold);
        return std::nullopt;
    };
}

Work releaseSnapshots(Message& call) {
    const auto snapshots = readSnapshots(call);
    const auto hold = call.readString();
    Options(call).finish();
    return [=](Engine& engine) {
        engine.releaseSnapshots(snapshots, hold);
        return std::nullopt;
    };
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

Work prune(Message& call) {
    std::vector<Uuid> origins;
    for (const auto& path : call.readObjectPaths())
        origins.push_back(uuidInPath(path, "origin"));
    Options options(call);
    PruneOptions prune_options;
    prune_options.rules = takeRules(options).value_or(RetentionRules());
    prune_options.tags = namesIn(options, "tags");
    prune_options.dry_run = options.take<bool>("dry_run").value_or(false);
    options.finish();
    return [=](Engine& engine) mutable {
        prune_options.now = static_cast<std::uint64_t>(std::time(nullptr));
        std::vector<Dictionary> answer;
        for (const auto& result : engine.prune(origins, prune_options))
            answer.push_back({{"Snapshot", snapshotPath(result.snapshot)},
                              {"Name", result.name},
                              {"Action", actionName(result.action)},
                              {"Reason", result.reason}});
        return answer;
    };
}

Work getMetrics(Message& call) {
    Options(call).finish();
    return [](Engine& engine) { return metricsText(engine.stores()); };
}

Work refresh(Message& call) {
    Options(call).finish();
    return [](Engine& engine) {
        engine.refresh();
        return std::nullopt;
    };
}

Work extendStore(Message& call) {
    const Uuid store = uuidInPath({call.path()}, "store");
    auto devices = call.readStrings();
    Options(call).finish();
    return [=](Engine& engine) {
        engine.extendStore(store, devices);
        return std::nullopt;
    };
}

Work closeStore(Message& call) {
    const Uuid store = uuidInPath({call.path()}, "store");
    Options(call).finish();
    return [=](Engine& engine) {
        engine.closeStore(store);
        return std::nullopt;
    };
}

Work detach(Message& call) {
    const Uuid origin = uuidInPath({call.path()}, "origin");
    Options(call).finish();
    return [=](Engine& engine) {
        engine.detach(origin);
        return std::nullopt;
    };
}

Work deleteSnapshot(Message& call) {
    const Uuid snapshot = uuidInPath({call.path()}, "snapshot");
    Options(call).finish();
    return [=](Engine& engine) {
        engine.deleteSnapshots({snapshot});
        return std::nullopt;
    };
}

Work renameSnapshot(Message& call) {
    const Uuid snapshot = uuidInPath({call.path()}, "snapshot");
    const auto name = call.readString();
    Options(call).finish();
    return [=](Engine& engine) {
        engine.renameSnapshot(snapshot, name);
        return std::nullopt;
    };
}

Work setDescription(Message& call) {
    const Uuid snapshot = uuidInPath({call.path()}, "snapshot");
    const auto description = call.readString();
    Options(call).finish();
    return [=](Engine& engine) {
        engine.setDescription(snapshot, description);
        return std::nullopt;
    };
}

Work setTags(Message& call) {
    const Uuid snapshot = uuidInPath({call.path()}, "snapshot");
    const auto tags = call.readStrings();
    Options(call).finish();
    return [=](Engine& engine) {
        engine.setTags(snapshot, tags);
        return std::nullopt;
    };
}

Work setExpiry(Message& call) {
    const Uuid snapshot = uuidInPath({call.path()}, "snapshot");
    const auto expires = call.readUint64();
    Options(call).finish();
    return [=](Engine& engine) {
        engine.setExpiry(snapshot, expires);
        return std::nullopt;
    };
}

Work holdSnapshot(Message& call) {
    const Uuid snapshot = uuidInPath({call.path()}, "snapshot");
    const auto hold = call.readString();
    Options(call).finish();
    return [=](Engine& engine) {
        engine.holdSnapshots({snapshot}, hold);
        return std::nullopt;
    };
}

Work releaseSnapshot(Message& call) {
    const Uuid snapshot = uuidInPath({call.path()}, "snapshot");
    const auto hold = call.readString();
    Options(call).finish();
    return [=](Engine& engine) {
        engine.releaseSnapshots({snapshot}, hold);
        return std::nullopt;
    };
}

Work rollback(Message& call) {
    const Uuid snapshot = uuidInPath({call.path()}, "snapshot");
    Options options(call);
    RollbackOptions rollback_options;
    rollback_options.undo_name = options.take<std::string>("undo_name").value_or("");
    rollback_options.schedule = options.take<bool>("schedule").value_or(false);
    rollback_options.force = options.take<bool>("force").value_or(false);
    options.finish();
    return
        [=](Engine& engine) { return snapshotPath(engine.rollback(snapshot, rollback_options)); };
}

Work cancelRollback(Message& call) {
    const Uuid origin = uuidInPath({call.path()}, "origin");
    Options(call).finish();
    return [=](Engine& engine) {
        engine.cancelRollback(origin);
        return std::nullopt;
    };
}

Work activate(Message& call) {
    const Uuid snapshot = uuidInPath({call.path()}, "snapshot");
    Options options(call);
    const bool read_only = options.take<bool>("read_only").value_or(true);
    options.finish();
    return [=](Engine& engine) { return engine.activate(snapshot, read_only); };
}

Work deactivate(Message& call) {
    const Uuid snapshot = uuidInPath({call.path()}, "snapshot");
    Options(call).finish();
    return [=](Engine& engine) {
        engine.deactivate(snapshot);
        return std::nullopt;
    };
}

const std::map<std::pair<std::string, std::string>, Reader> kReaders{
    {{kManagerInterface, "CreateStore"}, createStore},
    {{kManagerInterface, "OpenStore"}, openStore},
    {{kManagerInterface, "Attach"}, attach},
    {{kManagerInterface, "CreateSnapshots"}, createSnapshots},
    {{kManagerInterface, "DeleteSnapshots"}, deleteSnapshots},
    {{kManagerInterface, "HoldSnapshots"}, holdSnapshots},
    {{kManagerInterface, "ReleaseSnapshots"}, releaseSnapshots},
    {{kManagerInterface, "Prune"}, prune},
    {{kManagerInterface, "GetMetrics"}, getMetrics},
    {{kManagerInterface, "Refresh"}, refresh},
    {{kStoreInterface, "Extend"}, extendStore},
    {{kStoreInterface, "Close"}, closeStore},
    {{kOriginInterface, "Detach"}, detach},
    {{kOriginInterface, "CancelRollback"}, cancelRollback},
    {{kSnapshotInterface, "Delete"}, deleteSnapshot},
    {{kSnapshotInterface, "Rename"}, renameSnapshot},
    {{kSnapshotInterface, "SetDescription"}, setDescription},
    {{kSnapshotInterface, "SetTags"}, setTags},
    {{kSnapshotInterface, "SetExpiry"}, setExpiry},
    {{kSnapshotInterface, "Hold"}, holdSnapshot},
    {{kSnapshotInterface, "Release"}, releaseSnapshot},
    {{kSnapshotInterface, "Rollback"}, rollback},
    {{kSnapshotInterface, "Activate"}, activate},
    {{kSnapshotInterface, "Deactivate"}, deactivate},
};

}  // namespace

bool onlyReads(const Message& call) {
    return call.interface() == kManagerInterface && call.member() == "GetMetrics";
}

Work readCall(Message& call) {
    const auto reader = kReaders.find({call.interface(), call.member()});
    if (reader == kReaders.end())
        fail(ErrorKind::InvalidArgument, "there is no method {}.{}", call.interface(),
             call.member());
    return reader->second(call);
}

}  // namespace cowsnap
