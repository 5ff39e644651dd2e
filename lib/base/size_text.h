// SPDX-License-Identifier: GPL-2.0-or-later
#ifndef COWSNAP_BASE_SIZE_TEXT_H
#define COWSNAP_BASE_SIZE_TEXT_H

#include <cstdint>
#include <string>

namespace cowsnap {

/// A size in bytes for people, such as "1.5 GiB".
std::string sizeText(std::uint64_t bytes);

}  // namespace cowsnap

#endif
