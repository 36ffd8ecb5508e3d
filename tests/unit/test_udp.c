/* Batched datagrams over loopback: marks, sizes, order, ICMP errors. */
#include "dataplane/engine/socket/transmit.h"
#include "dataplane/engine/socket/udp.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

static const char *const hosts[] = {"127.0.0.1", "::1"};

/* A socket on a free port of the host; its address with that port. */
static int open_any(const char *host, enum tp_udp_role role, struct tp_addr *address)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	int fd;

	assert_int_equal(tp_addr_parse_ip(host, address), 0);
	assert_int_equal(tp_udp_open(address, role, &fd), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
	assert_int_equal(tp_addr_from_sockaddr((struct sockaddr *)&sa, address), 0);
	return fd;
}

static size_t receive(struct tp_udp_rx *rx, int fd, const struct tp_udp_packet **packets)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	assert_int_equal(poll(&p, 1, 10000), 1);
	return tp_udp_receive(rx, fd, packets);
}

static void test_marks_cross(void **state)
{
	static const struct tp_udp_marks rows[] = {
		{64, 0, false}, {1, 0xb8, false}, {255, 0x03, true}, {47, 0x22, false}};
	const struct tp_udp_packet *packets;
	struct tp_udp_rx *rx;
	struct tp_udp_tx *tx;

	assert_int_equal(tp_udp_rx_new(&rx), 0);
	assert_int_equal(tp_udp_tx_new(&tx), 0);
	for (size_t h = 0; h < 2; h++) {
		struct tp_addr from, to;
		int sender = open_any(hosts[h], TP_UDP_RELAY, &from);
		int receiver = open_any(hosts[h], TP_UDP_LISTENER, &to);

		for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
			tp_udp_queue(tx, sender, &to, "he", 2, "llo", 3, rows[i]);
			tp_udp_flush(tx);
			assert_int_equal(receive(rx, receiver, &packets), 1);
			assert_int_equal(packets[0].len, 5);
			assert_memory_equal(packets[0].bytes, "hello", 5);
			assert_int_equal(packets[0].ttl, rows[i].ttl);
			assert_int_equal(packets[0].tos, rows[i].tos);
			assert_true(tp_addr_equal(&packets[0].remote, &from));
		}
		close(sender);
		close(receiver);
	}
	tp_udp_tx_free(tx);
	tp_udp_rx_free(rx);
}

/* More than a batch, two sockets in turn, sizes from nothing to 60,000 bytes: all, in order. */
static void test_batches_keep_order_and_sizes(void **state)
{
	enum { COUNT = 3 * TP_UDP_BATCH };
	static uint8_t data[60000];
	const struct tp_udp_packet *packets;
	struct tp_addr from[2], to;
	struct tp_udp_rx *rx;
	struct tp_udp_tx *tx;
	unsigned next = 0;
	int senders[2], receiver = open_any("127.0.0.1", TP_UDP_LISTENER, &to);

	assert_int_equal(tp_udp_rx_new(&rx), 0);
	assert_int_equal(tp_udp_tx_new(&tx), 0);
	for (int i = 0; i < 2; i++)
		senders[i] = open_any("127.0.0.1", TP_UDP_RELAY, &from[i]);
	for (unsigned i = 0; i < COUNT; i++) {
		size_t len = i % 10 == 9 ? sizeof(data) : i % 10;

		tp_udp_queue(tx, senders[i % 2], &to, NULL, 0, data, len,
			(struct tp_udp_marks){.ttl = 64});
	}
	tp_udp_flush(tx);
	assert_int_equal(tp_udp_tx_counters(tx).sent, COUNT);
	while (next < COUNT) {
		size_t received = receive(rx, receiver, &packets);

		for (size_t i = 0; i < received; i++, next++) {
			assert_int_equal(packets[i].len, next % 10 == 9 ? sizeof(data) : next % 10);
			assert_true(tp_addr_equal(&packets[i].remote, &from[next % 2]));
		}
	}
	for (int i = 0; i < 2; i++)
		close(senders[i]);
	close(receiver);
	tp_udp_tx_free(tx);
	tp_udp_rx_free(rx);
}

/* What is queued, and how many of it leave behind another one in its message. */
struct queued {
	uint16_t len;
	uint8_t tos, sender, receiver;
};

