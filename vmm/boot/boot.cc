// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/boot.h"

#include "base/check.h"
#include "base/limits.h"
#include "vmm/boot/load/place.h"
#include "vmm/boot/reset_vector.h"
#include "vmm/boot/tables/mptable.h"
#include "vmm/boot/tables/pvh.h"
#include "vmm/boot/tables/zero_page.h"

namespace wisp::boot {

namespace {

/// The additions in the order in which Firecracker makes them.
Result<std::string> make_command_line(const BootRequest& request, const LoadedKernel& kernel) {
    CommandLine line = request.command_line;
    TRY(line.add("pci=off"));
    if (request.root) TRY(line.add_root(*request.root));
    for (const VirtioMmioDevice& device : request.virtio_devices) TRY(line.add_virtio_mmio(device));

    std::string text = line.text();
    if (kernel.header.cmdline_size != 0 && text.size() > kernel.header.cmdline_size)
        return fail("kernel command line: %zu bytes; kernel image %s takes at most %u", text.size(),
                    request.kernel.path.c_str(), kernel.header.cmdline_size);
    return text;
}

}  // namespace

Result<EntryPoint> set_up_boot(const GuestMemory& memory, const BootRequest& request) {
    CHECK(request.vcpu_count >= 1 && request.vcpu_count <= limits::kMaxVcpus);
    CHECK(request.virtio_devices.size() <= limits::kMaxMmioDevices);

    // 1. The kernel, at the address its image names.
    EntryPoint entry;
    entry.kernel = TRY(load_kernel(memory, request.kernel.fd, request.kernel.path));

    // 2. The initrd, at the top of low memory.
    LoadedInitrd initrd;
    if (request.initrd) initrd = TRY(load_initrd(memory, request.initrd->fd, request.initrd->path, entry.kernel));

    // 3. The command line: the user's words, then the root drive and the devices.
    entry.command_line = TRY(make_command_line(request, entry.kernel));
    const auto line = std::span(entry.command_line.c_str(), entry.command_line.size() + 1);  // with its NUL
    TRY(place_bytes(memory, kCommandLine, std::as_bytes(line), "kernel command line"));

    // 4. The machine's description, twice: kernels without ACPI read the MP table, others read ACPI. And the reset
    //    vector, the only firmware there is.
    TRY(write_mp_table(memory, request.vcpu_count));
    TRY(write_acpi_tables(memory, {.vcpu_count = request.vcpu_count,
                                   .serial = request.serial,
                                   .keyboard = request.keyboard,
                                   .virtio_devices = request.virtio_devices}));
    TRY(write_reset_vector(memory));

    // 5. The zero page or the PVH start info. Both point to the structures above.
    if (entry.kernel.protocol == BootProtocol::kPvh)
        TRY(write_pvh_start_info(memory, initrd));
    else
        TRY(write_zero_page(
            memory, make_zero_page(memory, entry.kernel, initrd, static_cast<uint32_t>(entry.command_line.size()))));

    // 6. The tables that the boot vCPU's registers point to (entry_state.h).
    TRY(write_entry_tables(memory, entry.kernel.protocol));
    return entry;
}

}  // namespace wisp::boot
