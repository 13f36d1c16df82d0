/* Faults of the disk and of the name server for one process, loaded with LD_PRELOAD.

   FAULTS_FOLDER: a folder; a fault is in force as long as a file of its name is there.
     hang   writes and syncs of files below FAULTS_PATH do not return
     slow   each of them takes 0.02 seconds
     full   writes there fail with ENOSPC
     dns    look-ups of names that contain FAULTS_HOST do not return
     fail-write, fail-socket, fail-open, fail-thread
            the file has a number N: the N-th such call from now on fails once, with
            ENOSPC (below FAULTS_PATH), EMFILE, EMFILE, EAGAIN; the file is removed
     fail-memory
            the file has a number N: the N-th allocation after the next accept fails, with ENOMEM
   Without `dns`, look-ups of these names fail at once. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static int in_force(const char *fault)
{
    const char *folder = getenv("FAULTS_FOLDER");
    char path[4096];
    if (folder == NULL)
        return 0;
    snprintf(path, sizeof path, "%s/%s", folder, fault);
    return access(path, F_OK) == 0;
}

static int is_ours(int fd)
{
    const char *prefix = getenv("FAULTS_PATH");
    char link[64], path[4096];
    ssize_t length;
    if (prefix == NULL)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return strncmp(path, prefix, strlen(prefix)) == 0;
}

/* The countdowns of the calls that fail once; 0: none. */
static _Atomic int left[5];
static const char *const names[5] = {"fail-write", "fail-socket", "fail-open", "fail-thread", "fail-memory"};
enum { WRITE, SOCKET, OPEN, THREAD, MEMORY };

/* Reads the number of the file, if it is there. */
static void arm(int call)
{
    const char *folder = getenv("FAULTS_FOLDER");
    char path[4096], digits[16] = {0};
    int saved = errno, fd;
    if (folder != NULL && left[call] == 0) {
        snprintf(path, sizeof path, "%s/%s", folder, names[call]);
        fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0) {
            if (syscall(SYS_read, fd, digits, sizeof digits - 1) > 0 && unlink(path) == 0)
                left[call] = atoi(digits);
            syscall(SYS_close, fd);
        }
    }
    errno = saved;
}

static int counts_down(int call)
{
    return left[call] > 0 && --left[call] == 0;
}

static int fails_now(int call)
{
    arm(call);
    return counts_down(call);
}

/* Waits; returns 1 if the call has to fail with ENOSPC. */
static int disk(int fd, int writes)
{
    int saved = errno, fails = 0;
    if (is_ours(fd)) {
        if (in_force("slow"))
            usleep(20000);
        while (in_force("hang"))
            usleep(5000);
        fails = writes && (in_force("full") || fails_now(WRITE));
    }
    errno = fails ? ENOSPC : saved;
    return fails;
}

#define NEXT(type, name, ...) ((type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name))

ssize_t write(int fd, const void *octets, size_t count)
{
    return disk(fd, 1) ? -1 : syscall(SYS_write, fd, octets, count);
}

ssize_t pwrite64(int fd, const void *octets, size_t count, off64_t offset)
{
    return disk(fd, 1) ? -1 : NEXT(ssize_t, "pwrite64", int, const void *, size_t, off64_t)(fd, octets, count, offset);
}

ssize_t pwrite(int fd, const void *octets, size_t count, off_t offset)
{
    return disk(fd, 1) ? -1 : NEXT(ssize_t, "pwrite", int, const void *, size_t, off_t)(fd, octets, count, offset);
}

int fsync(int fd)
{
    disk(fd, 0);
    return NEXT(int, "fsync", int)(fd);
}

int fdatasync(int fd)
{
    disk(fd, 0);
    return NEXT(int, "fdatasync", int)(fd);
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    const char *host = getenv("FAULTS_HOST");
    int asks_a_server = hints == NULL || !(hints->ai_flags & AI_NUMERICHOST);
    if (asks_a_server && node != NULL && host != NULL && strstr(node, host) != NULL) {
        while (in_force("dns"))
            usleep(5000);
        return EAI_AGAIN;
    }
    return NEXT(int, "getaddrinfo", const char *, const char *, const struct addrinfo *, struct addrinfo **)(
        node, service, hints, found);
}

int socket(int domain, int type, int protocol)
{
    if (fails_now(SOCKET)) {
        errno = EMFILE;
        return -1;
    }
    return syscall(SYS_socket, domain, type, protocol);
}

int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
    arm(MEMORY);
    if (fails_now(SOCKET)) {
        errno = EMFILE;
        return -1;
    }
    return syscall(SYS_accept4, fd, address, length, flags);
}

static int opened(const char *path, int flags, mode_t mode)
{
    if (fails_now(OPEN)) {
        errno = EMFILE;
        return -1;
    }
    return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;
    va_end(more);
    return opened(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;
    va_end(more);
    return opened(path, flags, mode);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument)
{
    if (fails_now(THREAD))
        return EAGAIN;
    return NEXT(int, "pthread_create", pthread_t *, const pthread_attr_t *, void *(*)(void *), void *)(
        thread, attributes, run, argument);
}

/* glibc's own allocations; an allocation cannot look for a file. */
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);

static int no_memory(void)
{
    if (!counts_down(MEMORY))
        return 0;
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t size)
{
    return no_memory() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return no_memory() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    return no_memory() ? NULL : __libc_realloc(old, size);
}
