/* Free ports, by bind() and by the list of sockets: both say the same. */
#include "controlplane/transport/bound.h"

#include "base/clock.h"

#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

enum { LISTED = 70 }; /* asked more often in a second than is worth binding */

static struct turn_relay_address relays[4]; /* the last one is nobody's */
static const struct turn_settings turn = {.relays = relays, .relays_count = COUNT(relays)};

/* In a network of its own, as root: elsewhere others may have the same port at another address. */
static int set_up(void **state)
{
	static const char *const texts[] = {"127.0.0.1", "127.0.0.2", "::1", "192.0.2.77"};

	for (size_t i = 0; i < COUNT(relays); i++)
		assert_int_equal(tp_addr_parse_ip(texts[i], &relays[i].address), 0);
	return unshare(CLONE_NEWNET) == 0 ? system("ip link set lo up") : 0;
}

/* Binds to a port that is free at all of the addresses. */
static int bind_to(const char *ip, int family, uint16_t *port)
{
	int fd = socket(family, SOCK_DGRAM, 0);
	struct sockaddr_storage sa;
	struct tp_addr address;
	socklen_t len;

	assert_true(fd >= 0);
	assert_int_equal(tp_addr_parse_ip(ip, &address), 0);
	len = tp_addr_to_sockaddr(&address, &sa);
	if (family == AF_INET6 && address.family == TP_IPV4) {
		struct sockaddr_in6 mapped = {.sin6_family = AF_INET6};

		memcpy(&mapped.sin6_addr, address.ip, sizeof(address.ip));
		memcpy(&sa, &mapped, sizeof(mapped));
		len = sizeof(mapped);
	}
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);
	len = sizeof(sa);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
	*port = ntohs(((struct sockaddr_in *)&sa)->sin_port);
	return fd;
}

static void test_who_is_in_the_way(void **state)
{
	static const struct {
		const char *ip;
		int family;
		int wanted[4]; /* for each of the addresses */
	} rows[] = {
		{"127.0.0.1", AF_INET, {-EADDRINUSE, 0, 0, -EADDRNOTAVAIL}},
		{"127.0.0.2", AF_INET, {0, -EADDRINUSE, 0, -EADDRNOTAVAIL}},
		{"127.0.0.2", AF_INET6, {0, -EADDRINUSE, 0, -EADDRNOTAVAIL}},
		{"::1", AF_INET6, {0, 0, -EADDRINUSE, -EADDRNOTAVAIL}},
		{"::", AF_INET6, {-EADDRINUSE, -EADDRINUSE, -EADDRINUSE, -EADDRNOTAVAIL}},
	};

	for (size_t row = 0; row < COUNT(rows); row++) {
		struct bound *bound;
		uint16_t port;
		int fd = bind_to(rows[row].ip, rows[row].family, &port);

		assert_int_equal(bound_new(&turn, &bound), 0);
		/* the same second: some of them bind, the others go by the list */
		for (int i = 0; i < 2 * LISTED; i++)
			assert_int_equal(bound_check(bound, i % 3, port, TP_NS_PER_S),
				rows[row].wanted[i % 3]);
		assert_int_equal(bound_check(bound, 3, port, TP_NS_PER_S), rows[row].wanted[3]);
		close(fd);
		bound_free(bound);
	}
}

/* A list is good for a second, whatever happens meanwhile, and then there is a new one. */
static void test_list_is_renewed(void **state)
{
	struct bound *bound;
	uint16_t port, later;
	int fd = bind_to("127.0.0.1", AF_INET, &port), other;

	assert_int_equal(bound_new(&turn, &bound), 0);
	for (int i = 0; i < LISTED; i++)
		bound_check(bound, 0, port, TP_NS_PER_S);
	other = bind_to("127.0.0.1", AF_INET, &later); /* before the other port is free for it */
	close(fd);
	assert_int_equal(bound_check(bound, 0, port, 2 * TP_NS_PER_S - 1), -EADDRINUSE);
	assert_int_equal(bound_check(bound, 0, later, 2 * TP_NS_PER_S - 1), 0);
	for (int i = 0; i < 2 * LISTED; i++)
		assert_int_equal(bound_check(bound, 0, later, 2 * TP_NS_PER_S), -EADDRINUSE);
	close(other);
	bound_free(bound);
}

/* The last port of the range is as good as any. */
static void test_ends_of_the_range(void **state)
{
	struct bound *bound;

	assert_int_equal(bound_new(&turn, &bound), 0);
	for (int i = 0; i < LISTED; i++)
		assert_int_equal(bound_check(bound, 1, 65535, TP_NS_PER_S), 0);
	assert_int_equal(bound_check(bound, 0, 65535, TP_NS_PER_S), 0);
	bound_free(bound);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who_is_in_the_way),
		cmocka_unit_test(test_list_is_renewed),
		cmocka_unit_test(test_ends_of_the_range),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
