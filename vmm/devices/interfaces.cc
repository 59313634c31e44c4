// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/interfaces.h"

#include <algorithm>

#include "base/result.h"

namespace wisp {

namespace {

using virtio::NetCounters;

// Firecracker's keys, in its order.
struct Key {
    const char* name;
    Counter NetCounters::* counter;
};
constexpr Key kKeys[] = {
    {"activate_fails", &NetCounters::activate_fails},
    {"cfg_fails", nullptr},  // a driver has nothing to configure
    {"no_rx_avail_buffer", &NetCounters::no_rx_avail_buffer},
    {"no_tx_avail_buffer", &NetCounters::no_tx_avail_buffer},
    {"event_fails", nullptr},  // an eventfd that is watched does not fail
    {"rx_queue_event_count", &NetCounters::rx_queue_event_count},
    {"rx_event_rate_limiter_count", &NetCounters::rx_event_rate_limiter_count},
    {"rx_rate_limiter_throttled", &NetCounters::rx_rate_limiter_throttled},
    {"rx_tap_event_count", &NetCounters::rx_tap_event_count},
    {"rx_bytes_count", &NetCounters::rx_bytes_count},
    {"rx_packets_count", &NetCounters::rx_packets_count},
    {"rx_fails", &NetCounters::rx_fails},
    {"rx_count", &NetCounters::rx_count},
    {"tap_read_fails", &NetCounters::tap_read_fails},
    {"tap_write_fails", &NetCounters::tap_write_fails},
    {"tx_bytes_count", &NetCounters::tx_bytes_count},
    {"tx_malformed_frames", &NetCounters::tx_malformed_frames},
    {"tx_fails", &NetCounters::tx_fails},
    {"tx_count", &NetCounters::tx_count},
    {"tx_packets_count", &NetCounters::tx_packets_count},
    {"tx_queue_event_count", &NetCounters::tx_queue_event_count},
    {"tx_rate_limiter_event_count", &NetCounters::tx_rate_limiter_event_count},
    {"tx_rate_limiter_throttled", &NetCounters::tx_rate_limiter_throttled},
    {"tx_spoofed_mac_count", &NetCounters::tx_spoofed_mac_count},
    {"tx_remaining_reqs_count", &NetCounters::tx_remaining_reqs_count},
};

void add(NetCounters& sum, const NetCounters& part) {
    for (const Key& key : kKeys)
        if (key.counter) sum.*key.counter += part.*key.counter;
    sum.tap_write_agg.add(part.tap_write_agg);
}

void visit(const NetCounters& counters, MetricsVisitor& visitor) {
    for (const Key& key : kKeys) visitor.count(key.name, key.counter ? (counters.*key.counter).value() : 0);
    visitor.latency("tap_write_agg", counters.tap_write_agg);
}

bool reaches_mmds(const config::VmConfig& config, const std::string& id) {
    return config.mmds &&
           std::ranges::find(config.mmds->network_interfaces, id) != config.mmds->network_interfaces.end();
}

}  // namespace

Result<void> NetInterfaces::create(Loop& loop, const config::VmConfig& config, const mmds::DataStore* metadata,
                                   const AddDevice& add_device) {
    if (config.mmds && metadata) {
        service_ = std::make_unique<mmds::Service>(*metadata, TRY_CONTEXT("mmds", mmds::TokenAuthority::create()));
        service_->configure(*config.mmds);
    }
    for (const config::NetworkInterface& wanted : config.network_interfaces) {
        virtio::NetConfig net;
        net.id = wanted.iface_id;
        net.tap = wanted.host_dev_name;
        net.mac = wanted.guest_mac;
        net.mtu = wanted.mtu;
        net.receive_limiter = wanted.rx_rate_limiter.value_or(RateLimiterConfig{});
        net.send_limiter = wanted.tx_rate_limiter.value_or(RateLimiterConfig{});
        const mmds::Port* port = nullptr;
        if (service_ && reaches_mmds(config, wanted.iface_id)) {
            auto made =
                std::make_unique<mmds::Port>(loop, *service_, config.mmds->ipv4_address.value_or(mmds::kMmdsAddress));
            port = made.get();
            net.responder = std::move(made);
        }
        auto device = TRY(virtio::Net::create(loop, std::move(net)));
        interfaces_.push_back({wanted.iface_id, device.get(), port});
        TRY(add_device(std::move(device)));
    }
    return {};
}

Result<void> NetInterfaces::patch(const config::NetworkInterfacePatch& patch) {
    for (const Interface& interface : interfaces_) {
        if (interface.id != patch.iface_id) continue;
        interface.device->update_rate_limiters(patch.rx_rate_limiter.value_or(RateLimiterConfig{}),
                                               patch.tx_rate_limiter.value_or(RateLimiterConfig{}));
        return {};
    }
    return fail("network interface %s does not exist", patch.iface_id.c_str());
}

void NetInterfaces::close() {
    for (const Interface& interface : interfaces_) interface.device->close();
}

void NetInterfaces::visit_metrics(MetricsVisitor& visitor) const {
    visit_mmds(visitor);
    NetCounters all;
    for (const Interface& interface : interfaces_) {
        const NetCounters& counters = interface.device->counters();
        visitor.group_of("net", interface.id);
        visit(counters, visitor);
        add(all, counters);
    }
    visitor.group_of_all("net");
    visit(all, visitor);
}

void NetInterfaces::visit_mmds(MetricsVisitor& visitor) const {
    mmds::TcpEndpoint::Counters sum;
    for (const Interface& interface : interfaces_) {
        if (!interface.port) continue;
        const mmds::TcpEndpoint::Counters& part = interface.port->counters();
        sum.rx_accepted += part.rx_accepted;
        sum.rx_accepted_err += part.rx_accepted_err;
        sum.rx_accepted_unusual += part.rx_accepted_unusual;
        sum.rx_bad_eth += part.rx_bad_eth;
        sum.rx_count += part.rx_count;
        sum.tx_bytes += part.tx_bytes;
        sum.tx_count += part.tx_count;
        sum.tx_frames += part.tx_frames;
        sum.connections_created += part.connections_created;
        sum.connections_destroyed += part.connections_destroyed;
    }
    const mmds::Service::Counters service = service_ ? service_->counters() : mmds::Service::Counters{};
    const std::pair<const char*, uint64_t> values[] = {
        {"rx_accepted", sum.rx_accepted},
        {"rx_accepted_err", sum.rx_accepted_err},
        {"rx_accepted_unusual", sum.rx_accepted_unusual},
        {"rx_bad_eth", sum.rx_bad_eth},
        {"rx_invalid_token", service.invalid_token},
        {"rx_no_token", service.no_token},
        {"rx_count", sum.rx_count},
        {"tx_bytes", sum.tx_bytes},
        {"tx_count", sum.tx_count},
        {"tx_errors", 0},  // an answer that finds no room waits
        {"tx_frames", sum.tx_frames},
        {"connections_created", sum.connections_created},
        {"connections_destroyed", sum.connections_destroyed},
    };
    visitor.group("mmds");
    for (const auto& [key, total] : values) visitor.count(key, total);
}

}  // namespace wisp
