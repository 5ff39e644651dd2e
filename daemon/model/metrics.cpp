// SPDX-License-Identifier: GPL-2.0-or-later
// Families of metrics, each with its help and its samples.
#include "model/metrics.h"

#include <algorithm>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string_view>
#include <vector>

#include "block/block_devices.h"
#include "cowsnap_dm.h"
#include "model/published.h"

namespace cowsnap {

namespace {

std::string escaped(std::string_view value) {
    std::string result;
    for (const char character : value) {
        if (character == '\n') {
            result += "\\n";
            continue;
        }
        if (character == '\\' || character == '"')
            result += '\\';
        result += character;
    }
    return result;
}

/// Text of one family after the other.
class Exposition {
public:
    void family(std::string_view name, std::string_view type, std::string_view help) {
        name_ = name;
        text_ += fmt::format("# HELP {0} {1}\n# TYPE {0} {2}\n", name, help, type);
    }
    void sample(const std::string& labels, std::uint64_t value) {
        text_ += fmt::format("{}{{{}}} {}\n", name_, labels, value);
    }
    std::string take() { return std::move(text_); }

private:
    std::string name_;
    std::string text_;
};

std::string labelsOf(const StoreState& store) {
    return fmt::format("store=\"{}\",store_uuid=\"{}\"", escaped(store.name), store.uuid.dashed());
}

std::string labelsOf(const StoreState& store, const OriginRecord& origin) {
    return fmt::format("store=\"{}\",origin=\"{}\",origin_uuid=\"{}\"", escaped(store.name),
                       escaped(origin.name), origin.uuid.dashed());
}

/// A full one has its origins wait, but does not lose anything.
bool isUp(const StoreState& store) {
    return store.problem.empty() && store.status.state != COWSNAP_STORE_FAILED;
}

/// One sample for each of the states that there are: 1 for the one that it is. One that is not
/// among them, of a newer module, has a sample as well.
void sampleState(Exposition& exposition, const std::string& labels,
                 std::initializer_list<std::string_view> states, const std::string& state) {
    std::map<std::string, std::uint64_t> values;
    for (const auto known : states)
        values[std::string(known)] = 0;
    values[state] = 1;
    for (const auto& [name, value] : values)
        exposition.sample(fmt::format("{},state=\"{}\"", labels, escaped(name)), value);
}

struct StoreMetric {
    const char* name;
    const char* help;
    std::uint64_t (*value)(const StoreState&);
};

std::uint64_t segmentBytes(const StoreState& store) {
    return store.status.segment_sectors * kSectorBytes;
}

const StoreMetric kStoreMetrics[] = {
    {"cowsnap_store_size_bytes", "Room for old blocks.",
     [](const StoreState& store) { return store.status.total_segments * segmentBytes(store); }},
    {"cowsnap_store_free_bytes", "Room that nothing uses.",
     [](const StoreState& store) { return store.status.free_segments * segmentBytes(store); }},
    {"cowsnap_store_low_water_bytes", "Below this free room the kernel raises an event.",
     [](const StoreState& store) { return store.low_water_segments * segmentBytes(store); }},
    {"cowsnap_store_damaged_bytes", "Blocks that are known to be damaged.",
     [](const StoreState& store) {
         return store.status.damaged_blocks * std::uint64_t{COWSNAP_BLOCK_BYTES};
     }},
    {"cowsnap_store_metadata_damaged",
     "1 if one of the two copies of the metadata is damaged; the other one is used.",
     [](const StoreState& store) { return std::uint64_t{store.metadata_damaged ? 1u : 0u}; }},
    {"cowsnap_store_autoextend_failed",
     "1 if the store gets full and could not be extended by itself.",
     [](const StoreState& store) {
         return std::uint64_t{store.autoextend_problem.empty() ? 0u : 1u};
     }},
    {"cowsnap_store_origins", "Origins of the store.",
     [](const StoreState& store) { return std::uint64_t{store.metadata.origins.size()}; }},
};

/// What the kernel and the metadata say of one origin.
struct OriginView {
    const StoreState& store;
    const OriginRecord& record;
    const OriginState* state;  ///< null: the kernel does not know it

