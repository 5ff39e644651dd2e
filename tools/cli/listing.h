// SPDX-License-Identifier: GPL-2.0-or-later
// What ListSnapshots of the daemon answers.
#ifndef COWSNAP_CLI_LISTING_H
#define COWSNAP_CLI_LISTING_H

#include <string>

#include "cli/client.h"

namespace cowsnap::cli {

/// Stores, origins and snapshots of a listing, in its order. Throws Failure when the text is not
/// one, or one of a schema that is not known.
Objects objectsOfListing(const std::string& text);

}  // namespace cowsnap::cli

#endif
