// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/load/bzimage.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "vmm/boot/layout.h"
#include "vmm/boot/load/place.h"

namespace wisp::boot {

namespace {

constexpr size_t kHeaderAt = offsetof(boot_params, hdr);  // the same in file and zero page
constexpr size_t kHeaderLengthAt = 0x201;                 // the header ends at 0x202 plus this byte ("jump")
constexpr size_t kMagicAt = kHeaderAt + offsetof(setup_header, header);
constexpr uint16_t kBootFlag = 0xaa55;
constexpr uint32_t kMagic = 0x53726448;      // "HdrS"
constexpr uint16_t kOldestVersion = 0x020c;  // 2.12: the first with xloadflags
constexpr uint64_t kSector = 512;
constexpr uint64_t kEntry64 = 0x200;  // "64-bit Boot Protocol": the entry point's offset from the start of the kernel

unsigned long ul(uint64_t value) {
    return static_cast<unsigned long>(value);
}

Result<setup_header> read_setup_header(const ImageFile& file) {
    const auto head = file.head();
    setup_header header{};
    const size_t end = 0x202 + std::to_integer<size_t>(head[kHeaderLengthAt]);
    if (end > head.size()) return file.refuse("truncated: it ends within the setup header");
    memcpy(&header, head.data() + kHeaderAt, std::min(end - kHeaderAt, sizeof header));

    if (header.version < kOldestVersion)
        return file.refuse("its boot protocol is %u.%02u; 2.12 or later is needed", header.version >> 8,
                           header.version & 0xff);
    // If the header is too short for its version, the missing fields are zero and one of these checks refuses it.
    if (!(header.xloadflags & XLF_KERNEL_64)) return file.refuse("it has no 64-bit entry point (XLF_KERNEL_64)");
    if (!(header.loadflags & LOADED_HIGH)) return file.refuse("a zImage, which loads low; a bzImage is needed");
    return header;
}

/// The part of the file that is loaded.
struct Payload {
    uint64_t offset;
    uint64_t size;
};

Result<Payload> find_payload(const ImageFile& file, const setup_header& header) {
    // "For backwards compatibility, if the setup_sects field contains 0, the real value is 4."
    const uint64_t setup_sectors = header.setup_sects ? header.setup_sects : 4;
    const Payload payload{(setup_sectors + 1) * kSector, uint64_t{header.syssize} * 16};
    if (payload.size <= kEntry64) return file.refuse("its protected-mode part has only %lu bytes", ul(payload.size));
    if (!file.contains(payload.offset, payload.size))
        return file.refuse("truncated: the kernel proper (%lu bytes at offset %lu) lies beyond the end at %lu",
                           ul(payload.size), ul(payload.offset), ul(file.size()));
    return payload;
}

/// The guest memory that the kernel occupies: its preferred address, and the room that it needs to unpack itself.
Result<GuestMemory::Range> find_room(const ImageFile& file, const setup_header& header, const Payload& payload) {
    // A kernel that is loaded lower moves itself up to its preferred address, and a kernel that is not relocatable runs
    // only there.
    const uint64_t start = header.pref_address;
    const uint64_t size = std::max<uint64_t>(header.init_size, payload.size);
    if (start < kHighRam.value)
        return file.refuse("it prefers to load at %#lx; the first MiB is taken by boot structures", ul(start));
    if (header.kernel_alignment == 0 || (header.kernel_alignment & (header.kernel_alignment - 1)) != 0)
        return file.refuse("its alignment %#x is not a power of two", header.kernel_alignment);
    if (start % header.kernel_alignment != 0)
        return file.refuse("it prefers to load at %#lx, which is not a multiple of its alignment %#x", ul(start),
                           header.kernel_alignment);
    if (start >= kIdentityMapEnd || size > kIdentityMapEnd - start)
        return file.refuse("it takes %#lx bytes from %#lx; the 64-bit boot protocol maps the first GiB only", ul(size),
                           ul(start));
    if (!file.memory().contains({start}, size))
        return file.refuse("it needs %lu MiB of memory to unpack itself; the machine has %lu MiB",
                           ul((start + size + limits::kMiB - 1) >> 20), ul(file.memory().total_size() >> 20));
    return GuestMemory::Range{{start}, size};
}

}  // namespace

bool is_bzimage(std::span<const std::byte> head) {
    uint16_t flag;
    uint32_t magic;
    if (head.size() < kMagicAt + sizeof magic) return false;
    memcpy(&flag, head.data() + kHeaderAt + offsetof(setup_header, boot_flag), sizeof flag);
    memcpy(&magic, head.data() + kMagicAt, sizeof magic);
    return flag == kBootFlag && magic == kMagic;
}

Result<LoadedKernel> load_bzimage(const ImageFile& file) {
    LoadedKernel kernel;
    kernel.protocol = BootProtocol::kLinux64;
    kernel.header = TRY(read_setup_header(file));
    const Payload payload = TRY(find_payload(file, kernel.header));
    const GuestMemory::Range room = TRY(find_room(file, kernel.header, payload));

    kernel.start = room.start;
    kernel.end = {room.start.value + room.size};
    kernel.entry = {room.start.value + kEntry64};
    kernel.header.code32_start = static_cast<uint32_t>(room.start.value);
    TRY(file.copy_to_guest(payload.offset, payload.size, room.start));
    return kernel;
}

}  // namespace wisp::boot
