// SPDX-License-Identifier: Apache-2.0
//
// The floor of start.first_instruction: a static program that does nothing but print a line, with Wisp's C library.
#include <unistd.h>

int main() {
    constexpr char kLine[] = "Guest-boot-time = nothing was booted\n";
    if (write(STDOUT_FILENO, kLine, sizeof kLine - 1) < 0) return 1;
    pause();
    return 0;
}
