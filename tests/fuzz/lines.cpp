// SPDX-License-Identifier: GPL-2.0-or-later
// Status lines, tables and answers of the kernel module. What is not understood is refused with an
// Error; tables are written as they were read. Input: which parser, the text.
#include <string>

#include "base/error.h"
#include "blocks.h"
#include "dm/lines.h"

using namespace cowsnap;
using namespace cowsnap::fuzz;

namespace {

template <typename Parse>
void table(Parse parse, std::string_view text) {
    const std::string once = formatTable(parse(text));
    require(formatTable(parse(once)) == once, "a table is read as it was written");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
    if (bytes == 0)
        return 0;
    const std::string_view text(reinterpret_cast<const char*>(data) + 1, bytes - 1);
    try {
        switch (data[0] % 9) {
            case 0:
                parseStoreStatus(text);
                break;
            case 1:
                parseOriginStatus(text);
                break;
            case 2:
                parseSnapStatus(text);
                break;
            case 3:
                table(parseStoreTable, text);
                break;
            case 4:
                table(parseOriginTable, text);
                break;
            case 5:
                table(parseSnapTable, text);
                break;
            case 6:
                parseOriginsAnswer(text);
                break;
            case 7:
                parseSnapshotsAnswer(text);
                break;
            default:
                parseEventsAnswer(text);
                break;
        }
    } catch (const Error&) {
        return 0;
    }
    return 0;
}
