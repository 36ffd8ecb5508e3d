/* Which kind of sockets relayed addresses get, and why: like engines.c. What both kinds do. */
#include "relays.h"

#include "base/clock.h"
#include "base/log.h"
#include "ephemeral.h"

#include <errno.h>
#include <stdio.h>

#ifdef HAVE_XDP
static const struct relays_ops *const shared = &relays_shared;
#else
static const struct relays_ops *const shared;
#endif

/* Batches read from one socket before the others get their turn. */
#define ROUNDS_MAX 4

size_t relays_read(const struct relays_options *options, int fd, relays_take *take, void *arg)
{
	const struct tp_udp_packet *packets;
	size_t received = TP_UDP_BATCH, sum = 0;

	for (int round = 0; round < ROUNDS_MAX && received == TP_UDP_BATCH; round++) {
		uint64_t now_ns = tp_clock_now_ns();

		received = tp_udp_receive(options->rx, fd, &packets);
		for (size_t i = 0; i < received; i++)
			take(arg, now_ns, &packets[i]);
		tp_udp_flush(options->tx);
		sum += received;
	}
	return sum;
}

static int start_each(const struct relays_options *options, struct relays_choice *out)
{
	out->ops = &relays_each;
	return out->ops->start(options, &out->relays, out->reason);
}

static int start_shared(const struct relays_options *options, struct relays_choice *out)
{
	if (!shared) {
		snprintf(out->reason, sizeof(out->reason), "this build has no BPF");
		return -ENOSYS;
	}
	out->ops = shared;
	return shared->start(options, &out->relays, out->reason);
}

/* Nothing holds the ports of shared sockets: of the kernel's own choice somebody else's sockets
 * could get one that is granted already, and would not get a packet. */
static bool is_exposed(const struct relays_options *options, char why[TP_REASON_SIZE])
{
	struct ephemeral_ports ports;

	if (!ephemeral_here(options->turn->port_min, options->turn->port_max, &ports))
		return false;
	snprintf(why, TP_REASON_SIZE,
		"net.ipv4.ip_local_port_range gives ports %u to %u to anybody's sockets; "
		"net.ipv4.ip_local_reserved_ports would keep them for relayed addresses",
		ports.first, ports.last);
	return true;
}

static int start_best(const struct relays_options *options, struct relays_choice *out)
{
	char refused[TP_REASON_SIZE];
	int err;

	if (!is_exposed(options, refused)) {
		err = start_shared(options, out);
		if (!err) {
			snprintf(out->reason, sizeof(out->reason),
				"BPF is allowed, and the kernel gives no relay port to others");
			return 0;
		}
		snprintf(refused, sizeof(refused), "%s", out->reason);
	}
	err = start_each(options, out);
	if (!err)
		snprintf(out->reason, sizeof(out->reason), "%s", refused);
	return err;
}

static int start_asked(const struct relays_options *options, enum config_relay_sockets wanted,
	struct relays_choice *out)
{
	char why[TP_REASON_SIZE];
	int err = wanted == CONFIG_RELAY_SOCKETS_SHARED ? start_shared(options, out)
							: start_each(options, out);

	if (err)
		return err;
	snprintf(out->reason, sizeof(out->reason), "as configured");
	if (wanted == CONFIG_RELAY_SOCKETS_SHARED && is_exposed(options, why))
		tp_warning("relay.sockets is shared, but %s", why);
	return 0;
}

int relays_start(const struct relays_options *options, enum config_relay_sockets wanted,
	struct relays_choice *out)
{
	*out = (struct relays_choice){0};
	if (wanted == CONFIG_RELAY_SOCKETS_AUTO)
		return start_best(options, out);
	return start_asked(options, wanted, out);
}