    bool attached() const {
        return state != nullptr && state->condition == OriginCondition::Attached;
    }
};

struct OriginMetric {
    const char* name;
    const char* type;
    const char* help;
    std::optional<std::uint64_t> (*value)(const OriginView&);
};

/// The time of the newest or oldest snapshot of an origin.
template <typename Better>
std::optional<std::uint64_t> snapshotTime(const OriginView& view, Better better) {
    std::optional<std::uint64_t> time;
    for (const auto& snapshot : view.store.metadata.snapshots)
        if (snapshot.origin == view.record.uuid && (!time || better(snapshot.created, *time)))
            time = snapshot.created;
    return time;
}

const OriginMetric kOriginMetrics[] = {
    {"cowsnap_origin_attached", "gauge", "1 if what is written to the origin is preserved.",
     [](const OriginView& view) -> std::optional<std::uint64_t> {
         return view.attached() ? 1u : 0u;
     }},
    {"cowsnap_origin_epoch_preserved_bytes", "gauge",
     "What the store has of the origin since its newest snapshot; a new snapshot sets it to 0.",
     [](const OriginView& view) -> std::optional<std::uint64_t> {
         if (!view.attached())
             return std::nullopt;
         return view.state->status.preserved_blocks * std::uint64_t{COWSNAP_BLOCK_BYTES};
     }},
    {"cowsnap_origin_read_bytes_total", "counter",
     "Old data read from the origin to be preserved, since it was attached.",
     [](const OriginView& view) -> std::optional<std::uint64_t> {
         if (!view.attached())
             return std::nullopt;
         return view.state->status.read_blocks * std::uint64_t{COWSNAP_BLOCK_BYTES};
     }},
    {"cowsnap_origin_size_bytes", "gauge", "What is snapshotted of the origin.",
     [](const OriginView& view) -> std::optional<std::uint64_t> {
         return view.record.device.size_sectors * kSectorBytes;
     }},
    {"cowsnap_origin_rollback_done_bytes", "gauge",
     "How far copying back has come, while the origin is rolled back.",
     [](const OriginView& view) -> std::optional<std::uint64_t> {
         if (!view.attached() || view.state->status.rollback == COWSNAP_ROLLBACK_NONE)
             return std::nullopt;
         return view.state->status.done_blocks * std::uint64_t{COWSNAP_BLOCK_BYTES};
     }},
    {"cowsnap_origin_waiting_bios", "gauge", "Writes that wait for room or for preserving.",
     [](const OriginView& view) -> std::optional<std::uint64_t> {
         if (!view.attached())
             return std::nullopt;
         return view.state->status.waiting_bios;
     }},
    {"cowsnap_origin_newest_snapshot_timestamp_seconds", "gauge",
     "When the newest snapshot was created.",
     [](const OriginView& view) { return snapshotTime(view, std::greater<>()); }},
    {"cowsnap_origin_oldest_snapshot_timestamp_seconds", "gauge",
     "When the oldest snapshot was created.",
     [](const OriginView& view) { return snapshotTime(view, std::less<>()); }},
};

std::vector<OriginView> originsOf(const std::map<Uuid, StoreState>& stores) {
    std::vector<OriginView> views;
    for (const auto& [uuid, store] : stores)
        for (const auto& origin : store.metadata.origins) {
            const auto state = store.origins.find(origin.id);
            views.push_back(
                {store, origin, state == store.origins.end() ? nullptr : &state->second});
        }
    return views;
}

/// How many snapshots of an origin are in each state, those that are known always among them.
std::map<std::string, std::uint64_t> statesOf(const OriginView& view) {
    std::map<std::string, std::uint64_t> states{{COWSNAP_STATE_ACTIVE, 0},
                                                {COWSNAP_STATE_DAMAGED, 0},
                                                {COWSNAP_STATE_STALE, 0},
                                                {COWSNAP_STATE_LOST, 0},
                                                {std::string(kUnavailable), 0}};
    for (const auto& snapshot : view.store.metadata.snapshots)
        if (snapshot.origin == view.record.uuid && view.store.snapshots.contains(snapshot.id))
            ++states[snapshotState(view.store, snapshot)];
    return states;
}

}  // namespace

std::string metricsText(const std::map<Uuid, StoreState>& stores) {
    Exposition exposition;
    exposition.family("cowsnap_store_up", "gauge",
                      "1 if the store can be used, and preserves what is overwritten.");
    for (const auto& [uuid, store] : stores)
        exposition.sample(labelsOf(store), isUp(store) ? 1 : 0);
    exposition.family("cowsnap_store_state", "gauge",
                      "1 for the state that the store is in: active, full (writes to its origins "
                      "wait), failed (its devices fail) or unusable.");
    for (const auto& [uuid, store] : stores)
        sampleState(exposition, labelsOf(store),
                    {COWSNAP_STORE_ACTIVE, COWSNAP_STORE_FULL, COWSNAP_STORE_FAILED, kUnusable},
                    stateName(store));
    for (const auto& metric : kStoreMetrics) {
        exposition.family(metric.name, "gauge", metric.help);
        for (const auto& [uuid, store] : stores)
            // Of one that cannot be used the numbers are old, or none.
            if (store.problem.empty())
                exposition.sample(labelsOf(store), metric.value(store));
    }
    exposition.family("cowsnap_store_expected_full_timestamp_seconds", "gauge",
                      "When the store will be full if it grows as in the last minutes.");
    for (const auto& [uuid, store] : stores)
        if (store.problem.empty() && store.expected_full != 0)
            exposition.sample(labelsOf(store), store.expected_full);
    const auto origins = originsOf(stores);
    for (const auto& metric : kOriginMetrics) {
        exposition.family(metric.name, metric.type, metric.help);
        for (const auto& view : origins)
            if (const auto value = metric.value(view))
                exposition.sample(labelsOf(view.store, view.record), *value);
    }
    exposition.family("cowsnap_origin_rollback", "gauge",
                      "1 for what becomes of a rollback of the origin: none, scheduled, running or "
                      "waiting.");
    for (const auto& view : origins)
        sampleState(exposition, labelsOf(view.store, view.record),
                    {COWSNAP_ROLLBACK_NONE, COWSNAP_ROLLBACK_SCHEDULED, COWSNAP_ROLLBACK_RUNNING,
                     COWSNAP_ROLLBACK_WAITING},
                    rollbackStateOf(view.store, view.record));
    exposition.family("cowsnap_origin_snapshots", "gauge", "Snapshots by state.");
    for (const auto& view : origins)
        for (const auto& [state, count] : statesOf(view))
            exposition.sample(
                fmt::format("{},state=\"{}\"", labelsOf(view.store, view.record), escaped(state)),
                count);
    return exposition.take();
}

std::string jobMetricsText(const JobCounts& counts) {
    Exposition exposition;
    exposition.family("cowsnap_jobs", "gauge", "Jobs that are not over, by state.");
    for (const auto& [state, count] : counts.unfinished)
        exposition.sample(fmt::format("state=\"{}\"", escaped(state)), count);
    exposition.family("cowsnap_jobs_ended_total", "counter",
                      "Jobs that ended since the daemon was started, by how they did.");
    for (const auto& [state, count] : counts.ended)
        exposition.sample(fmt::format("state=\"{}\"", escaped(state)), count);
    return exposition.take();
}

}  // namespace cowsnap
