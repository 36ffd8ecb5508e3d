/*
 * A few sockets for all relayed addresses: a program steers packets to ports that are ours into
 * them (steer.h), raw sockets send from there (sender.h), and raw ICMP sockets bring errors, whose
 * quotes tell whose they are (icmp.h). An allocation is a bit and a pointer; no descriptor.
 */
#include "relays.h"

#include "base/clock.h"
#include "bound.h"
#include "bpf/relays.h"
#include "bursts.h"
#include "dataplane/engine/xdp/attach.h"
#include "icmp.h"
#include "sender.h"
#include "steer.h"

#include <errno.h>
#include <event2/event.h>
#include <linux/icmp.h>
#include <linux/sock_diag.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct shard {
	struct relays *relays;
	struct event *event;
	size_t address; /* all its ports are of this one */
	int fd;
};

/* Errors are hints: of what does not fit the receive buffer nothing is missed. */
struct errors {
	struct relays *relays;
	struct event *event;
	int fd;
	bool ipv6;
};

struct relays {
	struct relays_options options;
	struct turn_server *server;
	struct steer *steer;
	struct sender sender;
	struct shard *shards; /* RELAYS_SOCKET() */
	size_t shards_count;
	struct errors errors[2];
	struct alloc_relay **owners; /* by address and port */
	struct bound *bound;         /* whose sockets are in the way */
	struct bursts *bursts;
};

static size_t ports_count(const struct relays *relays)
{
	return (size_t)(relays->options.turn->port_max - relays->options.turn->port_min) + 1;
}

/* Whose a port is; NULL: no port of ours. */
static struct alloc_relay **owner_of(const struct relays *relays, size_t address, uint16_t port)
{
	const struct turn_settings *turn = relays->options.turn;

	if (port < turn->port_min || port > turn->port_max)
		return NULL;
	return &relays->owners[address * ports_count(relays) + (port - turn->port_min)];
}

static void take_packet(void *arg, uint64_t now_ns, const struct tp_udp_packet *received)
{
	const struct shard *shard = arg;
	struct alloc_relay *const *owner =
		owner_of(shard->relays, shard->address, received->local.port);
	struct turn_packet packet = {received->bytes, received->len, received->ttl, received->tos};

	if (owner && *owner)
		turn_server_from_peer(
			shard->relays->server, now_ns, *owner, &received->remote, &packet);
}

static void on_packets(evutil_socket_t fd, short what, void *arg)
{
	const struct shard *shard = arg;

	relays_read(&shard->relays->options, fd, take_packet, arg);
}

static struct alloc_relay *find_relay(const struct relays *relays, const struct tp_addr *address)
{
	const struct turn_settings *turn = relays->options.turn;

	for (size_t i = 0; i < turn->relays_count; i++) {
		if (tp_addr_equal_ip(&turn->relays[i].address, address)) {
			struct alloc_relay *const *owner = owner_of(relays, i, address->port);

			return owner ? *owner : NULL;
		}
	}
	return NULL;
}

static void take_error(const struct relays *relays, uint64_t now_ns, const struct icmp_error *error)
{
	const struct turn_icmp icmp = {error->type, error->code, error->data};
	struct alloc_relay *relay = find_relay(relays, &error->source);

	if (relay)
		turn_server_icmp(relays->server, now_ns, relay, &error->destination, &icmp);
}

static void on_errors(evutil_socket_t fd, short what, void *arg)
{
	const struct errors *errors = arg;
	const struct relays *relays = errors->relays;
	const struct tp_udp_packet *messages;
	size_t received = tp_udp_receive(relays->options.rx, fd, &messages);
	uint64_t now_ns = tp_clock_now_ns();

	for (size_t i = 0; i < received; i++) {
		struct icmp_error error;

		if (errors->ipv6 ? icmp_parse_v6(messages[i].bytes, messages[i].len, &error)
				 : icmp_parse_v4(messages[i].bytes, messages[i].len, &error))
			take_error(relays, now_ns, &error);
	}
	tp_udp_flush(relays->options.tx);
}

