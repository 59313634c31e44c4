// SPDX-License-Identifier: Apache-2.0
//
// The program that the jailer's tests put into a jail: says as JSON what it sees there and what it may do.
// Arguments of its own, among those the jailer gives: --report PATH (else standard output), --exit CODE, --wait (until
// a signal ends it).
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <net/if.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

extern char** environ;

namespace {

FILE* g_out;

void number(const char* name, long long value) {
    fprintf(g_out, " \"%s\": %lld,\n", name, value);
}

void strings(const char* name, char** list) {
    fprintf(g_out, " \"%s\": [", name);
    for (char** item = list; *item; ++item) fprintf(g_out, "%s\"%s\"", item == list ? "" : ", ", *item);
    fprintf(g_out, "],\n");
}

void descriptors() {
    fprintf(g_out, " \"fds\": [");
    const char* separator = "";
    const int own = fileno(g_out);
    for (int fd = 0; fd < 65536; ++fd) {
        if ((fd == own && fd > 2) || fcntl(fd, F_GETFD) < 0) continue;
        fprintf(g_out, "%s%d", separator, fd);
        separator = ", ";
    }
    struct stat status = {};
    fstat(0, &status);
    fprintf(g_out, "],\n \"stdin_rdev\": [%u, %u],\n", major(status.st_rdev), minor(status.st_rdev));
}

void capabilities() {
    __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct sets[2] = {};
    syscall(SYS_capget, &header, sets);
    number("cap_effective", sets[0].effective | static_cast<long long>(sets[1].effective) << 32);
    number("cap_permitted", sets[0].permitted | static_cast<long long>(sets[1].permitted) << 32);
    number("cap_inheritable", sets[0].inheritable | static_cast<long long>(sets[1].inheritable) << 32);
    int bounding = 0, ambient = 0;
    for (int cap = 0; cap < 64; ++cap) {
        bounding += prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1;
        ambient += prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0) == 1;
    }
    number("cap_bounding", bounding);
    number("cap_ambient", ambient);
    number("no_new_privs", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
}

void limits() {
    rlimit limit = {};
    getrlimit(RLIMIT_NOFILE, &limit);
    number("no_file", static_cast<long long>(limit.rlim_cur));
    number("no_file_hard", static_cast<long long>(limit.rlim_max));
    getrlimit(RLIMIT_FSIZE, &limit);
    number("fsize", static_cast<long long>(limit.rlim_cur));
}

void tree(const std::string& path) {
    DIR* directory = opendir(path.c_str());
    if (!directory) return;
    while (dirent* entry = readdir(directory)) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        const std::string child = (path == "/" ? "" : path) + "/" + entry->d_name;
        struct stat s = {};
        lstat(child.c_str(), &s);
        fprintf(g_out, "  \"%s\": {\"mode\": \"%o\", \"uid\": %u, \"gid\": %u, \"rdev\": [%u, %u]},\n", child.c_str(),
                s.st_mode, s.st_uid, s.st_gid, major(s.st_rdev), minor(s.st_rdev));
        if (S_ISDIR(s.st_mode)) tree(child);
    }
    closedir(directory);
}

// 0, or the errno of an attempt.
int attempt(bool done) {
    return done ? 0 : errno;
}

int try_tcp() {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(1);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int result = attempt(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    close(fd);
    return result;
}

int try_unix_socket() {
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    strcpy(address.sun_path, "/run/probe.socket");
    const int result =
        attempt(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 && listen(fd, 1) == 0);
    close(fd);
    unlink(address.sun_path);
    return result;
}

int try_execute_other() {
    const int fd = open("/run/other", O_CREAT | O_WRONLY, 0755);
    if (fd < 0 || write(fd, "#!/x\n", 5) != 5) return -1;
    close(fd);
    char* const nothing[] = {nullptr};
    const int result = attempt(execve("/run/other", nothing, nothing) == 0);
    unlink("/run/other");
    return result;
}

void attempts() {
    number("try_file", attempt(close(open("/run/file", O_CREAT | O_RDWR, 0600)) == 0));
    unlink("/run/file");
    number("try_unix_socket", try_unix_socket());
    number("try_mknod", attempt(mknod("/run/node", S_IFCHR | 0600, makedev(1, 3)) == 0));
    number("try_execute_other", try_execute_other());
    number("try_tcp", try_tcp());
    number("try_chroot", attempt(chroot("/run") == 0));
    number("try_setuid", attempt(setuid(0) == 0 && getuid() == 0));
    number("try_outside", attempt(open("/../../../../../../etc/passwd", O_RDONLY) >= 0));
    number("try_mount", attempt(syscall(SYS_mount, "x", "/run", "tmpfs", 0, 0) == 0));
}

void interfaces() {
    fprintf(g_out, " \"interfaces\": [");
    if (struct if_nameindex* list = if_nameindex()) {
        for (auto* one = list; one->if_index; ++one) fprintf(g_out, "%s\"%s\"", one == list ? "" : ", ", one->if_name);
        if_freenameindex(list);
    }
    fprintf(g_out, "],\n");
}

}  // namespace

int main(int argc, char** argv) {
    int code = 0;
    bool wait = false;
    std::string path;
    for (int i = 1; i < argc; ++i) {
        if (!strcmp(argv[i], "--exit") && i + 1 < argc)
            code = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--report") && i + 1 < argc)
            path = argv[++i];
        else if (!strcmp(argv[i], "--wait"))
            wait = true;
    }
    const std::string unfinished = path + ".new";
    g_out = path.empty() ? stdout : fopen(unfinished.c_str(), "we");
    if (!g_out) return 99;

    fprintf(g_out, "{\n");
    strings("argv", argv);
    strings("env", environ);
    descriptors();
    number("uid", getuid()), number("euid", geteuid()), number("gid", getgid()), number("egid", getegid());
    number("groups", getgroups(0, nullptr));
    number("pid", getpid()), number("sid", getsid(0)), number("ppid", getppid());
    capabilities();
    limits();
    char name[16] = {}, directory[256] = {};
    prctl(PR_GET_NAME, name);
    fprintf(g_out, " \"comm\": \"%s\", \"cwd\": \"%s\",\n", name,
            getcwd(directory, sizeof directory) ? directory : "?");
    interfaces();
    attempts();
    fprintf(g_out, " \"tree\": {\n");
    tree("/");
    fprintf(g_out, "  \"\": {}\n },\n \"end\": 0\n}\n");
    fflush(g_out);
    if (!path.empty()) rename(unfinished.c_str(), path.c_str());
    if (wait) pause();
    return code;
}
