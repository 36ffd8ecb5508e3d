#include "unix.h"

#include "cleanup.h"

#include <errno.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static int address_of(const char *path, struct sockaddr_un *out)
{
	*out = (struct sockaddr_un){.sun_family = AF_UNIX};
	/* The kernel would take it for a name outside of the file system, which anybody may have.
	 */
	if (!*path)
		return -ENOENT;
	if (strlen(path) >= sizeof(out->sun_path))
		return -ENAMETOOLONG;
	memcpy(out->sun_path, path, strlen(path) + 1);
	return 0;
}

int tp_unix_connect(const char *path, int type, int *fd)
{
	TP_AUTO_CLOSE int s = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un sun;
	int err = address_of(path, &sun);

	if (err < 0)
		return err;
	if (s < 0 || connect(s, (const struct sockaddr *)&sun, sizeof(sun)) < 0)
		return -errno;
	*fd = TP_TAKE_FD(s);
	return 0;
}

/* Is the file a socket that nobody listens on any more? */
static bool is_stale(const char *path, int type)
{
	TP_AUTO_CLOSE int fd = -1;
	struct stat st;

	if (lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return false;
	return tp_unix_connect(path, type, &fd) == -ECONNREFUSED;
}

/* The mode from the first moment: changing it later would follow a link that somebody put there. */
static int bind_with_mode(int fd, const struct sockaddr_un *sun, mode_t mode)
{
	mode_t before = umask(~mode & 0777);
	int err = bind(fd, (const struct sockaddr *)sun, sizeof(*sun)) < 0 ? -errno : 0;

	umask(before);
	return err;
}

static int make_parent(const char *path)
{
	char copy[sizeof(((struct sockaddr_un *)NULL)->sun_path)];

	snprintf(copy, sizeof(copy), "%s", path);
	return mkdir(dirname(copy), 0755) < 0 && errno != EEXIST ? -errno : 0;
}

int tp_unix_bind(const char *path, int type, mode_t mode, int *fd)
{
	TP_AUTO_CLOSE int s = -1;
	struct sockaddr_un sun;
	int err = address_of(path, &sun);

	if (err == 0)
		err = make_parent(path);
	if (err < 0)
		return err;
	s = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s < 0)
		return -errno;
	err = bind_with_mode(s, &sun, mode);
	if (err == -EADDRINUSE && is_stale(path, type))
		err = unlink(path) < 0 ? -errno : bind_with_mode(s, &sun, mode);
	if (err < 0)
		return err;
	*fd = TP_TAKE_FD(s);
	return 0;
}