/* The types that clients are told of; the steering program looks into them. */
static int filter_types(int fd, bool ipv6)
{
	struct icmp_filter v4 = {
		.data = ~(UINT32_C(1) << ICMP_DEST_UNREACH | UINT32_C(1) << ICMP_TIME_EXCEEDED)};
	struct icmp6_filter v6;

	if (!ipv6)
		return setsockopt(fd, SOL_RAW, ICMP_FILTER, &v4, sizeof(v4)) < 0 ? -errno : 0;
	ICMP6_FILTER_SETBLOCKALL(&v6);
	ICMP6_FILTER_SETPASS(ICMP6_DST_UNREACH, &v6);
	ICMP6_FILTER_SETPASS(ICMP6_PACKET_TOO_BIG, &v6);
	ICMP6_FILTER_SETPASS(ICMP6_TIME_EXCEEDED, &v6);
	return setsockopt(fd, IPPROTO_ICMPV6, ICMP6_FILTER, &v6, sizeof(v6)) < 0 ? -errno : 0;
}

static int open_errors(struct relays *relays, bool ipv6)
{
	struct errors *errors = &relays->errors[ipv6];
	int err;

	errors->fd = socket(ipv6 ? AF_INET6 : AF_INET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC,
		ipv6 ? (int)IPPROTO_ICMPV6 : (int)IPPROTO_ICMP);
	if (errors->fd < 0)
		return -errno;
	err = filter_types(errors->fd, ipv6);
	return err ? err : steer_filter(relays->steer, errors->fd, ipv6);
}

static bool has_family(const struct relays *relays, enum tp_family family)
{
	const struct turn_settings *turn = relays->options.turn;

	for (size_t i = 0; i < turn->relays_count; i++)
		if (turn->relays[i].address.family == family)
			return true;
	return false;
}

static int open_raw(struct relays *relays, char reason[TP_REASON_SIZE])
{
	bool ipv4 = has_family(relays, TP_IPV4), ipv6 = has_family(relays, TP_IPV6);
	int err = sender_open(&relays->sender, ipv4, ipv6);

	if (!err && ipv4)
		err = open_errors(relays, false);
	if (!err && ipv6)
		err = open_errors(relays, true);
	if (err == -EPERM)
		return xdp_refuse(reason, err, "raw sockets need root, or CAP_NET_RAW");
	return err ? xdp_refuse(reason, err, "raw sockets: %s", strerror(-err)) : 0;
}

static int open_shards(struct relays *relays, char reason[TP_REASON_SIZE])
{
	int err = 0;

	for (size_t i = 0; !err && i < relays->shards_count; i++) {
		struct shard *shard = &relays->shards[i];

		shard->address = i / RELAYS_SHARDS;
		err = tp_udp_open(&relays->options.turn->relays[shard->address].address,
			TP_UDP_STEERED, &shard->fd);
		if (!err)
			err = steer_to(relays->steer, shard->address, i % RELAYS_SHARDS, shard->fd);
	}
	/* They are bound to ports of the kernel's choice, which are not relay ports for that. */
	if (err == -EADDRINUSE)
		return xdp_refuse(reason, err,
			"the kernel has no port for the %zu sockets that packets are steered to: leave so "
			"many of net.ipv4.ip_local_port_range out of net.ipv4.ip_local_reserved_ports",
			relays->shards_count);
	return err ? xdp_refuse(reason, err, "sockets to steer to: %s", strerror(-err)) : 0;
}

static int open_all(struct relays *relays, char reason[TP_REASON_SIZE])
{
	int err = steer_open(relays->options.turn, &relays->steer, reason);

	if (!err)
		err = open_raw(relays, reason);
	if (!err)
		err = open_shards(relays, reason);
	return err ? err : steer_attach(relays->steer, reason);
}

static void stop(struct relays *relays)
{
	steer_close(relays->steer);
	sender_close(&relays->sender);
	for (size_t i = 0; i < relays->shards_count; i++) {
		if (relays->shards[i].event)
			event_free(relays->shards[i].event);
		if (relays->shards[i].fd >= 0)
			close(relays->shards[i].fd);
	}
	for (int i = 0; i < 2; i++) {
		if (relays->errors[i].event)
			event_free(relays->errors[i].event);
		if (relays->errors[i].fd >= 0)
			close(relays->errors[i].fd);
	}
	bound_free(relays->bound);
	bursts_free(relays->bursts);
	free(relays->shards);
	free(relays->owners);
	free(relays);
}

