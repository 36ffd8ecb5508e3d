/*
 * What an idle allocation with a channel takes of the heap, beside the shared tables and its
 * socket: so much, however many there are, and all of it comes back. Given a number, makes as many
 * and says what it saw: test_memory 1000000.
 */
#include "controlplane/flows/flows.h"

#include "base/clock.h"

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#define SECOND    TP_NS_PER_S
#define BYTES_MAX 1100 /* of one, at any number */

enum { POOLS = 31, PORT_MIN = 1024, PER_POOL = 60000 };

static uint32_t count = 20000;
static bool tell;

/* Stands in for route/: no next hops. */
uint16_t route_follow(struct route *route, struct route_user *user, const struct tp_addr *remote,
	const struct tp_addr *local)
{
	return TP_NO_NEXT_HOP_YET;
}

void route_unfollow(struct route *route, struct route_user *user)
{
}

uint16_t route_next_hop(const struct route_user *user)
{
	return TP_NO_NEXT_HOP_YET;
}

void route_settle(struct route *route)
{
}

struct world {
	struct tp_memory memory;
	struct tp_table *table;
	struct flows *flows;
	struct alloc_store *store;
	struct tp_addr addresses[POOLS];
	uint64_t now_ns;
	size_t empty; /* the heap with nothing in it */
};

static void end_channel(void *context, struct alloc_channel *channel)
{
	flows_revoke_channel(((struct world *)context)->flows, channel);
}

static void end_permission(void *context, struct alloc_permission *permission)
{
	flows_revoke_permission(((struct world *)context)->flows, permission);
}

static void end_relay(void *context, struct alloc_relay *relay)
{
	flows_close_relay(((struct world *)context)->flows, relay);
}

static size_t heap(void)
{
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
}

static size_t resident(void)
{
	FILE *file = fopen("/proc/self/statm", "r");
	unsigned long size = 0, pages = 0;

	assert_non_null(file);
	assert_int_equal(fscanf(file, "%lu %lu", &size, &pages), 2);
	fclose(file);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static struct tp_addr ipv4(uint32_t ip, uint16_t port)
{
	uint8_t bytes[4] = {
		(uint8_t)(ip >> 24), (uint8_t)(ip >> 16), (uint8_t)(ip >> 8), (uint8_t)ip};

	return tp_addr_make(TP_IPV4, bytes, port);
}

static void build(struct world *w)
{
	struct alloc_settings settings = {
		.addresses = w->addresses,
		.addresses_count = POOLS,
		.port_min = PORT_MIN,
		.port_max = PORT_MIN + PER_POOL - 1,
	};
	struct alloc_hooks hooks = {w, end_channel, end_permission, end_relay};
	struct tp_shape shape;

	*w = (struct world){.now_ns = tp_clock_now_ns()};
	for (uint32_t i = 0; i < POOLS; i++)
		w->addresses[i] = ipv4(0xc0000201 + i, 0);
	assert_int_equal(tp_shape_init(4 * count, 1, count, &shape), 0);
	assert_int_equal(tp_memory_create_plain(&shape, &w->memory), 0);
	assert_int_equal(tp_table_create(&w->memory, 0x4fff, &w->table), 0);
	assert_int_equal(flows_new(w->table, NULL, &w->flows), 0);
	assert_int_equal(alloc_store_new(&settings, &hooks, w->now_ns, &w->store), 0);
	w->empty = heap();
}

static void tear_down(struct world *w)
{
	alloc_store_free(w->store);
	flows_free(w->flows);
	tp_table_destroy(w->table);
	tp_memory_destroy_plain(&w->memory);
}

/* Everybody is another user behind another address. */
static void allocate(struct world *w, uint32_t number)
{
	const struct tp_addr server = ipv4(0xc0000201, 3478),
			     peer = ipv4(0x0a000000 + number, 5000);
	struct alloc_tuple tuple = {.client = ipv4(0x0b000000 + number, 4000),
		.server = server,
		.transport = ALLOC_UDP};
	char name[32];
	struct auth_identity identity = {.username = name, .key_len = 16};
	struct alloc_permission *permission;
	struct alloc_channel *channel;
	struct alloc_relay *relay;
	struct allocation *a;

	identity.username_len = (size_t)snprintf(name, sizeof(name), "1700000000:user%u", number);
	assert_int_equal(alloc_new(w->store, &tuple, &identity, &a), 0);
	assert_int_equal(alloc_add_relay(a, (uint8_t)(number % POOLS), PORTS_ANY,
				 w->now_ns + (600 + number % 600) * SECOND, &relay),
		0);
	assert_int_equal(flows_open_relay(w->flows, relay), 0);
	assert_int_equal(alloc_permit(relay, &peer, w->now_ns + 300 * SECOND, &permission), 0);
	assert_int_equal(alloc_bind(relay, 0x4000, &peer, w->now_ns + 600 * SECOND, &channel), 0);
	flows_grant_permission(w->flows, permission);
	flows_grant_channel(w->flows, channel);
}

static void fill(struct world *w, uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++)
		allocate(w, i);
}

static void say(const char *what, const struct world *w, uint64_t began_ns)
{
	if (tell)
		print_message("%-28s %8u: heap %10zu, resident %11zu, %5.2f s\n", what,
			alloc_count(w->store), heap() - w->empty, resident(),
			(double)(tp_clock_now_ns() - began_ns) / (double)SECOND);
}

/* The clock of the store is far from the machine's: ports and slots have rested by then. */
static void pass(struct world *w, uint64_t seconds)
{
	for (uint64_t i = 0; i < seconds; i++) {
		w->now_ns += SECOND;
		alloc_store_advance(w->store, w->now_ns);
		flows_sweep(w->flows, w->now_ns);
	}
}

static void must_be_lean(const struct world *w)
{
	size_t bytes = heap() - w->empty;
	uint32_t there = alloc_count(w->store);

	if (bytes > (size_t)there * BYTES_MAX)
		fail_msg("%u allocations take %zu bytes", there, bytes);
}

static void must_be_empty(const struct world *w)
{
	size_t left = heap() - w->empty;

	assert_int_equal(alloc_count(w->store), 0);
	if (left > 65536) /* what malloc() keeps for itself */
		fail_msg("%zu bytes did not come back", left);
}

static void test_growth(void **state)
{
	uint64_t began_ns;
	struct world w;

	build(&w);
	began_ns = tp_clock_now_ns();
	say("empty", &w, began_ns);
	fill(&w, 0, count / 4);
	say("a quarter", &w, began_ns);
	must_be_lean(&w);
	fill(&w, count / 4, count);
	say("all", &w, began_ns);
	must_be_lean(&w);

	began_ns = tp_clock_now_ns();
	pass(&w, 301);
	say("permissions have ended", &w, began_ns);
	pass(&w, 600);
	say("half of all have ended", &w, began_ns);
	assert_int_not_equal(alloc_count(w.store), 0);
	pass(&w, 300);
	say("all have ended", &w, began_ns);
	must_be_empty(&w);

	fill(&w, 0, count);
	began_ns = tp_clock_now_ns();
	while (!TAILQ_EMPTY(alloc_all(w.store)))
		alloc_delete(TAILQ_FIRST(alloc_all(w.store)));
	say("all were deleted", &w, began_ns);
	must_be_empty(&w);
	tear_down(&w);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_growth),
	};

#ifdef __SANITIZE_ADDRESS__
	print_message("the sanitizer's heap is another\n");
	return 0;
#endif
	tell = argc > 1;
	if (tell)
		count = (uint32_t)strtoul(argv[1], NULL, 10);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
