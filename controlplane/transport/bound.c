/* bind() for the few, a list of all UDP sockets of the network namespace for the many. */
#include "bound.h"

#include "base/clock.h"
#include "dataplane/core/flow.h"
#include "dataplane/engine/socket/udp.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stdlib.h>

#define ANSWER_SIZE 32768
/* What it takes to bind so many is what the list costs, and a sixteenth of it for each socket
 * there. */
#define BINDS             64
#define SOCKETS_LIKE_BIND 16

struct ports {
	uint64_t words[65536 / 64];
};

struct bound {
	const struct turn_settings *turn;
	struct mnl_socket *netlink;
	unsigned seq;
	struct ports *taken;    /* by address */
	uint64_t second_ns;     /* what follows is of the second that began then */
	unsigned asked;         /* how often */
	unsigned sockets;       /* in the list, or that of an earlier second */
	uint32_t absent;        /* a bit for each address that cannot be bound to */
	bool is_listed, failed; /* `taken` is true; it could not be had */
};

_Static_assert(TP_LOCALS_MAX <= 32, "a bit each");

int bound_new(const struct turn_settings *turn, struct bound **out)
{
	struct bound *bound = calloc(1, sizeof(*bound));

	if (!bound)
		return -ENOMEM;
	bound->turn = turn;
	bound->taken = calloc(turn->relays_count, sizeof(*bound->taken));
	if (!bound->taken) {
		bound_free(bound);
		return -ENOMEM;
	}
	/* Without it there is bind(). */
	bound->netlink = mnl_socket_open2(NETLINK_SOCK_DIAG, SOCK_CLOEXEC);
	if (bound->netlink && mnl_socket_bind(bound->netlink, 0, MNL_SOCKET_AUTOPID) < 0) {
		mnl_socket_close(bound->netlink);
		bound->netlink = NULL;
	}
	*out = bound;
	return 0;
}

void bound_free(struct bound *bound)
{
	if (!bound)
		return;
	if (bound->netlink)
		mnl_socket_close(bound->netlink);
	free(bound->taken);
	free(bound);
}

/* Everywhere: rather too much than too little. */
static bool is_wildcard(const struct tp_addr *address)
{
	static const uint8_t any[16];

	return memcmp(tp_addr_bytes(address), any, tp_addr_bytes_len(address)) == 0;
}

static int take_socket(const struct nlmsghdr *message, void *arg)
{
	const struct inet_diag_msg *diag = mnl_nlmsg_get_payload(message);
	struct bound *bound = arg;
	struct tp_addr address;
	uint16_t port;

	if (message->nlmsg_type != SOCK_DIAG_BY_FAMILY ||
		mnl_nlmsg_get_payload_len(message) < sizeof(*diag))
		return MNL_CB_OK;
	port = ntohs(diag->id.idiag_sport);
	address = tp_addr_make(
		diag->idiag_family == AF_INET ? TP_IPV4 : TP_IPV6, diag->id.idiag_src, 0);
	bound->sockets++;
	for (size_t i = 0; i < bound->turn->relays_count; i++) {
		/* As bytes: an IPv6 socket may be bound to an IPv4 address. */
		if (is_wildcard(&address) || memcmp(bound->turn->relays[i].address.ip, address.ip,
						     sizeof(address.ip)) == 0)
			bound->taken[i].words[port / 64] |= UINT64_C(1) << port % 64;
	}
	return MNL_CB_OK;
}

static int ask(struct bound *bound, uint8_t family)
{
	char buffer[256] = {0};
	struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);
	struct inet_diag_req_v2 *diag;

	request->nlmsg_type = SOCK_DIAG_BY_FAMILY;
	request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	request->nlmsg_seq = ++bound->seq;
	diag = mnl_nlmsg_put_extra_header(request, sizeof(*diag));
	diag->sdiag_family = family;
	diag->sdiag_protocol = IPPROTO_UDP;
	diag->idiag_states = UINT32_MAX;
	return mnl_socket_sendto(bound->netlink, request, request->nlmsg_len) < 0 ? -errno : 0;
}

static int list_family(struct bound *bound, uint8_t family)
{
	char answer[ANSWER_SIZE];
	int status = ask(bound, family) < 0 ? -1 : 1;

	while (status > 0) {
		ssize_t len = recv(
			mnl_socket_get_fd(bound->netlink), answer, sizeof(answer), MSG_DONTWAIT);

		if (len < 0)
			return -errno;
		status = mnl_cb_run(answer, (size_t)len, bound->seq,
			mnl_socket_get_portid(bound->netlink), take_socket, bound);
		/* The rest of an answer that was given up. */
		if (status < 0 && errno == EPROTO)
			status = 1;
	}
	return status;
}

static void list_sockets(struct bound *bound)
{
	memset(bound->taken, 0, bound->turn->relays_count * sizeof(*bound->taken));
	bound->sockets = 0;
	bound->absent = 0;
	for (size_t i = 0; i < bound->turn->relays_count; i++)
		if (tp_udp_probe(&bound->turn->relays[i].address) < 0)
			bound->absent |= UINT32_C(1) << i;
	bound->is_listed = list_family(bound, AF_INET) == 0 && list_family(bound, AF_INET6) == 0;
	bound->failed = !bound->is_listed;
}

static int try_bind(const struct bound *bound, size_t address, uint16_t port)
{
	struct tp_addr local = tp_addr_with_port(&bound->turn->relays[address].address, port);

	return tp_udp_probe(&local);
}

int bound_check(struct bound *bound, size_t address, uint16_t port, uint64_t now_ns)
{
	if (now_ns - bound->second_ns >= TP_NS_PER_S) {
		bound->second_ns = now_ns;
		bound->asked = 0;
		bound->is_listed = bound->failed = false;
	}
	if (!bound->is_listed && bound->netlink && !bound->failed &&
		bound->asked++ >= BINDS + bound->sockets / SOCKETS_LIKE_BIND)
		list_sockets(bound);
	if (!bound->is_listed || (bound->absent >> address & 1))
		return try_bind(bound, address, port);
	return bound->taken[address].words[port / 64] >> port % 64 & 1 ? -EADDRINUSE : 0;
}