static int make_room(struct relays *relays)
{
	size_t addresses = relays->options.turn->relays_count;
	int err;

	relays->sender = (struct sender){{{-1, -1}, {-1, -1}}};
	for (int i = 0; i < 2; i++)
		relays->errors[i] = (struct errors){.relays = relays, .fd = -1, .ipv6 = i};
	relays->owners = calloc(addresses * ports_count(relays), sizeof(struct alloc_relay *));
	relays->shards = calloc(addresses * RELAYS_SHARDS, sizeof(*relays->shards));
	if (!relays->owners || !relays->shards)
		return -ENOMEM;
	relays->shards_count = addresses * RELAYS_SHARDS;
	for (size_t i = 0; i < relays->shards_count; i++)
		relays->shards[i] = (struct shard){.relays = relays, .fd = -1};
	err = bound_new(relays->options.turn, &relays->bound);
	return err ? err : bursts_new(relays->options.tx, &relays->bursts);
}

static int start(
	const struct relays_options *options, struct relays **out, char reason[TP_REASON_SIZE])
{
	struct relays *relays = calloc(1, sizeof(*relays));
	int err;

	if (!relays)
		return xdp_refuse(reason, -ENOMEM, "out of memory");
	relays->options = *options;
	err = make_room(relays);
	if (err)
		xdp_refuse(reason, err, "out of memory");
	else
		err = open_all(relays, reason);
	if (err)
		stop(relays);
	else
		*out = relays;
	return err;
}

static int watch(
	struct relays *relays, int fd, event_callback_fn call, void *arg, struct event **event)
{
	*event = event_new(relays->options.base, fd, EV_READ | EV_PERSIST, call, arg);
	return *event && event_add(*event, NULL) == 0 ? 0 : -ENOMEM;
}

static int serve(struct relays *relays, struct turn_server *server)
{
	int err = 0;

	relays->server = server;
	for (size_t i = 0; !err && i < relays->shards_count; i++) {
		struct shard *shard = &relays->shards[i];

		err = watch(relays, shard->fd, on_packets, shard, &shard->event);
	}
	for (int i = 0; !err && i < 2; i++) {
		struct errors *errors = &relays->errors[i];

		if (errors->fd >= 0)
			err = watch(relays, errors->fd, on_errors, errors, &errors->event);
	}
	return err;
}

static int open_relay(struct relays *relays, struct alloc_relay *relay)
{
	struct alloc_relay **owner = owner_of(relays, relay->pool, relay->address.port);
	/* Nothing holds our ports against others: what somebody has bound stays theirs. */
	int err = owner ? bound_check(relays->bound, relay->pool, relay->address.port,
				  tp_clock_now_ns())
			: -EINVAL;

	if (err)
		return err;
	*owner = relay;
	steer_own(relays->steer, relay->pool, relay->address.port, true);
	return 0;
}

static void close_relay(struct relays *relays, struct alloc_relay *relay)
{
	bursts_close(relays->bursts, relay);
	steer_own(relays->steer, relay->pool, relay->address.port, false);
	*owner_of(relays, relay->pool, relay->address.port) = NULL;
}

static void send_from(struct relays *relays, struct alloc_relay *from, const struct tp_addr *peer,
	const void *data, size_t data_len, struct tp_udp_marks marks)
{
	struct tp_udp_tx *tx = relays->options.tx;
	int fd = marks.dont_fragment ? -1 : bursts_socket(relays->bursts, from, peer, data_len);

	if (fd >= 0)
		tp_udp_queue(tx, fd, peer, NULL, 0, data, data_len, marks);
	else
		sender_queue(&relays->sender, tx, &from->address, peer, data, data_len, marks);
}

static uint64_t overflowed(const struct relays *relays)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < relays->shards_count; i++) {
		uint32_t memory[SK_MEMINFO_VARS] = {0};
		socklen_t size = sizeof(memory);

		if (getsockopt(relays->shards[i].fd, SOL_SOCKET, SO_MEMINFO, memory, &size) == 0)
			sum += memory[SK_MEMINFO_DROPS];
	}
	return sum;
}

const struct relays_ops relays_shared = {
	.kind = "shared",
	.start = start,
	.serve = serve,
	.open = open_relay,
	.close = close_relay,
	.send = send_from,
	.overflowed = overflowed,
	.stop = stop,
};
