#include "hop.h"

#include <err.h>
#include <errno.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define TRIES        60
#define STEP_US      50000
#define DISCARD_PORT 9

void hops_begin(struct hops *h, const struct tp_addr *local)
{
	struct tp_addr any_port = tp_addr_with_port(local, 0);
	struct sockaddr_storage sa;
	socklen_t len = tp_addr_to_sockaddr(&any_port, &sa);

	*h = (struct hops){.local = *local};
	h->probe = socket(sa.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (h->probe < 0 || bind(h->probe, (struct sockaddr *)&sa, len) < 0)
		err(1, "an own address");
	errno = -netlink_open(&h->netlink);
	if (errno)
		err(1, "netlink");
}

void hops_end(struct hops *h)
{
	netlink_close(&h->netlink);
	close(h->probe);
}

static void own_mac(const struct hops *h, uint32_t ifindex, uint8_t mac[FRAME_MAC_LEN])
{
	struct ifreq request = {.ifr_ifindex = (int)ifindex};

	/* The socket knows which namespace is meant, the thread may be in another one. */
	if (ioctl(h->probe, SIOCGIFNAME, &request) < 0 ||
		ioctl(h->probe, SIOCGIFHWADDR, &request) < 0)
		err(1, "interface %u", ifindex);
	memcpy(mac, request.ifr_hwaddr.sa_data, FRAME_MAC_LEN);
}

static void probe(const struct hops *h, const struct tp_addr *remote)
{
	struct tp_addr to = tp_addr_with_port(remote, DISCARD_PORT);
	struct sockaddr_storage sa;
	socklen_t len = tp_addr_to_sockaddr(&to, &sa);

	sendto(h->probe, NULL, 0, MSG_DONTWAIT, (struct sockaddr *)&sa, len);
}

static void find(
	struct hops *h, const struct tp_addr *remote, struct frame_macs *macs, uint32_t *ifindex)
{
	struct netlink_neighbour neighbour;
	struct netlink_route route;
	char text[TP_ADDR_TEXT];
	int failed = netlink_route_to(&h->netlink, remote, &h->local, &route);

	tp_addr_ip_text(remote, text);
	if (failed || !route.ifindex)
		errx(1, "there is no route to %s", text);
	*ifindex = route.ifindex;
	own_mac(h, route.ifindex, macs->source);
	for (int i = 0; i < TRIES; i++) {
		probe(h, remote);
		failed = netlink_neighbour_at(&h->netlink, route.ifindex,
			route.gateway.family ? &route.gateway : remote, &neighbour);
		if (!failed && neighbour.usable) {
			memcpy(macs->destination, neighbour.mac, FRAME_MAC_LEN);
			return;
		}
		usleep(STEP_US);
	}
	errx(1, "%s: no MAC address is known for it", text);
}

const struct frame_macs *hops_to(struct hops *h, const struct tp_addr *remote, uint32_t *ifindex)
{
	unsigned i = 0;

	while (i < h->count && !tp_addr_equal_ip(&h->known[i].remote, remote))
		i++;
	if (i == HOPS_MAX)
		errx(1, "more than %d relayed addresses", HOPS_MAX);
	if (i == h->count) {
		find(h, remote, &h->known[i].macs, &h->known[i].ifindex);
		h->known[i].remote = *remote;
		h->count++;
	}
	if (ifindex)
		*ifindex = h->known[i].ifindex;
	return &h->known[i].macs;
}
