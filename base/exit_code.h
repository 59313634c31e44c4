// SPDX-License-Identifier: Apache-2.0
//
// Exit codes of `wisp`: Firecracker's numbers, because supervisors tell causes apart by them.
#pragma once

namespace wisp {

enum class ExitCode : int {
    kOk = 0,                  ///< the guest reset or powered off, or a print-and-leave flag was served
    kGenericError = 1,        ///< unhandled vCPU exit (a triple fault, for one), failed snapshot load, anything unnamed
    kBadSyscall = 148,        ///< SIGSYS: a system call that the policy refuses
    kSigBus = 149,            ///< SIGBUS
    kSigSegv = 150,           ///< SIGSEGV
    kSigXfsz = 151,           ///< SIGXFSZ: a file grew past its limit
    kBadConfiguration = 152,  ///< the machine file, the metadata file, or what they name
    kArgumentParsing = 153,   ///< the command line
    kSigXcpu = 154,           ///< SIGXCPU
    kSigPipe = 155,           ///< SIGPIPE (kept for the table: a broken pipe is counted, not fatal)
    kSigHup = 156,            ///< SIGHUP
    kSigIll = 157,            ///< SIGILL
};

}  // namespace wisp
