/* Batched datagrams over loopback: marks, sizes, order, ICMP errors. */
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
		cmocka_unit_test(test_closed_port_is_reported),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
