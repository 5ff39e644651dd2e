// SPDX-License-Identifier: GPL-2.0-or-later
#include "meta/losses.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/durable_file.h"
#include "base/error.h"
#include "base/json_number.h"

namespace cowsnap {

namespace {

using nlohmann::json;

constexpr unsigned kLossSchema = 1;

}  // namespace

std::filesystem::path LossRecords::fileOf(const Uuid& store) const {
    return directory_ / fmt::format("lost-{}.json", store.dashed());
}

void LossRecords::put(const Uuid& store, std::uint64_t last_set) const {
    const std::uint64_t known = find(store).value_or(0);
    const json document = {{"schema", kLossSchema},
                           {"store", store.dashed()},
                           {"last_set", std::max(known, last_set)}};
    writeDurably(fileOf(store), document.dump(2) + "\n");
}

std::optional<std::uint64_t> LossRecords::find(const Uuid& store) const {
    const auto path = fileOf(store);
    const auto text = readIfThere(path);
    if (!text)
        return std::nullopt;
    const auto advice = [&] {
        return fmt::format(
            "it says which snapshots of the store {} are not exact any more; if you know that none "
            "is, or do not need them, delete it",
            store.dashed());
    };
    try {
        const json document = json::parse(*text);
        if (numberFrom<unsigned>(document.at("schema")) != kLossSchema)
            fail(ErrorKind::NotSupported, "{} has another version than {}: update cowsnap ({})",
                 path.string(), kLossSchema, advice());
        const json& last_set = document.at("last_set");
        if (!last_set.is_number_unsigned() || document.at("store") != store.dashed())
            fail(ErrorKind::Failed, "cannot understand {}: {}", path.string(), advice());
        return last_set.get<std::uint64_t>();
    } catch (const json::exception& error) {
        fail(ErrorKind::Failed, "cannot understand {} ({}): {}", path.string(), error.what(),
             advice());
    }
}

void LossRecords::remove(const Uuid& store) const {
    removeDurably(fileOf(store));
}

}  // namespace cowsnap
