// SPDX-License-Identifier: GPL-2.0-or-later
// The JSON of metadata: what is understood is written the same again, what is not is refused with
// an Error. Input: the JSON.
#include <string>

#include "base/error.h"
#include "blocks.h"
#include "meta/metadata.h"

using namespace cowsnap;
using namespace cowsnap::fuzz;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
    const std::string_view text(reinterpret_cast<const char*>(data), bytes);
    Metadata metadata;
    try {
        metadata = parseMetadata(kMetadataSchema, text);
    } catch (const Error&) {
        return 0;
    }
    const std::string once = formatMetadata(metadata);
    require(formatMetadata(parseMetadata(kMetadataSchema, once)) == once,
            "what was understood is written and read the same");
    return 0;
}
