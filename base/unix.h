/*
 * Sockets in the file system: a name bound with its mode, in place of what a dead process left.
 * Any thread; does not block.
 */
#pragma once

#include <sys/types.h>

/*
 * A close-on-exec, non-blocking socket of `type`, bound to `path`, whose folder is made when it is
 * absent. Its file has `mode` from the first moment. -EADDRINUSE: a live process answers there, or
 * the file is no socket.
 */
int tp_unix_bind(const char *path, int type, mode_t mode, int *fd);

/* Connected to `path`, likewise; -errno of socket(2) and connect(2), -ENAMETOOLONG. */
int tp_unix_connect(const char *path, int type, int *fd);
