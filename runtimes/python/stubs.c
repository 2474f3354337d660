/* What neither the C library nor CPython supplies; linked into the guest and into _freeze_module. */
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>

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
