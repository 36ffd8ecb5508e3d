/* Opening raw sockets. No state. */
#include "raw.h"

#include "cleanup.h"

#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <sys/socket.h>

/* So that a few neighbours that never answer, each with a queue full of packets, starve nobody. */
#define SEND_BUFFER (4 << 20)

static int set(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value)) < 0 ? -errno : 0;
}

/*
 * A raw socket gets a copy of every UDP packet that the machine receives, but for addresses: this
 * one is bound to one that no packet has (RFC 7600, RFC 6666).
 */
static int bind_to_nothing(int fd, int family)
{
	const struct sockaddr_in v4 = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(0xc0000008)}; /* 192.0.0.8 */
	const struct sockaddr_in6 v6 = {
		.sin6_family = AF_INET6, .sin6_addr.s6_addr = {1, [15] = 1}}; /* 100::1 */
	int err = family == AF_INET ? set(fd, IPPROTO_IP, IP_FREEBIND, 1)
				    : set(fd, IPPROTO_IPV6, IPV6_FREEBIND, 1);

	if (err)
		return err;
	if (family == AF_INET)
		return bind(fd, (const void *)&v4, sizeof(v4)) < 0 ? -errno : 0;
	return bind(fd, (const void *)&v6, sizeof(v6)) < 0 ? -errno : 0;
}

/* Nor can it be made to receive anything later. */
static int deafen(int fd)
{
	struct sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
	const struct sock_fprog program = {.len = 1, .filter = &nothing};

	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0)
		return -errno;
	return set(fd, SOL_SOCKET, SO_LOCK_FILTER, 1);
}

/* As the control plane's other sockets (engine/socket/udp.c). */
static int set_discovery(int fd, int family, bool whole)
{
	if (family == AF_INET)
		return set(
			fd, IPPROTO_IP, IP_MTU_DISCOVER, whole ? IP_PMTUDISC_DO : IP_PMTUDISC_OMIT);
	return set(
		fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, whole ? IPV6_PMTUDISC_DO : IPV6_PMTUDISC_DONT);
}

int tp_raw_open(int family, bool whole, int *out)
{
	TP_AUTO_CLOSE int fd = socket(family, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP);
	int err;

	if (fd < 0)
		return -errno;
	if (set(fd, SOL_SOCKET, SO_SNDBUFFORCE, SEND_BUFFER) < 0)
		set(fd, SOL_SOCKET, SO_SNDBUF, SEND_BUFFER);
	err = deafen(fd);
	if (!err)
		err = bind_to_nothing(fd, family);
	if (!err)
		err = set_discovery(fd, family, whole);
	if (!err)
		*out = TP_TAKE_FD(fd);
	return err;
}
