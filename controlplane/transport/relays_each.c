/*
 * One socket per relayed address, bound to it: asks nothing of the kernel but descriptors. ICMP
 * errors come by the sockets' error queues.
 */
#include "relays.h"

#include "base/clock.h"

#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

/* Descriptors that relays leave to the control socket and the service manager (threat R14). */
#define KEPT_FDS 64

struct relays {
	struct relays_options options;
	struct turn_server *server;
	int fds_end; /* the first number that is no relay's */
};

struct relay_socket {
	struct relays *relays;
	struct alloc_relay *relay;
	struct event *event;
	int fd;
};

static void read_errors(const struct relay_socket *socket)
{
	struct tp_udp_error error;

	for (int i = 0; i < TP_UDP_BATCH && tp_udp_next_error(socket->fd, &error); i++) {
		struct turn_icmp icmp = {error.type, error.code, error.data};

		if (error.destination.family != TP_NO_FAMILY)
			turn_server_icmp(socket->relays->server, tp_clock_now_ns(), socket->relay,
				&error.destination, &icmp);
	}
}

static void take_packet(void *arg, uint64_t now_ns, const struct tp_udp_packet *received)
{
	const struct relay_socket *socket = arg;
	struct turn_packet packet = {received->bytes, received->len, received->ttl, received->tos};

	turn_server_from_peer(
		socket->relays->server, now_ns, socket->relay, &received->remote, &packet);
}

static void on_relay(evutil_socket_t fd, short what, void *arg)
{
	const struct relay_socket *socket = arg;
	const struct relays_options *options = &socket->relays->options;

	if (relays_read(options, fd, take_packet, arg) > 0)
		return;
	/* Nothing to read, yet woken: only the error queue can be the reason. */
	read_errors(socket);
	tp_udp_flush(options->tx);
}

static void close_socket(struct relay_socket *socket)
{
	if (socket->event)
		event_free(socket->event);
	if (socket->fd >= 0)
		close(socket->fd);
	free(socket);
}

static int open_relay(struct relays *relays, struct alloc_relay *relay)
{
	struct relay_socket *socket = calloc(1, sizeof(*socket));
	int err;

	if (!socket)
		return -ENOMEM;
	*socket = (struct relay_socket){.relays = relays, .relay = relay, .fd = -1};
	err = tp_udp_open(&relay->address, TP_UDP_RELAY, &socket->fd);
	/* The lowest free number is taken first: a high one says that few are left. */
	if (!err && socket->fd >= relays->fds_end)
		err = -EMFILE;
	if (!err) {
		socket->event = event_new(
			relays->options.base, socket->fd, EV_READ | EV_PERSIST, on_relay, socket);
		err = socket->event && event_add(socket->event, NULL) == 0 ? 0 : -ENOMEM;
	}
	if (err < 0)
		close_socket(socket);
	else
		relay->socket = socket;
	return err;
}

static void close_relay(struct relays *relays, struct alloc_relay *relay)
{
	(void)relays;
	close_socket(relay->socket);
	relay->socket = NULL;
}

static void send_from(struct relays *relays, struct alloc_relay *from, const struct tp_addr *peer,
	const void *data, size_t data_len, struct tp_udp_marks marks)
{
	const struct relay_socket *socket = from->socket;

	tp_udp_queue(relays->options.tx, socket->fd, peer, NULL, 0, data, data_len, marks);
}

static int relay_fds_end(void)
{
	struct rlimit files;
	int end;

	if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur > INT_MAX)
		return INT_MAX;
	end = (int)files.rlim_cur;
	return end - (end / 4 < KEPT_FDS ? end / 4 : KEPT_FDS);
}

static int start(
	const struct relays_options *options, struct relays **out, char reason[TP_REASON_SIZE])
{
	struct relays *relays = calloc(1, sizeof(*relays));

	(void)reason;
	if (!relays)
		return -ENOMEM;
	*relays = (struct relays){.options = *options, .fds_end = relay_fds_end()};
	*out = relays;
	return 0;
}

static int serve(struct relays *relays, struct turn_server *server)
{
	relays->server = server;
	return 0;
}

static void stop(struct relays *relays)
{
	free(relays);
}

const struct relays_ops relays_each = {
	.kind = "per_allocation",
	.start = start,
	.serve = serve,
	.open = open_relay,
	.close = close_relay,
	.send = send_from,
	.stop = stop,
};