static const struct {
	const char *what;
	struct queued queued[8];
	size_t count;
	unsigned joined;
} rows[] = {
	{"one", {{100, 0, 0, 0}}, 1, 0},
	{"of one size", {{100, 0, 0, 0}, {100, 0, 0, 0}, {100, 0, 0, 0}}, 3, 2},
	{"a shorter one ends a run", {{100, 0, 0, 0}, {100, 0, 0, 0}, {9, 0, 0, 0}, {9, 0, 0, 0}},
		4, 2},
	{"a longer one begins another", {{9, 0, 0, 0}, {10, 0, 0, 0}, {10, 0, 0, 0}}, 3, 1},
	{"empty ones", {{0, 0, 0, 0}, {0, 0, 0, 0}, {9, 0, 0, 0}, {0, 0, 0, 0}}, 4, 0},
	{"of one byte", {{1, 0, 0, 0}, {1, 0, 0, 0}}, 2, 1},
	{"of two marks", {{9, 0, 0, 0}, {9, 0xb8, 0, 0}, {9, 0xb8, 0, 0}, {9, 0, 0, 0}}, 4, 1},
	{"from two sockets", {{9, 0, 0, 0}, {9, 0, 1, 0}, {9, 0, 1, 0}, {9, 0, 0, 0}}, 4, 1},
	{"to two", {{9, 0, 0, 0}, {9, 0, 0, 1}, {9, 0, 0, 1}, {9, 0, 0, 0}}, 4, 1},
	{"as large as links are", {{1472, 0, 0, 0}, {1472, 0, 0, 0}}, 2, 1},
	{"larger than links are", {{1473, 0, 0, 0}, {1473, 0, 0, 0}}, 2, 0},
};

struct ends {
	int senders[2], receivers[2];
	struct tp_addr from[2], to[2];
	struct tp_udp_tx *tx;
	struct tp_udp_rx *rx[2]; /* of each receiver, and what came last */
	const struct tp_udp_packet *packets[2];
	size_t received[2], taken[2];
};

static void open_ends(struct ends *e, const char *host)
{
	*e = (struct ends){.tx = NULL};
	assert_int_equal(tp_udp_tx_new(&e->tx), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(tp_udp_rx_new(&e->rx[i]), 0);
		e->senders[i] = open_any(host, TP_UDP_RELAY, &e->from[i]);
		e->receivers[i] = open_any(host, TP_UDP_LISTENER, &e->to[i]);
	}
}

static void close_ends(struct ends *e)
{
	for (int i = 0; i < 2; i++) {
		close(e->senders[i]);
		close(e->receivers[i]);
		tp_udp_rx_free(e->rx[i]);
	}
	tp_udp_tx_free(e->tx);
}

/* A head and data that tell the datagram's number at any place; head_len at most 4. */
static void queue(struct ends *e, const struct queued *q, size_t number, size_t head_len)
{
	static uint8_t data[200][1500]; /* until the flush */
	uint8_t head[4];

	memset(data[number], (int)number + 1, q->len);
	memset(head, (int)number + 1, sizeof(head));
	head_len = head_len < q->len ? head_len : q->len;
	tp_udp_queue(e->tx, e->senders[q->sender], &e->to[q->receiver], head, head_len,
		data[number], q->len - head_len, (struct tp_udp_marks){64, q->tos, false});
}

static const struct tp_udp_packet *take(struct ends *e, int receiver)
{
	if (e->taken[receiver] == e->received[receiver]) {
		e->received[receiver] =
			receive(e->rx[receiver], e->receivers[receiver], &e->packets[receiver]);
		e->taken[receiver] = 0;
	}
	return &e->packets[receiver][e->taken[receiver]++];
}

/* The next one at its receiver is as it was queued. */
static void expect(struct ends *e, const struct queued *q, size_t number)
{
	const struct tp_udp_packet *packet = take(e, q->receiver);
	uint8_t byte = (uint8_t)(number + 1);

	assert_int_equal(packet->len, q->len);
	assert_int_equal(packet->tos, q->tos);
	assert_int_equal(packet->ttl, 64);
	assert_true(tp_addr_equal(&packet->remote, &e->from[q->sender]));
	for (size_t i = 0; i < q->len; i++)
		assert_int_equal(packet->bytes[i], byte);
}

static void test_runs_are_joined(void **state)
{
	for (size_t n = 0; n < 2 * sizeof(rows) / sizeof(rows[0]); n++) {
		size_t row = n / 2;
		struct ends e;

		open_ends(&e, hosts[n % 2]);
		print_message("%s\n", rows[row].what);
		for (size_t i = 0; i < rows[row].count; i++)
			queue(&e, &rows[row].queued[i], i, 4);
		tp_udp_flush(e.tx);
		assert_int_equal(tp_udp_tx_counters(e.tx).sent, rows[row].count);
		assert_int_equal(tp_udp_tx_counters(e.tx).joined, rows[row].joined);
		for (size_t i = 0; i < rows[row].count; i++)
			expect(&e, &rows[row].queued[i], i);
		close_ends(&e);
	}
}

