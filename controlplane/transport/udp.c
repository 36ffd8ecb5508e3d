/* Sockets under the TURN server: one listener socket per address, and those of the relays. */
#include "udp.h"

#include "relays.h"

#include "base/clock.h"
#include "base/log.h"
#include "dataplane/engine/socket/transmit.h"
#include "dataplane/engine/socket/udp.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define LISTENERS_MAX 64
/* Batches read from one socket before the others get their turn (threat R17). */
#define ROUNDS_MAX 4

struct listener {
	struct udp_transport *transport;
	struct event *event;
	struct tp_addr address;
	int fd;
};

struct udp_transport {
	struct event_base *base;
	struct flows *flows;
	struct turn_server *server;
	struct event *timer;
	uint64_t timer_ns; /* what it is armed for; UINT64_MAX: not */
	struct tp_udp_rx *rx;
	struct tp_udp_tx *tx;
	struct listener listeners[LISTENERS_MAX];
	size_t listeners_count;
	struct relays_choice relays;
	struct alloc_traffic traffic[TP_DIRECTIONS];
	uint64_t policed;
	struct tp_log_limit log_limit;
};

static const struct listener *find_listener(
	const struct udp_transport *transport, const struct tp_addr *address)
{
	for (size_t i = 0; i < transport->listeners_count; i++) {
		if (tp_addr_equal(&transport->listeners[i].address, address))
			return &transport->listeners[i];
	}
	return NULL;
}

static void count(struct udp_transport *transport, enum tp_direction direction, size_t len)
{
	transport->traffic[direction].packets++;
	transport->traffic[direction].bytes += len;
}

static struct tp_udp_marks udp_marks(struct turn_marks marks)
{
	return (struct tp_udp_marks){marks.ttl, marks.tos, marks.dont_fragment};
}

/* Media towards the client: ChannelData, or a Data indication that carries some. */
static bool is_media(const uint8_t *head, size_t data_len)
{
	bool data_indication = head[0] == 0x00 && head[1] == (STUN_INDICATION | STUN_METHOD_DATA);

	return (head[0] & 0xc0) == 0x40 || (data_indication && data_len > 0);
}

static void send_client(void *context, const struct alloc_tuple *to, const void *head,
	size_t head_len, const void *data, size_t data_len, struct turn_marks marks)
{
	struct udp_transport *transport = context;
	const struct listener *listener = find_listener(transport, &to->server);

	if (!listener)
		return;
	if (head_len >= 4 && is_media(head, data_len))
		count(transport, TP_PEER_TO_CLIENT, data_len);
	tp_udp_queue(transport->tx, listener->fd, &to->client, head, head_len, data, data_len,
		udp_marks(marks));
}

static void send_peer(void *context, struct alloc_relay *from, const struct tp_addr *peer,
	const void *data, size_t data_len, struct turn_marks marks)
{
	struct udp_transport *transport = context;

	count(transport, TP_CLIENT_TO_PEER, data_len);
	transport->relays.ops->send(
		transport->relays.relays, from, peer, data, data_len, udp_marks(marks));
}

static int open_relay(void *context, struct alloc_relay *relay)
{
	struct udp_transport *transport = context;
	int err = transport->relays.ops->open(transport->relays.relays, relay);

	if (!err) {
		err = flows_open_relay(transport->flows, relay);
		if (err < 0)
			transport->relays.ops->close(transport->relays.relays, relay);
	}
	if (err < 0 && err != -EADDRINUSE && tp_log_allowed(&transport->log_limit))
		tp_warning("a relayed address could not be opened: %s", strerror(-err));
	return err;
}

static void extend_relay(void *context, struct alloc_relay *relay)
{
	flows_extend_relay(((struct udp_transport *)context)->flows, relay);
}

static void close_relay(void *context, struct alloc_relay *relay)
{
	struct udp_transport *transport = context;

	flows_close_relay(transport->flows, relay);
	/* What was queued before the end of the relay still leaves by its socket. */
	tp_udp_flush(transport->tx);
	transport->relays.ops->close(transport->relays.relays, relay);
}

static void grant_permission(void *context, struct alloc_permission *permission)
{
	flows_grant_permission(((struct udp_transport *)context)->flows, permission);
}

static void revoke_permission(void *context, struct alloc_permission *permission)
{
	flows_revoke_permission(((struct udp_transport *)context)->flows, permission);
}

static void grant_channel(void *context, struct alloc_channel *channel)
{
	flows_grant_channel(((struct udp_transport *)context)->flows, channel);
}

static void revoke_channel(void *context, struct alloc_channel *channel)
{
	flows_revoke_channel(((struct udp_transport *)context)->flows, channel);
}

_Static_assert((int)TURN_TO_PEER == TP_CLIENT_TO_PEER && (int)TURN_TO_CLIENT == TP_PEER_TO_CLIENT,
	"the same directions");

static bool police(void *context, const struct allocation *allocation,
	enum turn_direction direction, uint64_t now_ns, size_t len)
{
	struct udp_transport *transport = context;
	bool allowed = flows_police(
		transport->flows, allocation, (enum tp_direction)direction, now_ns, (uint32_t)len);

	transport->policed += !allowed;
	return allowed;
}

struct turn_effects udp_transport_effects(struct udp_transport *transport)
{
	return (struct turn_effects){
		.context = transport,
		.send_client = send_client,
		.send_peer = send_peer,
		.open_relay = open_relay,
		.extend_relay = extend_relay,
		.close_relay = close_relay,
		.grant_permission = grant_permission,
		.revoke_permission = revoke_permission,
		.grant_channel = grant_channel,
		.revoke_channel = revoke_channel,
		.police = police,
	};
}

