// SPDX-License-Identifier: GPL-2.0-or-later
// Each structure of the disk format between its in-core form and JSON; the same fields in both
// directions. Throws nlohmann::json::exception if something is missing or of another type.
#ifndef COWSNAP_STORE_STRUCTURES_H
#define COWSNAP_STORE_STRUCTURES_H

#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "store/core.h"

namespace cowsnap::store {

using Json = nlohmann::ordered_json;

Json superToJson(const cow_super& super);
cow_super superFromJson(const Json& json);

Json opsToJson(const std::vector<cow_op>& ops);
std::vector<cow_op> opsFromJson(const Json& json);

Json ownersToJson(const std::vector<cow_owner>& owners);
std::vector<cow_owner> ownersFromJson(const Json& json);

struct Batch {
    cow_batch_info info{};
    std::vector<cow_record> records;
    std::vector<u32> crcs;
};
Json batchToJson(const Batch& batch);
Batch batchFromJson(const Json& json);

struct Summary {
    cow_summary_info info{};
    std::vector<cow_record> records;
    std::vector<u32> crcs;
};
Json summaryToJson(const Summary& summary);
Summary summaryFromJson(const Json& json);

}  // namespace cowsnap::store

#endif
