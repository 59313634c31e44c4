// SPDX-License-Identifier: Apache-2.0
#include "wisp/log_sink.h"

#include "base/log.h"

namespace wisp {

LogSink::LogSink(std::string instance_id) {
    log::Config config;
    config.instance_id = std::move(instance_id);
    file_ = reopen_nonblocking(config.fd);
    if (file_.valid()) config.fd = file_.get();
    log::configure(std::move(config));
}

Result<void> LogSink::configure(const config::Logger& wanted) {
    log::Config config = log::config();
    OwnedFd file;
    if (wanted.log_path) {
        file = TRY_CONTEXT("Failed to open target file", open_line_file(*wanted.log_path));
        config.fd = file.get();
        config.sink = log::Config::Sink::kFile;
    }
    if (wanted.level) config.level = *wanted.level;
    if (wanted.show_level) config.show_level = *wanted.show_level;
    if (wanted.show_log_origin) config.show_origin = *wanted.show_log_origin;
    if (wanted.module) config.module = *wanted.module;
    log::configure(std::move(config));
    if (file.valid()) file_ = std::move(file);
    return {};
}

}  // namespace wisp
