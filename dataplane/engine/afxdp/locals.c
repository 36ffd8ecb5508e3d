/*
 * Which of the tables' addresses the machine has just now. One that went elsewhere (keepalived,
 * DHCP) stays in the tables; what still comes for it must not leave by our raw socket, with the
 * sender's source address. Asked by the main thread, once a second; workers read one byte.
 */
#include "afxdp.h"

#include "base/addr.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

static bool is_here(const struct tp_local *local)
{
	bool v4 = tp_is_v4(local->ip);
	const uint8_t *bytes = (const void *)local->ip;
	struct tp_addr at =
		v4 ? tp_addr_make(TP_IPV4, bytes + 12, 0) : tp_addr_make(TP_IPV6, bytes, 0);
	struct sockaddr_storage ss;
	socklen_t size = tp_addr_to_sockaddr(&at, &ss);
	int fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool here;

	if (fd < 0)
		return true; /* nobody can tell */
	here = bind(fd, (const void *)&ss, size) == 0 || errno != EADDRNOTAVAIL;
	close(fd);
	return here;
}

static uint32_t count(const struct afxdp_locals *l)
{
	uint32_t n = __atomic_load_n(&l->config->locals, __ATOMIC_ACQUIRE);

	return n < TP_LOCALS_MAX ? n : TP_LOCALS_MAX;
}

void afxdp_locals_check(struct afxdp_locals *l)
{
	for (uint32_t i = 0; l->config && i < count(l); i++)
		__atomic_store_n(&l->absent[i], !is_here(&l->table[i]), __ATOMIC_RELAXED);
}

bool afxdp_locals_have(const struct afxdp_locals *l, const uint64_t ip[2])
{
	for (uint32_t i = 0; i < count(l); i++) {
		if (l->table[i].ip[0] == ip[0] && l->table[i].ip[1] == ip[1])
			return !__atomic_load_n(&l->absent[i], __ATOMIC_RELAXED);
	}
	return false;
}
