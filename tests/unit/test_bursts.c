/* Which of the shared relayed addresses has a socket, and until when. */
#include "controlplane/transport/bursts.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

enum { SOCKETS = 64, ROW = 4, SILENCE = 10000, LEN = 172 };

struct world {
	struct tp_udp_tx *tx;
	struct bursts *bursts;
	struct tp_addr peer, other_peer;
	struct alloc_relay relays[SOCKETS + 1];
};

static int set_up(void **state)
{
	static struct world w;

	w = (struct world){.tx = NULL};
	assert_int_equal(tp_udp_tx_new(&w.tx), 0);
	assert_int_equal(bursts_new(w.tx, &w.bursts), 0);
	assert_int_equal(tp_addr_parse("127.0.0.1:9", &w.peer), 0);
	assert_int_equal(tp_addr_parse("127.0.0.1:10", &w.other_peer), 0);
	/* Port 0: whichever is free. */
	for (size_t i = 0; i < SOCKETS + 1; i++)
		assert_int_equal(tp_addr_parse_ip("127.0.0.1", &w.relays[i].address), 0);
	*state = &w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;

	for (size_t i = 0; i < SOCKETS + 1; i++)
		bursts_close(w->bursts, &w->relays[i]);
	bursts_free(w->bursts);
	tp_udp_tx_free(w->tx);
	return 0;
}

/* What the last one of so many in a row is to be sent by. */
static int ask(struct world *w, size_t relay, unsigned times)
{
	int fd = -1;

	for (unsigned i = 0; i < times; i++)
		fd = bursts_socket(w->bursts, &w->relays[relay], &w->peer, LEN);
	return fd;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static void test_fourth_in_a_row(void **state)
{
	struct world *w = *state;
	int fd;

	assert_int_equal(ask(w, 0, ROW - 1), -1);
	fd = ask(w, 0, 1);
	assert_true(is_open(fd));
	/* From now on for whatever it sends. */
	assert_int_equal(bursts_socket(w->bursts, &w->relays[0], &w->other_peer, 1), fd);
	bursts_close(w->bursts, &w->relays[0]);
	assert_false(is_open(fd));
	assert_null(w->relays[0].socket);
	assert_int_equal(ask(w, 0, ROW - 1), -1);
}

static void test_not_in_a_row(void **state)
{
	struct world *w = *state;

	for (int i = 0; i < 3; i++) {
		assert_int_equal(ask(w, 0, ROW - 1), -1);
		assert_int_equal(ask(w, 1, 1), -1);
		assert_int_equal(ask(w, 0, ROW - 1), -1);
		assert_int_equal(bursts_socket(w->bursts, &w->relays[0], &w->other_peer, LEN), -1);
		assert_int_equal(ask(w, 0, ROW - 1), -1);
		assert_int_equal(bursts_socket(w->bursts, &w->relays[0], &w->peer, LEN + 1), -1);
	}
}

/* A relay that is closed is no longer the one that sent last, whoever gets its memory. */
static void test_closed_in_between(void **state)
{
	struct world *w = *state;

	assert_int_equal(ask(w, 0, ROW - 1), -1);
	bursts_close(w->bursts, &w->relays[0]);
	assert_int_equal(ask(w, 0, ROW - 1), -1);
}

static void test_an_address_that_cannot_be_bound(void **state)
{
	struct world *w = *state;

	assert_int_equal(tp_addr_parse_ip("192.0.2.77", &w->relays[0].address), 0);
	assert_int_equal(ask(w, 0, 10 * ROW), -1);
	assert_null(w->relays[0].socket);
}

static void test_whose_socket_is_taken(void **state)
{
	struct world *w = *state;
	int first;

	for (size_t i = 0; i < SOCKETS; i++)
		assert_true(is_open(ask(w, i, ROW)));
	first = ask(w, 0, 1); /* so that 1 is silent longest */
	assert_int_equal(ask(w, SOCKETS, ROW), -1);
	ask(w, 0, SILENCE);
	assert_true(is_open(ask(w, SOCKETS, ROW)));
	assert_int_equal(ask(w, 0, 1), first);
	assert_null(w->relays[1].socket);
	assert_non_null(w->relays[2].socket);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_fourth_in_a_row, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_not_in_a_row, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_closed_in_between, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_an_address_that_cannot_be_bound, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_whose_socket_is_taken, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
