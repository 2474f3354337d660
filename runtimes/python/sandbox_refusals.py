"""What an ordinary machine has and the sandbox has not, with the reason each refusal gives. Frozen as `_capibara_refusals`.

Three kinds: modules that are absent, names that are absent from modules, and functions that exist and raise. A name is absent where a script may
ask for it with hasattr(); a function that raises stands where a script calls first and handles the error.
"""

import errno
import os
import posix

SANDBOX = "in the Capibara sandbox"


def _reason(what):
    return f"{what} not available {SANDBOX}"


_NATIVE = _reason("native code is")
_NETWORK = _reason("the network is")
_OPENSSL = _reason("OpenSSL is")
_PROCESS = _reason("processes are")
_SIGNALS = _reason("timers and signals from outside are")
_SYSTEM = _reason("this part of the operating system is")
_TERMINAL = f"there is no terminal {SANDBOX}"
_THREADS = _reason("threads are")
_TLS = _reason("TLS is")
_USERS = f"there are no user accounts {SANDBOX}"

# Modules that a Python on an ordinary machine has and this one has not, and why.
ABSENT_MODULES = {
    **dict.fromkeys(("ssl", "_ssl"), _TLS),
    **dict.fromkeys(("ctypes", "_ctypes"), _NATIVE),
    **dict.fromkeys(("tkinter", "_tkinter", "turtle", "turtledemo", "idlelib"), f"there is no screen {SANDBOX}"),
    **dict.fromkeys(("curses", "_curses", "readline", "termios", "pty"), _reason("terminal control is")),
    **dict.fromkeys(("_multiprocessing", "_posixshmem", "_posixsubprocess"), _PROCESS),
    **dict.fromkeys(("fcntl", "mmap", "resource", "syslog"), _SYSTEM),
    **dict.fromkeys(("grp", "pwd", "spwd", "crypt"), _USERS),
    **dict.fromkeys(("_dbm", "_gdbm"), _reason("this database is")),
    **dict.fromkeys(("ensurepip", "pip", "venv"), f"packages cannot be installed {SANDBOX}"),
}


def _names(reason, names):
    return dict.fromkeys(names.split(), reason)


# Names that end in an underscore stand for all that begin with them.
_OS = {
    **_names(_PROCESS, """
        CLD_ CLONE_ PRIO_ P_ POSIX_ SCHED_ WCONTINUED WCOREDUMP WEXITED WEXITSTATUS WIFCONTINUED WIFEXITED WIFSIGNALED WIFSTOPPED WNOHANG WNOWAIT
        WSTOPPED WSTOPSIG WTERMSIG WUNTRACED execl execle execlp execlpe execv execve execvp execvpe fork forkpty getpgid getpgrp getpriority getsid kill
        killpg nice pidfd_open posix_spawn posix_spawnp register_at_fork sched_get_priority_max sched_get_priority_min sched_getparam
        sched_getscheduler sched_param sched_rr_get_interval sched_setaffinity sched_setparam sched_setscheduler setns setpgid setpgrp setpriority
        setsid spawnl spawnle spawnlp spawnlpe spawnv spawnve spawnvp spawnvpe unshare wait wait3 wait4 waitid waitid_result waitpid
        waitstatus_to_exitcode"""),
    **_names(_reason("pipes and queues between processes are"), "EFD_ SPLICE_ eventfd eventfd_read eventfd_write mkfifo mknod pipe pipe2 splice"),
    **_names(_USERS, """
        chown fchown getgrouplist getgroups getlogin getresgid getresuid initgroups lchown setegid seteuid setgid setgroups setregid setresgid
        setresuid setreuid setuid"""),
    **_names(_TERMINAL, "ctermid grantpt login_tty openpty posix_openpt ptsname tcgetpgrp tcsetpgrp ttyname unlockpt"),
    **_names(_SIGNALS, "TFD_ timerfd_create timerfd_gettime timerfd_gettime_ns timerfd_settime timerfd_settime_ns"),
    **_names(_SYSTEM, """
        MFD_ O_ASYNC O_DIRECT O_FSYNC O_LARGEFILE O_NDELAY O_NOATIME O_PATH O_TMPFILE RTLD_ RWF_ SEEK_DATA SEEK_HOLE ST_ TMP_MAX XATTR_ chroot
        copy_file_range dup2 fchdir fchmod fstatvfs fwalk getloadavg getxattr listxattr lockf memfd_create posix_fallocate preadv pwritev readv
        removexattr sendfile setxattr statvfs writev"""),
}

_SIGNAL = _names(_SIGNALS, """
    ITIMER_ ItimerError SIGCLD SIGRTMAX SIGRTMIN SIG_BLOCK SIG_SETMASK SIG_UNBLOCK Sigmasks alarm getitimer pause pidfd_send_signal pthread_kill
    pthread_sigmask setitimer siginterrupt sigpending sigtimedwait sigwait sigwaitinfo struct_siginfo valid_signals""")

_SOCKET = _names(_NETWORK, """
    AF_ ALG_ CAN_ CMSG_ IOCTL_ IPPROTO_ J1939_ MSG_ NETLINK_ NI_ PACKET_ PF_ SCM_ SOCK_ SOL_ SO_ TIPC_ UDPLITE_ VMADDR_ VM_ if_indextoname
    if_nameindex if_nametoindex recv_fds send_fds sethostname""")

