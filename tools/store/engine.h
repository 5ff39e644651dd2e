// SPDX-License-Identifier: GPL-2.0-or-later
// dm-target/core on Blocks: the activation, the deletion of snapshots and the writing that these
// ask for, as the kernel module does it. No origin can be written to, so nothing is preserved.
#ifndef COWSNAP_STORE_ENGINE_H
#define COWSNAP_STORE_ENGINE_H

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "store/blocks.h"
#include "store/core.h"

namespace cowsnap::store {

class Engine {
public:
    explicit Engine(Blocks& blocks);
    ~Engine();
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;

    /// What is on the blocks: 1 nothing at all, 0 a store, else a negative errno.
    int probe();
    /// Activates what probe() found: 0 or a negative errno. What that leaves to be written is
    /// written by run().
    int open();
    /// Only the control record of what probe() found, and an empty segment table.
    int loadControl();
    /// Why the last call was refused.
    const std::string& why() const { return why_; }
    /// All that is to be done. 0 or the errno of a write that failed.
    int run();
    /// Deletes snapshots that are not exact any more; as the engine does it, all or none.
    int drop(const std::vector<std::uint32_t>& snapshots);

    cow_store& get() { return store_; }
    /// The segments in which open() found that a batch is missing.
    const std::vector<std::uint64_t>& damagedSegments() const { return damaged_segments_; }
    /// The block that was read last.
    std::uint64_t lastRead() const { return last_read_; }

private:
    static Engine& of(cow_store* store) { return *static_cast<Engine*>(store->shell); }
    static const cow_ops& ops();
    int answer(int result, const char* why);
    void finish(cow_summary_data* summary);
    void finish(cow_table_block* table, std::uint64_t block);

    struct TableWrite {
        cow_table_block* table;
        std::uint64_t block;
    };

    Blocks& blocks_;
    cow_store store_{};
    std::string why_;
    std::vector<std::variant<cow_summary_data*, TableWrite>> asked_;
    std::vector<std::uint64_t> damaged_segments_;
    std::uint64_t last_read_ = 0;
    int error_ = 0;
};

/// The elements of one of the engine's lists; Get names the list_head in the element, such as
/// [](list_head* at) { return container_of(at, cow_origin, list); }.
template <typename Get>
auto elements(const list_head& head, Get get) {
    std::vector<decltype(get(head.next))> result;
    for (list_head* at = head.next; at != &head; at = at->next)
        result.push_back(get(at));
    return result;
}

std::vector<cow_origin*> originsOf(const cow_store& store);
std::vector<cow_snapshot*> snapshotsOf(const cow_store& store);    ///< by id
std::vector<cow_snapshot*> snapshotsOf(const cow_origin& origin);  ///< oldest first

}  // namespace cowsnap::store

#endif
