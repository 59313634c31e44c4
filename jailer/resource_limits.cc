// SPDX-License-Identifier: Apache-2.0
#include "jailer/resource_limits.h"

#include <sys/resource.h>

namespace wisp::jailer {

Result<void> set_resource_limits(const ResourceLimits& limits) {
    const rlimit files = {limits.open_files, limits.open_files};
    if (setrlimit(RLIMIT_NOFILE, &files) < 0)
        return fail_errno("cannot limit open files to %lu (--resource-limit no-file)", limits.open_files);
    if (!limits.file_size_bytes) return {};
    const rlimit size = {*limits.file_size_bytes, *limits.file_size_bytes};
    if (setrlimit(RLIMIT_FSIZE, &size) < 0)
        return fail_errno("cannot limit files to %lu bytes (--resource-limit fsize)", *limits.file_size_bytes);
    return {};
}

}  // namespace wisp::jailer
