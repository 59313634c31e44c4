// SPDX-License-Identifier: Apache-2.0
#include "vmm/sink.h"

#include <fcntl.h>

#include <cerrno>

#include "base/log.h"
#include "vmm/host_checks.h"

namespace wisp {

// Read-write, so that a FIFO opens without a reader and stays open when its reader goes; and never waited for.
Result<OwnedFd> open_sink(const std::string& path) {
    OwnedFd file(open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC | O_NOCTTY, 0644));
    if (!file.valid()) return fail("%s", os_error(errno).c_str());
    return file;
}

LogSink::LogSink(std::string instance_id) {
    log::Config config;
    config.instance_id = std::move(instance_id);
    log::configure(std::move(config));
}

Result<void> LogSink::configure(const config::Logger& wanted) {
    log::Config config = log::config();
    OwnedFd file;
    if (wanted.log_path) {
        file = TRY_CONTEXT("Failed to open target file", open_sink(*wanted.log_path));
        config.fd = file.get();
    }
    if (wanted.level) config.level = static_cast<log::Level>(*wanted.level);
    if (wanted.show_level) config.show_level = *wanted.show_level;
    if (wanted.show_log_origin) config.show_origin = *wanted.show_log_origin;
    if (wanted.module) config.module = *wanted.module;
    log::configure(std::move(config));
    if (file.valid()) file_ = std::move(file);
    return {};
}

}  // namespace wisp
