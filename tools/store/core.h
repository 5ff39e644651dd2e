// SPDX-License-Identifier: GPL-2.0-or-later
// dm-target/core as cowsnap-store sees it. Kernel C in a C++ translation unit: no warnings about
// it.
#ifndef COWSNAP_STORE_CORE_H
#define COWSNAP_STORE_CORE_H

#pragma GCC system_header

extern "C" {
#include "store.h"
}

#endif