/* What a message holds: 64 datagrams, and less than 64 KiB. */
static void test_long_runs(void **state)
{
	static const struct {
		struct queued one;
		unsigned count, joined;
	} long_rows[] = {{{10, 0, 0, 0}, 130, 130 - 3}, {{1400, 0, 0, 0}, 64, 64 - 2}};

	for (size_t row = 0; row < 2; row++) {
		struct ends e;

		open_ends(&e, hosts[row]);
		for (size_t i = 0; i < long_rows[row].count; i++)
			queue(&e, &long_rows[row].one, i, 4);
		tp_udp_flush(e.tx);
		assert_int_equal(tp_udp_tx_counters(e.tx).sent, long_rows[row].count);
		assert_int_equal(tp_udp_tx_counters(e.tx).joined, long_rows[row].joined);
		for (size_t i = 0; i < long_rows[row].count; i++)
			expect(&e, &long_rows[row].one, i);
		close_ends(&e);
	}
}

/* The kernel cuts up nothing for a socket without checksums: they go one by one, all of them. */
static void test_runs_that_are_refused(void **state)
{
	static const struct queued one = {100, 0, 0, 0};
	enum { COUNT = 200 };
	struct ends e;
	int on = 1;

	open_ends(&e, "127.0.0.1");
	assert_int_equal(setsockopt(e.senders[0], SOL_SOCKET, SO_NO_CHECK, &on, sizeof(on)), 0);
	for (size_t i = 0; i < COUNT; i++) {
		queue(&e, &one, i, 0);
		if (i % 8 == 7)
			tp_udp_flush(e.tx);
	}
	assert_int_equal(tp_udp_tx_counters(e.tx).sent, COUNT);
	assert_int_equal(tp_udp_tx_counters(e.tx).failed, 0);
	assert_int_equal(tp_udp_tx_counters(e.tx).joined, 0);
	for (size_t i = 0; i < COUNT; i++)
		expect(&e, &one, i);
	close_ends(&e);
}

/* How many of eight datagrams of that length leave behind another one. */
static unsigned joined_of_eight(struct ends *e, uint8_t sender, uint16_t len)
{
	const struct queued one = {len, 0, sender, 0};
	uint64_t before = tp_udp_tx_counters(e->tx).joined;

	for (size_t i = 0; i < 8; i++)
		queue(e, &one, i, 0);
	tp_udp_flush(e->tx);
	for (size_t i = 0; i < 8; i++)
		expect(e, &one, i);
	return (unsigned)(tp_udp_tx_counters(e->tx).joined - before);
}

/* A size that was refused is tried again after a thousand datagrams; smaller ones at once. */
static void test_refusal_is_remembered_for_a_while(void **state)
{
	struct ends e;
	int on = 1;

	open_ends(&e, "127.0.0.1");
	assert_int_equal(joined_of_eight(&e, 1, 100), 7);
	assert_int_equal(setsockopt(e.senders[0], SOL_SOCKET, SO_NO_CHECK, &on, sizeof(on)), 0);
	assert_int_equal(joined_of_eight(&e, 0, 100), 0);
	assert_int_equal(joined_of_eight(&e, 1, 100), 0);
	for (int i = 0; i < 1000 / 8; i++)
		assert_int_equal(joined_of_eight(&e, 1, 99), 7);
	assert_int_equal(joined_of_eight(&e, 1, 100), 7);
	close_ends(&e);
}

static void test_closed_port_is_reported(void **state)
{
	struct tp_udp_error error;
	struct tp_udp_tx *tx;

	assert_int_equal(tp_udp_tx_new(&tx), 0);
	for (size_t h = 0; h < 2; h++) {
		struct tp_addr from, to;
		int sender = open_any(hosts[h], TP_UDP_RELAY, &from);
		struct pollfd p = {.fd = sender};

		close(open_any(hosts[h], TP_UDP_LISTENER, &to));
		tp_udp_queue(tx, sender, &to, NULL, 0, "x", 1, (struct tp_udp_marks){0});
		tp_udp_flush(tx);
		assert_int_equal(poll(&p, 1, 10000), 1);
		assert_true(tp_udp_next_error(sender, &error));
		assert_true(tp_addr_equal(&error.destination, &to));
		assert_int_equal(error.type, h == 0 ? 3 : 1);
		assert_int_equal(error.code, h == 0 ? 3 : 4);
		assert_false(tp_udp_next_error(sender, &error));
		/* A pending error must not swallow the datagram that is sent next. */
		tp_udp_queue(tx, sender, &to, NULL, 0, "x", 1, (struct tp_udp_marks){0});
		tp_udp_flush(tx);
		tp_udp_queue(tx, sender, &to, NULL, 0, "x", 1, (struct tp_udp_marks){0});
		tp_udp_flush(tx);
		assert_int_equal(tp_udp_tx_counters(tx).failed, 0);
		close(sender);
	}
	tp_udp_tx_free(tx);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_marks_cross),
		cmocka_unit_test(test_batches_keep_order_and_sizes),
		cmocka_unit_test(test_runs_are_joined),
		cmocka_unit_test(test_long_runs),
		cmocka_unit_test(test_runs_that_are_refused),
		cmocka_unit_test(test_refusal_is_remembered_for_a_while),
		cmocka_unit_test(test_closed_port_is_reported),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