static void arm_timer(struct udp_transport *transport)
{
	uint64_t next_ns = turn_server_next(transport->server);
	uint64_t now_ns, wait_ns;
	struct timeval tv;

	/* Asked after every batch; hardly ever is there anything new. */
	if (next_ns == UINT64_MAX || next_ns == transport->timer_ns)
		return;
	transport->timer_ns = next_ns;
	now_ns = tp_clock_now_ns();
	wait_ns = next_ns > now_ns ? next_ns - now_ns : 0;
	tv.tv_sec = (time_t)(wait_ns / TP_NS_PER_S);
	tv.tv_usec = (suseconds_t)(wait_ns % TP_NS_PER_S / 1000);
	event_add(transport->timer, &tv);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct udp_transport *transport = arg;

	transport->timer_ns = UINT64_MAX;
	turn_server_advance(transport->server, tp_clock_now_ns());
	udp_transport_settle(transport);
}

void udp_transport_settle(struct udp_transport *transport)
{
	tp_udp_flush(transport->tx);
	arm_timer(transport);
}

static void on_listener(evutil_socket_t fd, short what, void *arg)
{
	struct listener *listener = arg;
	struct udp_transport *transport = listener->transport;
	struct alloc_tuple tuple = {.server = listener->address, .transport = ALLOC_UDP};
	const struct tp_udp_packet *packets;
	size_t received = TP_UDP_BATCH;

	for (int round = 0; round < ROUNDS_MAX && received == TP_UDP_BATCH; round++) {
		struct auth_now now = {tp_clock_now_ns(), tp_clock_unix_s()};

		received = tp_udp_receive(transport->rx, fd, &packets);
		for (size_t i = 0; i < received; i++) {
			struct turn_packet packet = {
				packets[i].bytes, packets[i].len, packets[i].ttl, packets[i].tos};

			tuple.client = packets[i].remote;
			turn_server_from_client(transport->server, &now, &tuple, &packet);
		}
		tp_udp_flush(transport->tx);
	}
	arm_timer(transport);
}

int udp_transport_new(struct event_base *base, struct flows *flows, struct udp_transport **out)
{
	struct udp_transport *transport = calloc(1, sizeof(*transport));
	int err;

	if (!transport)
		return -ENOMEM;
	transport->base = base;
	transport->flows = flows;
	transport->timer_ns = UINT64_MAX;
	transport->timer = evtimer_new(base, on_timer, transport);
	err = transport->timer ? tp_udp_rx_new(&transport->rx) : -ENOMEM;
	if (!err)
		err = tp_udp_tx_new(&transport->tx);
	if (err < 0) {
		udp_transport_free(transport);
		return err;
	}
	*out = transport;
	return 0;
}

void udp_transport_free(struct udp_transport *transport)
{
	if (!transport)
		return;
	for (size_t i = 0; i < transport->listeners_count; i++) {
		if (transport->listeners[i].event)
			event_free(transport->listeners[i].event);
		close(transport->listeners[i].fd);
	}
	if (transport->timer)
		event_free(transport->timer);
	if (transport->relays.relays)
		transport->relays.ops->stop(transport->relays.relays);
	tp_udp_rx_free(transport->rx);
	tp_udp_tx_free(transport->tx);
	free(transport);
}

int udp_transport_open_relays(struct udp_transport *transport, const struct turn_settings *turn,
	enum config_relay_sockets wanted)
{
	const struct relays_options options = {
		.base = transport->base,
		.rx = transport->rx,
		.tx = transport->tx,
		.turn = turn,
	};

	return relays_start(&options, wanted, &transport->relays);
}

int udp_transport_listen(struct udp_transport *transport, const struct tp_addr *address)
{
	struct listener *listener = &transport->listeners[transport->listeners_count];
	int err;

	if (transport->listeners_count == LISTENERS_MAX)
		return -ENOSPC;
	err = tp_udp_open(address, TP_UDP_LISTENER, &listener->fd);
	if (err < 0)
		return err;
	err = flows_own_listener(transport->flows, address);
	if (err < 0) {
		close(listener->fd);
		return err;
	}
	listener->transport = transport;
	listener->address = *address;
	transport->listeners_count++;
	return 0;
}

int udp_transport_serve(struct udp_transport *transport, struct turn_server *server)
{
	int err = transport->relays.ops->serve(transport->relays.relays, server);

	if (err < 0)
		return err;
	transport->server = server;
	for (size_t i = 0; i < transport->listeners_count; i++) {
		struct listener *listener = &transport->listeners[i];

		listener->event = event_new(
			transport->base, listener->fd, EV_READ | EV_PERSIST, on_listener, listener);
		if (!listener->event || event_add(listener->event, NULL) < 0)
			return -ENOMEM;
	}
	arm_timer(transport);
	return 0;
}

struct alloc_traffic udp_transport_traffic(
	const struct udp_transport *transport, enum tp_direction direction)
{
	return transport->traffic[direction];
}

uint64_t udp_transport_policed(const struct udp_transport *transport)
{
	return transport->policed;
}

bool udp_transport_overflowed(const struct udp_transport *transport, uint64_t *out)
{
	if (!transport->relays.ops->overflowed)
		return false;
	*out = transport->relays.ops->overflowed(transport->relays.relays);
	return true;
}

uint64_t udp_transport_joined(const struct udp_transport *transport)
{
	return tp_udp_tx_counters(transport->tx).joined;
}

uint64_t udp_transport_failed(const struct udp_transport *transport)
{
	return tp_udp_tx_counters(transport->tx).failed;
}

const char *udp_transport_relays_kind(const struct udp_transport *transport)
{
	return transport->relays.ops->kind;
}

const char *udp_transport_relays_reason(const struct udp_transport *transport)
{
	return transport->relays.reason;
}
