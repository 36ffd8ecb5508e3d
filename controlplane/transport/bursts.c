/* A socket is opened for the fourth datagram in a row, and taken from who is silent longest. */
#include "bursts.h"

#include "dataplane/engine/socket/udp.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define SOCKETS_MAX 64
#define ROW_MIN     4
/* Datagrams of everybody's that a relay must not have sent any of, to lose its socket. */
#define SILENCE 10000
/* After a socket could not be had. */
#define PAUSE 1000

struct burst {
	struct alloc_relay *relay; /* NULL: a free place */
	uint64_t used;             /* in datagrams of everybody */
	int fd;
};

struct bursts {
	struct tp_udp_tx *tx;
	uint64_t sent;  /* datagrams of everybody */
	uint64_t again; /* when a socket may be opened, by that count */
	/* The datagrams that came last, as far as they are alike. */
	const struct alloc_relay *relay;
	struct tp_addr peer;
	size_t data_len;
	unsigned row;
	struct burst bursts[SOCKETS_MAX];
};

int bursts_new(struct tp_udp_tx *tx, struct bursts **out)
{
	struct bursts *bursts = calloc(1, sizeof(*bursts));

	if (!bursts)
		return -ENOMEM;
	bursts->tx = tx;
	*out = bursts;
	return 0;
}

void bursts_free(struct bursts *bursts)
{
	free(bursts);
}

static bool is_in_a_row(struct bursts *bursts, const struct alloc_relay *from,
	const struct tp_addr *peer, size_t data_len)
{
	if (bursts->relay != from || bursts->data_len != data_len ||
		!tp_addr_equal(&bursts->peer, peer)) {
		bursts->relay = from;
		bursts->peer = *peer;
		bursts->data_len = data_len;
		bursts->row = 0;
	}
	return ++bursts->row >= ROW_MIN;
}

static void release(struct burst *burst)
{
	close(burst->fd);
	burst->relay->socket = NULL;
	burst->relay = NULL;
}

/* NULL: all of them are in use. */
static struct burst *make_place(struct bursts *bursts)
{
	struct burst *oldest = NULL;

	for (size_t i = 0; i < SOCKETS_MAX; i++) {
		struct burst *burst = &bursts->bursts[i];

		if (!burst->relay)
			return burst;
		if (!oldest || burst->used < oldest->used)
			oldest = burst;
	}
	if (bursts->sent - oldest->used < SILENCE)
		return NULL;
	tp_udp_flush(bursts->tx);
	release(oldest);
	return oldest;
}

static struct burst *open_burst(struct bursts *bursts, struct alloc_relay *from)
{
	struct burst *burst = make_place(bursts);

	if (!burst || tp_udp_open(&from->address, TP_UDP_SENDING, &burst->fd) < 0) {
		bursts->again = bursts->sent + PAUSE;
		return NULL;
	}
	burst->relay = from;
	from->socket = burst;
	return burst;
}

int bursts_socket(struct bursts *bursts, struct alloc_relay *from, const struct tp_addr *peer,
	size_t data_len)
{
	struct burst *burst = from->socket;

	bursts->sent++;
	if (!burst && is_in_a_row(bursts, from, peer, data_len) && bursts->sent >= bursts->again)
		burst = open_burst(bursts, from);
	if (!burst)
		return -1;
	burst->used = bursts->sent;
	return burst->fd;
}

void bursts_close(struct bursts *bursts, struct alloc_relay *relay)
{
	if (relay->socket)
		release(relay->socket);
	if (bursts->relay == relay)
		bursts->relay = NULL;
}
