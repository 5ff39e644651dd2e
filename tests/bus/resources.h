// SPDX-License-Identifier: GPL-2.0-or-later
// What this process uses.
#ifndef COWSNAP_TESTS_RESOURCES_H
#define COWSNAP_TESTS_RESOURCES_H

#include <malloc.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iterator>

namespace cowsnap::test {

inline std::size_t openDescriptors() {
    const std::filesystem::directory_iterator descriptors("/proc/self/fd");
    return static_cast<std::size_t>(std::distance(begin(descriptors), end(descriptors)));
}

/// Bytes that are allocated and not freed. 0 with sanitizers, which have their own heap.
inline std::int64_t heapBytes() {
    const struct mallinfo2 info = ::mallinfo2();
    return static_cast<std::int64_t>(info.uordblks + info.hblkhd);
}

}  // namespace cowsnap::test

#endif
