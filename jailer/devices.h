// SPDX-License-Identifier: Apache-2.0
//
// The device nodes in the jail: what a monitor needs and nothing else.
#pragma once

#include <optional>

#include "jailer/path.h"

namespace wisp::jailer {

/// Minor number of /dev/userfaultfd on this host, or nothing where the kernel has no such device (before 6.1). Looked
/// up before the jail's root is entered.
std::optional<unsigned> find_userfaultfd_minor();

/// Makes kvm, urandom and userfaultfd in `dev`, tun in `dev_net`. A node that is there already is an error: the jail
/// was used before. Only urandom may fail, with a line on stderr: not every host lets it be made, and a monitor lives
/// without.
Result<void> make_device_nodes(const Directory& dev, const Directory& dev_net,
                               std::optional<unsigned> userfaultfd_minor, Undo& undo);

}  // namespace wisp::jailer
