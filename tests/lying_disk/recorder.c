/* Writes down what a process asks of the files under one directory, in the order in which it happens.
 *
 * Preloaded (LD_PRELOAD) into a broker and what it starts. LYING_DISK_ROOT is the directory, without links in its name;
 * LYING_DISK_TRACE the file that the records are appended to, each by one write. A record stands there before the call
 * is made, with what is written and where; another one after it, with what the call returned. So whatever is between
 * the two may or may not have happened, and what was recorded as done before somebody else was told of it, was done.
 *
 * Descriptors are looked up each time, so that nothing needs to be known of how they were passed on. What is written
 * through memory is not seen, nor is what goes by calls that are not listed here: whoever reads the trace has to compare
 * what it comes to with the files (test_recording.py).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* recording.py knows these, and MARK = 0. */
enum { DONE = 1, CREATE, WRITE, TRUNCATE, EXTEND, SYNC, MKDIR, UNLINK, RMDIR, RENAME };
enum { SYNCED = 1, EMPTIED = 2 };

struct record {
    int64_t size, kind, call, flags, offset, result, path_size;
};

static atomic_long calls;
static char root[4096], trace_path[4096];
static size_t root_size;
static int trace = -1;

__attribute__((constructor)) static void begin(void)
{
    const char *directory = getenv("LYING_DISK_ROOT"), *file = getenv("LYING_DISK_TRACE");
    if (!directory || !file)
        return;
    snprintf(root, sizeof root, "%s/", directory);
    root_size = strlen(root);
    snprintf(trace_path, sizeof trace_path, "%s", file);
    trace = syscall(SYS_openat, AT_FDCWD, trace_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

static void append(struct record *head, const char *path, const struct iovec *data, int count)
{
    struct iovec parts[1026] = {{head, sizeof *head}, {(void *)path, strlen(path)}};
    head->path_size = parts[1].iov_len;
    head->size = sizeof *head + head->path_size;
    for (int i = 0; i < count; i++) {
        parts[i + 2] = data[i];
        head->size += data[i].iov_len;
    }
    if (syscall(SYS_writev, trace, parts, count + 2) != head->size) {
        static const char text[] = "the trace cannot be written\n";
        syscall(SYS_write, 2, text, sizeof text - 1);
        abort();
    }
}

/* Records what is about to be done; its number, to be told to `done`. */
static int64_t about(int kind, const char *path, int flags, int64_t offset, const struct iovec *data, int count)
{
    int64_t call = ((int64_t)getpid() << 32) + atomic_fetch_add(&calls, 1);
    struct record head = {.kind = kind, .call = call, .flags = flags, .offset = offset};
    append(&head, path, data, count);
    return call;
}

static int64_t done(int64_t call, int64_t result)
{
    int error = errno;
    struct record head = {.kind = DONE, .call = call, .result = result};
    append(&head, "", NULL, 0);
    errno = error;
    return result;
}

/* The part of a name below the root, "." for the root itself; NULL if it is elsewhere. */
static const char *below(const char *path)
{
    if (trace < 0)
        return NULL;
    if (!strncmp(path, root, root_size))
        return path + root_size;
    return strlen(path) == root_size - 1 && !strncmp(path, root, root_size - 1) ? "." : NULL;
}

/* The same for an open file or directory that still has its name. */
static const char *named(int descriptor, char *buffer, size_t size)
{
    int error = errno;
    char link[40];
    struct stat stat;
    const char *found = NULL;
    if (trace >= 0 && !fstat(descriptor, &stat) && (S_ISREG(stat.st_mode) || S_ISDIR(stat.st_mode)) && stat.st_nlink) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
        ssize_t length = readlink(link, buffer, size - 1);
        if (length > 0) {
            buffer[length] = 0;
            found = below(buffer);
        }
    }
    errno = error;
    return found;
}

static int is_synced(int descriptor)
{
    int flags = fcntl(descriptor, F_GETFL);
    return flags >= 0 && (flags & O_DSYNC) ? SYNCED : 0;
}

static int64_t position(int descriptor)
{
    struct stat stat;
    if ((fcntl(descriptor, F_GETFL) & O_APPEND) && !fstat(descriptor, &stat))
        return stat.st_size;
    return syscall(SYS_lseek, descriptor, 0, SEEK_CUR);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define NAME char buffer_[4200]; const char *path = named(descriptor, buffer_, sizeof buffer_)

/* Calls REAL between two records if the file is one of ours. */
#define RECORDED(kind, flags, offset, data, count, call_real) \
    do { \
        NAME; \
        if (!path) \
            return call_real; \
        int64_t number_ = about(kind, path, flags, offset, data, count); \
        return done(number_, call_real); \
    } while (0)

#define OPEN(name) \
    int name(const char *file, int flags, ...) \
    { \
        va_list rest; \
        va_start(rest, flags); \
        int mode = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(rest, int) : 0; \
        va_end(rest); \
        const char *path = (flags & (O_CREAT | O_TRUNC)) ? below(file) : NULL; \
        if (!path) \
            return REAL(name)(file, flags, mode); \
        int64_t number = about(CREATE, path, flags & O_TRUNC ? EMPTIED : 0, 0, NULL, 0); \
        return done(number, REAL(name)(file, flags, mode)); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
    int name(int directory, const char *file, int flags, ...) \
    { \
        va_list rest; \
        va_start(rest, flags); \
        int mode = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(rest, int) : 0; \
        va_end(rest); \
        const char *path = (flags & (O_CREAT | O_TRUNC)) ? below(file) : NULL; \
        if (!path) \
            return REAL(name)(directory, file, flags, mode); \
        int64_t number = about(CREATE, path, flags & O_TRUNC ? EMPTIED : 0, 0, NULL, 0); \
        return done(number, REAL(name)(directory, file, flags, mode)); \
    }
OPENAT(openat)
OPENAT(openat64)

#define PWRITE(name, offset_type) \
    ssize_t name(int descriptor, const void *data, size_t size, offset_type at) \
    { \
        const struct iovec whole = {(void *)data, size}; \
        RECORDED(WRITE, is_synced(descriptor), at, &whole, 1, REAL(name)(descriptor, data, size, at)); \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define PWRITEV(name, offset_type) \
    ssize_t name(int descriptor, const struct iovec *data, int count, offset_type at) \
    { \
        RECORDED(WRITE, is_synced(descriptor), at, data, count, REAL(name)(descriptor, data, count, at)); \
    }
PWRITEV(pwritev, off_t)
PWRITEV(pwritev64, off64_t)

#define PWRITEV2(name, offset_type) \
    ssize_t name(int descriptor, const struct iovec *data, int count, offset_type at, int flags) \
    { \
        int synced = flags & RWF_DSYNC ? SYNCED : is_synced(descriptor); \
        RECORDED(WRITE, synced, at, data, count, REAL(name)(descriptor, data, count, at, flags)); \
    }
PWRITEV2(pwritev2, off_t)
PWRITEV2(pwritev64v2, off64_t)

ssize_t write(int descriptor, const void *data, size_t size)
{
    const struct iovec whole = {(void *)data, size};
    RECORDED(WRITE, is_synced(descriptor), position(descriptor), &whole, 1, REAL(write)(descriptor, data, size));
}

ssize_t writev(int descriptor, const struct iovec *data, int count)
{
    RECORDED(WRITE, is_synced(descriptor), position(descriptor), data, count,
             REAL(writev)(descriptor, data, count));
}

#define TRUNCATED(name, offset_type) \
    int name(int descriptor, offset_type size) \
    { \
        RECORDED(TRUNCATE, 0, size, NULL, 0, REAL(name)(descriptor, size)); \
    }
TRUNCATED(ftruncate, off_t)
TRUNCATED(ftruncate64, off64_t)

#define ALLOCATED(name, offset_type) \
    int name(int descriptor, int mode, offset_type at, offset_type size) \
    { \
        if (mode) /* holes and the like: the comparison with the files would tell */ \
            return REAL(name)(descriptor, mode, at, size); \
        RECORDED(EXTEND, 0, at + size, NULL, 0, REAL(name)(descriptor, mode, at, size)); \
    }
ALLOCATED(fallocate, off_t)
ALLOCATED(fallocate64, off64_t)

#define POSIX_ALLOCATED(name, offset_type) \
    int name(int descriptor, offset_type at, offset_type size) \
    { \
        RECORDED(EXTEND, 0, at + size, NULL, 0, REAL(name)(descriptor, at, size)); \
    }
POSIX_ALLOCATED(posix_fallocate, off_t)
POSIX_ALLOCATED(posix_fallocate64, off64_t)

/* msync and sync_file_range promise nothing that is relied on here: as if they had not been called. */
int fsync(int descriptor)
{
    RECORDED(SYNC, 0, 0, NULL, 0, REAL(fsync)(descriptor));
}

int fdatasync(int descriptor)
{
    RECORDED(SYNC, 0, 0, NULL, 0, REAL(fdatasync)(descriptor));
}

#define BY_NAME(kind, file, call_real) \
    do { \
        const char *path = below(file); \
        if (!path) \
            return call_real; \
        int64_t number_ = about(kind, path, 0, 0, NULL, 0); \
        return done(number_, call_real); \
    } while (0)

int mkdir(const char *file, mode_t mode)
{
    BY_NAME(MKDIR, file, REAL(mkdir)(file, mode));
}

int rmdir(const char *file)
{
    BY_NAME(RMDIR, file, REAL(rmdir)(file));
}

int unlink(const char *file)
{
    BY_NAME(UNLINK, file, REAL(unlink)(file));
}

int unlinkat(int directory, const char *file, int flags)
{
    BY_NAME(flags & AT_REMOVEDIR ? RMDIR : UNLINK, file, REAL(unlinkat)(directory, file, flags));
}

static int64_t about_rename(const char *from, const char *to)
{
    const char *path = below(from), *target = below(to);
    if (!path || !target)
        return 0;
    const struct iovec whole = {(void *)target, strlen(target)};
    return about(RENAME, path, 0, 0, &whole, 1);
}

int rename(const char *from, const char *to)
{
    int64_t number = about_rename(from, to);
    int result = REAL(rename)(from, to);
    return number ? done(number, result) : result;
}

int renameat(int directory, const char *from, int target_directory, const char *to)
{
    int64_t number = about_rename(from, to);
    int result = REAL(renameat)(directory, from, target_directory, to);
    return number ? done(number, result) : result;
}