# By module; modules that are loaded in the image.
ABSENT_NAMES = {
    "os": _OS,
    "posix": _OS,
    "signal": _SIGNAL,
    "socket": _SOCKET,
    "select": _names(_SYSTEM, "EPOLLERR EPOLLET EPOLLIN EPOLLOUT EPOLLHUP EPOLLPRI EPOLL_ PIPE_ epoll"),
    "selectors": _names(_SYSTEM, "EpollSelector"),
    "hashlib": _names(_OPENSSL, "scrypt"),
    "shutil": _names(_SYSTEM, "disk_usage"),
    "http.client": _names(_TLS, "HTTPSConnection"),
    "urllib.request": _names(_TLS, "HTTPSHandler"),
    "asyncio": _names(_NETWORK, "open_unix_connection start_unix_server"),
}


# ---- small functions with a real meaning ----

_umask = 0o022


def umask(mask, /):
    """Sets the current numeric umask and returns the previous one. Files in the sandbox have no permissions it could cut."""
    global _umask
    old, _umask = _umask, mask.__index__() & 0o777
    return old


def getuid():
    """Returns the user id: there is one user."""
    return 1000


def getppid():
    """Returns the parent's process id: there is no parent to be seen."""
    return 0


def sched_getaffinity(pid, /):
    """Returns the processors a process may run on: one."""
    return {0}


def getrandom(size, flags=0):
    """Obtains a series of random bytes."""
    return posix.urandom(size)


def sync():
    """Forces writes to disk; files are in memory."""


def gethostname():
    """Returns the host's name: every sandbox has the same."""
    return "capibara"


def inet_ntoa(packed_ip, /):
    """Converts an IP address from 32-bit packed binary format to string format."""
    if len(packed_ip) != 4:
        raise OSError("packed IP wrong length")
    return "{}.{}.{}.{}".format(*packed_ip)


def install(refusal, absence):
    """Gives operations that cannot work an exception that says so. `refusal` and `absence` (guest.c) leave no frame of ours in the traceback."""
    import _thread
    import faulthandler
    import hashlib
    import multiprocessing.context
    import multiprocessing.process
    import signal
    import socket
    import subprocess
    import sys
    import threading
    import time
    import urllib.error
    import urllib.request
    from _capibara_hashes import pbkdf2_hmac

    no_threads = refusal(RuntimeError, f"can't start new thread: {_THREADS}")
    threading._start_joinable_thread = no_threads
    _thread.start_new_thread = _thread.start_new = _thread.start_joinable_thread = no_threads
    faulthandler.dump_traceback_later = no_threads
    threading.get_native_id = _thread.get_native_id = posix.getpid

    no_process = refusal(OSError, errno.ENOTSUP, _PROCESS)
    subprocess.Popen.__init__ = no_process
    os.system = posix.system = no_process
    multiprocessing.process.BaseProcess.start = no_process
    for name in ("Pool", "Manager", "Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event", "Barrier",
                 "Queue", "JoinableQueue", "SimpleQueue", "Pipe", "Value", "Array"):
        setattr(multiprocessing.context.BaseContext, name, no_process)
        setattr(multiprocessing, name, no_process)

    socket.socket.__init__ = refusal(OSError, errno.ENOTSUP, _NETWORK)
    socket.getaddrinfo = socket.gethostbyname = socket.gethostbyname_ex = refusal(socket.gaierror, socket.EAI_FAIL, _NETWORK)
    socket.getnameinfo = socket.getaddrinfo
    socket.gethostbyaddr = refusal(socket.herror, 1, _NETWORK)
    socket.getservbyname = socket.getservbyport = refusal(OSError, f"service/proto not found: {_NETWORK}")
    socket.getprotobyname = refusal(OSError, f"protocol not found: {_NETWORK}")
    socket.fromfd = socket.socketpair = refusal(OSError, errno.ENOTSUP, _reason("sockets are"))
    socket.gethostname, socket.inet_ntoa = gethostname, inet_ntoa
    urllib.request.HTTPHandler.https_open = refusal(urllib.error.URLError, _TLS)

    hashlib.pbkdf2_hmac = pbkdf2_hmac
    time.thread_time, time.thread_time_ns = time.process_time, time.process_time_ns

    real = {
        "umask": umask, "getppid": getppid, "sched_getaffinity": sched_getaffinity, "getrandom": getrandom, "GRND_NONBLOCK": 1, "GRND_RANDOM": 2, "sync": sync,
        "getuid": getuid, "geteuid": getuid, "getgid": getuid, "getegid": getuid,
        "dup": refusal(OSError, errno.ENOTSUP, f"descriptors cannot be duplicated {SANDBOX}"),
        "get_terminal_size": refusal(OSError, errno.ENOTTY, _TERMINAL),
    }
    for module in (os, posix):
        vars(module).update(real)
    for name in _OS.keys() & vars(os).keys():  # written in Python on top of what is absent
        delattr(os, name)
    os.__all__[:] = [name for name in os.__all__ if hasattr(os, name)]
    os.__all__ += real.keys() - set(os.__all__)
    os.__all__.sort()

    for module, reasons in ABSENT_NAMES.items():
        sys.modules[module].__getattr__ = absence(module, reasons)


def refuse_in_loop(loop, refusal):
    """Does the same for the event loop class of asyncio."""
    loop._make_subprocess_transport = refusal(OSError, errno.ENOTSUP, _PROCESS)
    loop.create_server = loop.create_unix_server = loop.create_unix_connection = refusal(OSError, errno.ENOTSUP, _NETWORK)
    # The type that loops of other systems without these raise: scripts handle it.
    loop.add_signal_handler = loop.remove_signal_handler = refusal(NotImplementedError, _SIGNALS)
    loop.connect_read_pipe = loop.connect_write_pipe = refusal(NotImplementedError, _reason("pipes are"))
