/* Loaded into the server (LD_PRELOAD), fails calls of it with EIO for as long as the file that DISK_FAULT names says so: "sync .log
   probe-" fails syncs of files that have one of these words in their path; "write" is for writes, "read" for reads, "create" for files
   that are made. With "hold" in front such calls wait instead until the file says so no more, and the first that does makes a file
   beside that one, with ".held" after its name. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

enum answer { GO_ON, FAIL, HOLD };

static enum answer asked(const char *call, const char *path) {
    const char *control = getenv("DISK_FAULT");
    enum answer answer = FAIL;
    char text[128], *word, *rest;
    ssize_t length;
    long file;
    if (control == NULL) return GO_ON;
    file = syscall(SYS_openat, AT_FDCWD, control, O_RDONLY | O_CLOEXEC, 0);
    if (file < 0) return GO_ON;
    length = syscall(SYS_read, file, text, sizeof text - 1);
    syscall(SYS_close, file);
    if (length <= 0) return GO_ON;
    text[length] = 0;
    word = strtok_r(text, " ", &rest);
    if (word != NULL && strcmp(word, "hold") == 0) {
        answer = HOLD;
        word = strtok_r(NULL, " ", &rest);
    }
    if (word == NULL || strcmp(word, call) != 0) return GO_ON;
    while ((word = strtok_r(NULL, " ", &rest)) != NULL)
        if (strstr(path, word) != NULL) return answer;
    return GO_ON;
}

static void tell_of_the_hold(void) {
    char path[4096];
    long file;
    snprintf(path, sizeof path, "%s.held", getenv("DISK_FAULT"));
    file = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (file >= 0) syscall(SYS_close, file);
}

static int fails_at(const char *call, const char *path) {
    enum answer answer = asked(call, path);
    if (answer == HOLD) tell_of_the_hold();
    while (answer == HOLD) {
        usleep(1000);
        answer = asked(call, path);
    }
    return answer == FAIL;
}

static int fails(const char *call, int file) {
    char link[64], path[4096];
    ssize_t length;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return fails_at(call, path);
}

ssize_t write(int file, const void *bytes, size_t length) {
    if (fails("write", file)) return errno = EIO, -1;
    return syscall(SYS_write, file, bytes, length);
}

ssize_t pwrite(int file, const void *bytes, size_t length, off_t at) {
    if (fails("write", file)) return errno = EIO, -1;
    return syscall(SYS_pwrite64, file, bytes, length, at);
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t at) { return pwrite(file, bytes, length, at); }

ssize_t pread(int file, void *bytes, size_t length, off_t at) {
    if (fails("read", file)) return errno = EIO, -1;
    return syscall(SYS_pread64, file, bytes, length, at);
}

ssize_t pread64(int file, void *bytes, size_t length, off64_t at) { return pread(file, bytes, length, at); }

int fdatasync(int file) {
    if (fails("sync", file)) return errno = EIO, -1;
    return (int)syscall(SYS_fdatasync, file);
}

int fsync(int file) {
    if (fails("sync", file)) return errno = EIO, -1;
    return (int)syscall(SYS_fsync, file);
}

static int open_with(const char *path, int flags, mode_t mode) {
    if ((flags & O_CREAT) && fails_at("create", path)) return errno = EIO, -1;
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list more;
    mode_t mode;
    va_start(more, flags);
    mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(more, mode_t) : 0;
    va_end(more);
    return open_with(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list more;
    mode_t mode;
    va_start(more, flags);
    mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(more, mode_t) : 0;
    va_end(more);
    return open_with(path, flags | O_LARGEFILE, mode);
}
