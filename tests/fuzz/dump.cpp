// SPDX-License-Identifier: GPL-2.0-or-later
// Restoring dumps: what is no dump is refused with an Error, what is gives a store that dumps.
// Input: the JSON.
#include <optional>
#include <sstream>

#include "base/error.h"
#include "blocks.h"
#include "store/dump.h"

using namespace cowsnap;
using namespace cowsnap::fuzz;

namespace {

constexpr std::uint64_t kMostBlocks = 4096;

class Target : public store::RestoreTarget {
public:
    store::Blocks& open(std::uint64_t store_blocks) override {
        if (store_blocks > kMostBlocks)
            fail(ErrorKind::NoSpace, "the target is smaller");
        return blocks.emplace(store_blocks);
    }
    void zero(std::uint64_t, std::uint64_t) override {}

    std::optional<MemoryBlocks> blocks;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
    std::istringstream in(std::string(reinterpret_cast<const char*>(data), bytes));
    Target target;
    try {
        store::restore(in, target);
    } catch (const Error&) {
        return 0;
    }
    std::ostringstream out;
    store::dump(*target.blocks, out);
    require(out.str().size() > 2, "what was restored can be dumped");
    return 0;
}
