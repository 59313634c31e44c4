// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine.h"

#include "base/log.h"

namespace wisp {

// First the vCPUs, so that no new request comes, then the devices. Each tells when it is done; the last one goes on.
void Machine::pause(std::function<void()> on_paused) {
    vcpus_to_pause_ = vcpus_.size();
    on_paused_ = std::move(on_paused);
    for (const auto& vcpu : vcpus_)
        vcpu->pause([this] {
            if (--vcpus_to_pause_ == 0) vcpus_paused_.ring();
        });
}

void Machine::pause_devices(std::function<void()> on_paused) {
    if (transports_.empty()) return on_paused();
    auto left = std::make_shared<size_t>(transports_.size());
    auto next = std::make_shared<std::function<void()>>(std::move(on_paused));
    for (const auto& transport : transports_)
        transport->device().pause([left, next] {
            if (--*left == 0) (*next)();
        });
}

void Machine::resume() {
    for (const auto& transport : transports_) transport->device().resume();
    for (const auto& vcpu : vcpus_) vcpu->resume();
}

virtio::TokenBucketConfig token_bucket_of(const config::TokenBucket& wanted) {
    return {wanted.size, wanted.one_time_burst.value_or(0), wanted.refill_time};
}

virtio::RateLimiterConfig rate_limiter_of(const config::RateLimiter& wanted) {
    const auto bucket =
        [](const std::optional<config::TokenBucket>& tokens) -> std::optional<virtio::TokenBucketConfig> {
        if (!tokens) return std::nullopt;
        return token_bucket_of(*tokens);
    };
    return {bucket(wanted.bandwidth), bucket(wanted.ops)};
}

Result<void> Machine::patch_drive(const config::DrivePatch& patch) {
    for (size_t i = 0; i < drives_.size(); ++i) {
        if (config_.drives[i].drive_id != patch.drive_id) continue;
        if (patch.path_on_host)
            TRY(drives_[i]->replace_file(*patch.path_on_host, [id = patch.drive_id](Result<void> done) {
                if (!done)
                    LOG_ERROR("drive %s: its new file is not in use: %s", id.c_str(), done.error().message.c_str());
            }));
        if (patch.rate_limiter) drives_[i]->update_rate_limiter(rate_limiter_of(*patch.rate_limiter));
        return {};
    }
    return fail("drive %s does not exist", patch.drive_id.c_str());
}

void Machine::give_up_kernel_file() {
    if (!kernel_lease_.held() || !kernel_lease_.is_breaking()) return;
    pause([this] {
        if (auto copied = boot::unshare_kernel(memory_, kernel_); !copied)
            LOG_ERROR("the kernel image is about to change and cannot be copied: %s", copied.error().message.c_str());
        else
            LOG_INFO("kernel image %s is about to change: this VM has its own copy now",
                     config_.boot_source->kernel_image_path.c_str());
        kernel_lease_.release();
        resume();
    });
}

void Machine::finish() {
    console_->finish();
    net_.close();
    const uint64_t deadline_ns = monotonic_ns() + limits::kBlockClose_ns;
    for (virtio::Block* drive : drives_) drive->close(deadline_ns);
}

void Machine::unlink_sockets() {
    if (vsock_) vsock_->unlink_socket();
}

uint64_t Machine::exits() const {
    uint64_t sum = 0;
    for (const auto& vcpu : vcpus_) sum += vcpu->exits();
    return sum;
}

}  // namespace wisp
