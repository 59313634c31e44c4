// SPDX-License-Identifier: Apache-2.0
#include "jailer/network_namespace.h"

#include <fcntl.h>
#include <sched.h>

#include "base/fd.h"

namespace wisp::jailer {

Result<void> join_network_namespace(const std::string& path) {
    // O_NONBLOCK: a fifo at this path must fail, not wait for a writer.
    const OwnedFd fd = TRY(open_file(path, O_RDONLY | O_NONBLOCK));
    if (setns(fd.get(), CLONE_NEWNET) < 0)
        return fail_errno("cannot join network namespace %s (--netns takes what `ip netns add` makes)", path.c_str());
    return {};
}

}  // namespace wisp::jailer
