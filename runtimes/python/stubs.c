/* What neither the C library nor CPython supplies, or not as a script expects it; linked into the guest and into _freeze_module. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>
#include <string.h>
#include <sys/times.h>
#include <sys/utsname.h>
#include <time.h>

/* bzip2 is built without stdio and asks its user for this. */
void bz_internal_error(int error)
{
    fprintf(stderr, "bzip2 internal error %d\n", error);
    abort();
}

/* Name services do not exist in the sandbox. */
static int name_error;
int *__h_errno_location(void) { return &name_error; }
struct hostent *gethostbyname(const char *name) { name_error = HOST_NOT_FOUND; return 0; }
struct hostent *gethostbyaddr(const void *address, socklen_t length, int type) { name_error = HOST_NOT_FOUND; return 0; }
struct servent *getservbyname(const char *name, const char *protocol) { return 0; }
struct servent *getservbyport(int port, const char *protocol) { return 0; }
struct protoent *getprotobyname(const char *name) { return 0; }
const char *hstrerror(int error) { return "Host name lookup failure"; }

int uname(struct utsname *name)
{
    memset(name, 0, sizeof *name);
    strcpy(name->sysname, "wasi");
    strcpy(name->nodename, "capibara");
    strcpy(name->release, "0.0.0");
    strcpy(name->version, "0.0.0");
    strcpy(name->machine, "wasm32");
    return 0;
}

/* The times() of CPython (flags.rs). The C library's returns clock() as it is, in another unit than sysconf(_SC_CLK_TCK) says. */
clock_t capibara_times(struct tms *used)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    memset(used, 0, sizeof *used);
    used->tms_utime = clock() / (CLOCKS_PER_SEC / 100);
    return (clock_t)now.tv_sec * 100 + now.tv_nsec / 10000000;
}

/* ---- waiting without end ---- */

static int deadlock_reported = 1;

static int report_deadlock(void *unused)
{
    deadlock_reported = 1;
    PyErr_SetString(PyExc_RuntimeError, "deadlock: nothing can end this wait, threads are not available in the Capibara sandbox");
    return -1;
}

/* The pthread_cond_wait of CPython (flags.rs). Every wait without a timeout ends here, and no other thread can end it; the C library's traps. CPython takes a return for an interruption and
 * makes its pending calls, as for a signal, whose handler may raise. A wait that cannot be interrupted would come again: that one traps. */
int capibara_cond_wait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex)
{
    if (!deadlock_reported || Py_AddPendingCall(report_deadlock, NULL)) abort();
    deadlock_reported = 0;
    return 0;
}

/* ---- time zones: musl's own code (__tz.c) on the zones of the image ---- */

int __munmap(void *start, size_t length) { return 0; }

/* The file of a zone; it stays in memory. */
const unsigned char *__map_file(const char *path, size_t *size)
{
    static const char folder[] = "/usr/share/zoneinfo/";
    if (strncmp(path, folder, sizeof folder - 1) || !Py_IsInitialized()) return NULL;
    PyObject *pending = PyErr_GetRaisedException();
    PyObject *module = PyImport_ImportModule("zoneinfo._zones");
    PyObject *zones = module ? PyObject_GetAttrString(module, "ZONES") : NULL;
    PyObject *data = zones ? PyMapping_GetItemString(zones, path + sizeof folder - 1) : NULL;
    const unsigned char *bytes = NULL;
    if (data && PyBytes_Check(data)) {
        bytes = (const unsigned char *)PyBytes_AS_STRING(data);
        *size = PyBytes_GET_SIZE(data);
    }
    Py_XDECREF(zones);
    Py_XDECREF(module);
    PyErr_Clear();
    PyErr_SetRaisedException(pending);
    return bytes;
}

/* ---- what to do when memory runs out, before the exception is made (flags.rs); the guest says ---- */

void (*capibara_give_back)(void);

void capibara_out_of_memory(void)
{
    if (capibara_give_back) capibara_give_back();
}

/* ---- permissions of files, which WASI does not tell: those of an ordinary machine ---- */

static int with_mode(int result, struct stat *file)
{
    if (result) return result;
    if (S_ISDIR(file->st_mode)) file->st_mode |= 0755;
    else if (S_ISREG(file->st_mode)) file->st_mode |= 0644;
    else if (S_ISLNK(file->st_mode)) file->st_mode |= 0777;
    else if (S_ISCHR(file->st_mode)) file->st_mode |= 0666;
    else file->st_mode |= 0600;
    return 0;
}

/* The working directory without links and `..`, as the system of another machine keeps it. */
int capibara_chdir(const char *path)
{
    char *real = realpath(path, NULL);
    int result = chdir(real ? real : path);
    free(real);
    return result;
}

/* The mkdir() and rmdir() of SQLite (flags.rs), which locks a database by a directory `DATABASE.lock` beside it. A database that
 * cannot be written here needs no lock to be read, and where it is none can be made. */
int capibara_lock_mkdir(const char *path, mode_t mode)
{
    size_t length = strlen(path);
    if (length > 5 && strcmp(path + length - 5, ".lock") == 0) {
        char *database = strndup(path, length - 5);
        int fd = database ? open(database, O_WRONLY | O_CLOEXEC) : -1;
        int read_only = fd < 0 && (errno == EROFS || errno == EACCES || errno == EPERM);
        if (fd >= 0) close(fd);
        free(database);
        if (read_only) return 0;
    }
    return mkdir(path, mode);
}

int capibara_lock_rmdir(const char *path)
{
    int result = rmdir(path);
    /* As if it had been removed before: there was no lock. */
    if (result < 0 && (errno == EROFS || errno == EACCES || errno == EPERM)) errno = ENOENT;
    return result;
}

/* A signal that nobody handles ends the script as it ends a process; its code is what a shell makes of that. */
int capibara_raise(int number)
{
    void (*handler)(int) = signal(number, SIG_DFL);
    if (handler == SIG_ERR) return -1;
    if (handler != SIG_DFL) {
        signal(number, handler);
        return raise(number);
    }
    switch (number) {
        case SIGCHLD: case SIGCONT: case SIGURG: case SIGWINCH: case SIGSTOP: case SIGTSTP: case SIGTTIN: case SIGTTOU: return 0;
        default: _exit(128 + number);
    }
}

int capibara_stat(const char *path, struct stat *to) { return with_mode(stat(path, to), to); }
int capibara_lstat(const char *path, struct stat *to) { return with_mode(lstat(path, to), to); }
int capibara_fstat(int fd, struct stat *to) { return with_mode(fstat(fd, to), to); }
int capibara_fstatat(int fd, const char *path, struct stat *to, int flags) { return with_mode(fstatat(fd, path, to, flags), to); }
