// SPDX-License-Identifier: Apache-2.0
//
// The API on a socket, with a machine that only takes notes: what the API's tests and fuzzers talk to where there is no
// KVM. It does what `wisp --api-sock PATH` does until the start, and keeps the rules of before and after it.
//
//   api-server --api-sock PATH [--http-api-max-payload-size N] [--mmds-size-limit N] [--id ID]
#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>

#include "api/router.h"
#include "api/server.h"
#include "base/log.h"
#include "vmm/preflight.h"
#include "wisp/arguments.h"

using namespace wisp;

namespace {

class NotingDriver final : public MachineDriver {
public:
    explicit NotingDriver(Loop& loop) : bell_(loop, [this] { std::exchange(done_, nullptr)({}); }) {}

    config::VmConfig& config() override { return config_; }
    void start(Handler done) override { later(std::move(done)); }
    void pause(Handler done) override { later(std::move(done)); }
    void resume(Handler done) override { later(std::move(done)); }
    void create_snapshot(const config::SnapshotCreate&, Handler done) override { later(std::move(done)); }
    void load_snapshot(const config::SnapshotLoad& request, Handler done) override {
        done(fail("%s: this machine cannot be restored", request.snapshot_path.c_str()));
    }
    void patch_drive(const config::DrivePatch& patch, Handler done) override {
        done(patch.path_on_host ? check_new_drive_file(*patch.path_on_host) : Result<void>{});
    }
    void patch_network_interface(const config::NetworkInterfacePatch&, Handler done) override { done({}); }
    Result<void> send_ctrl_alt_del() override { return {}; }
    Result<void> flush_metrics() override { return {}; }
    Result<void> listen_for_vsock(const config::Vsock& vsock) override {
        if (vsock_ && vsock_->path() == vsock.uds_path) vsock_.reset();
        vsock_ = TRY(wisp::listen_for_vsock(vsock.uds_path));
        return {};
    }
    Result<void> configure_logger(const config::Logger& logger) override {
        if (!logger.log_path) return {};
        const OwnedFd file(open(logger.log_path->c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0600));
        if (!file.valid()) return fail("Failed to open target file: %s", os_error(errno).c_str());
        return {};
    }
    Result<void> configure_metrics(const config::Metrics& metrics) override {
        const OwnedFd file(open(metrics.metrics_path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0600));
        if (!file.valid()) return fail("%s", os_error(errno).c_str());
        return {};
    }

private:
    /// Not at once, as the real one: the answers must still come in order.
    void later(Handler done) {
        done_ = std::move(done);
        bell_.ring();
    }

    config::VmConfig config_;
    Handler done_;
    Doorbell bell_;
    std::optional<UnixListener> vsock_;
};

int run(const Arguments& arguments) {
    log::Config log;
    log.instance_id = arguments.id;
    if (arguments.logger.level) log.level = *arguments.logger.level;
    log::configure(log);
    auto loop = Loop::create();
    if (!loop) return 1;
    NotingDriver driver(**loop);
    Controller controller(arguments.id, driver, arguments.mmds_limit());
    api::Router router(controller, [] { return std::string("# nothing is counted here\n"); });
    auto server = api::Server::create(
        **loop, arguments.api_sock, arguments.http_api_max_payload_size,
        [&](api::Request request, api::Server::Reply reply) { router.handle(std::move(request), std::move(reply)); },
        [] { _exit(1); });
    if (!server) {
        fprintf(stderr, "%s\n", server.error().message.c_str());
        return 1;
    }
    return (*loop)->run() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    signal(SIGPIPE, SIG_IGN);
    const auto arguments = parse_arguments({argv + 1, static_cast<size_t>(argc - 1)});
    if (!arguments) {
        fprintf(stderr, "%s\n", arguments.error().message.c_str());
        return 153;
    }
    return run(*arguments);
}
