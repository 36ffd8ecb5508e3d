/* The store of allocations: timers, ports, quotas, reservations, limits; with a virtual clock. */
#include "controlplane/alloc/alloc.h"

#include "base/clock.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define S TP_NS_PER_S

/* A generator of our own: a failure repeats. */
static uint64_t seed = 88172645463325252u;

static uint64_t draw(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % below;
}

/* Timers */

struct probe {
	struct timer timer;
	uint64_t due_ns;
	uint64_t fired_ns;
};

static void note_fired(struct timer *timer, uint64_t now_ns)
{
	struct probe *probe = (struct probe *)timer;

	assert_int_equal(probe->fired_ns, 0);
	assert_int_equal(timer->deadline_ns, 0);
	probe->fired_ns = now_ns;
}

static const uint64_t ranges_ns[] = {
	1, 1000000, 17000000, S, 70 * S, 600 * S, 5000 * S, 400000 * S, 30000000 * S};

static void a_timer_fires_in_the_first_advance_at_or_after_its_deadline(void **state)
{
	enum { TIMERS = 5000 };
	struct probe *probes = calloc(TIMERS, sizeof(*probes));
	uint64_t now_ns = 123456789, before_ns;
	struct timer_wheel *wheel;
	size_t left = 0;

	(void)state;
	assert_int_equal(timer_wheel_new(now_ns, &wheel), 0);
	assert_true(timer_wheel_next(wheel) == UINT64_MAX);
	for (size_t i = 0; i < TIMERS; i++) {
		probes[i].timer.fire = note_fired;
		timer_arm(wheel, &probes[i].timer, now_ns + 1 + draw(900 * S)); /* re-armed */
		probes[i].due_ns = now_ns + 1 + draw(ranges_ns[i % 9]);
		timer_arm(wheel, &probes[i].timer, probes[i].due_ns);
		if (i % 7 == 0)
			timer_cancel(wheel, &probes[i].timer);
		else
			left++;
	}
	while (left > 0) {
		uint64_t next_ns = timer_wheel_next(wheel);

		before_ns = now_ns;
		/* Sometimes what next() says, sometimes a leap over many. */
		now_ns = next_ns > now_ns ? next_ns : now_ns;
		if (draw(3) == 0)
			now_ns += draw(ranges_ns[draw(9)]);
		timer_wheel_advance(wheel, now_ns);
		for (size_t i = 0; i < TIMERS; i++) {
			bool is_due = i % 7 != 0 && probes[i].due_ns <= now_ns;

			assert_int_equal(probes[i].fired_ns != 0, is_due);
			if (is_due && probes[i].due_ns > before_ns) {
				assert_int_equal(probes[i].fired_ns, now_ns);
				assert_true(probes[i].due_ns >= next_ns);
				left--;
			}
		}
	}
	assert_true(timer_wheel_next(wheel) == UINT64_MAX);
	timer_wheel_free(wheel);
	free(probes);
}

static struct timer_wheel *busy_wheel;
static struct timer victim;

static void cancel_victim(struct timer *timer, uint64_t now_ns)
{
	(void)timer;
	(void)now_ns;
	timer_cancel(busy_wheel, &victim);
}

static void must_not_fire(struct timer *timer, uint64_t now_ns)
{
	(void)timer;
	(void)now_ns;
	fail_msg("a cancelled timer has fired");
}

static void a_handler_may_cancel_what_is_due_with_it(void **state)
{
	struct timer first = {.fire = cancel_victim};

	(void)state;
	assert_int_equal(timer_wheel_new(0, &busy_wheel), 0);
	victim = (struct timer){.fire = must_not_fire};
	timer_arm(busy_wheel, &first, 100);
	timer_arm(busy_wheel, &victim, 100);
	timer_wheel_advance(busy_wheel, S);
	assert_int_equal(first.deadline_ns, 0);
	timer_wheel_free(busy_wheel);
}

/* Ports */

static void ports_of_a_range_are_each_given_once(void **state)
{
	bool seen[65536] = {false};
	struct ports *ports;
	size_t runs = 0;
	uint16_t port, last = 0;

	(void)state;
	assert_int_equal(ports_new(49152, 65535, &ports), 0);
	for (size_t i = 0; i < 16384; i++) {
		assert_int_equal(ports_take(ports, PORTS_ANY, 0, &port), 0);
		assert_true(port >= 49152); /* TURN-7.2-15 */
		assert_false(seen[port]);   /* TURN-6-3 */
		seen[port] = true;
		if (i < 200 && port == last + 1)
			runs++;
		last = port;
	}
	assert_true(runs < 5); /* TURN-7.2-16 */
	assert_int_equal(ports_take(ports, PORTS_ANY, 0, &port), -ENOSPC);
	assert_int_equal(ports_in_use(ports), 16384);
	ports_free(ports);
}

static void a_freed_port_rests(void **state) /* TURN-7.2-22, L08 */
{
	struct ports *ports;
	uint16_t freed, other, port;

	(void)state;
	assert_int_equal(ports_new(50000, 50001, &ports), 0);
	for (int i = 0; i < 50; i++) {
		uint64_t now_ns = (uint64_t)i * 200 * S;

		assert_int_equal(ports_take(ports, PORTS_ANY, now_ns, &freed), 0);
		ports_give(ports, freed, now_ns);
		assert_int_equal(ports_take(ports, PORTS_ANY, now_ns + 59 * S, &other), 0);
		assert_int_not_equal(other, freed);
		/* Exhausted otherwise: a short rest is better than none to give. */
		assert_int_equal(ports_take(ports, PORTS_ANY, now_ns + 59 * S, &port), 0);
		assert_int_equal(port, freed);
		ports_give(ports, freed, now_ns + 60 * S);
		ports_give(ports, other, now_ns + 60 * S);
		assert_int_equal(ports_in_use(ports), 0);
	}
	ports_free(ports);
}

static const struct {
	const char *name;
	uint16_t min, max;
	enum ports_wish wish;
	size_t want; /* how many can be had */
} port_rows[] = {
	{"TURN-7.2-26 half of the ports are even", 50000, 50019, PORTS_EVEN, 10},
	{"TURN-7.2-27 pairs", 50000, 50019, PORTS_PAIR, 10},
	{"TURN-7.2-8b a range of one odd port", 50001, 50001, PORTS_EVEN, 0},
	{"TURN-7.2-8b a range of one even port has no pair", 50000, 50000, PORTS_PAIR, 0},
	{"an odd start and an even end are left over", 50001, 50006, PORTS_PAIR, 2},
	{"the last port of all", 65534, 65535, PORTS_PAIR, 1},
};

static void even_ports_and_pairs(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(port_rows) / sizeof(port_rows[0]); i++) {
		struct ports *ports;
		uint16_t port;
		size_t had = 0;

		assert_int_equal(ports_new(port_rows[i].min, port_rows[i].max, &ports), 0);
		while (ports_take(ports, port_rows[i].wish, 0, &port) == 0) {
			assert_int_equal(port % 2, 0);
			had++;
		}
		if (had != port_rows[i].want)
			fail_msg("%s: %zu, not %zu", port_rows[i].name, had, port_rows[i].want);
		ports_free(ports);
	}
}

/* The store */

struct ended {
	size_t channels, permissions, relays;
};

static void end_channel(void *context, struct alloc_channel *channel)
{
	(void)channel;
	((struct ended *)context)->channels++;
}

static void end_permission(void *context, struct alloc_permission *permission)
{
	/* A relay's channels end before its permissions. */
	(void)permission;
	((struct ended *)context)->permissions++;
}

static void end_relay(void *context, struct alloc_relay *relay)
{
	assert_int_equal(relay->channels.count, 0);
	assert_int_equal(relay->permissions.count, 0);
	((struct ended *)context)->relays++;
}

static struct alloc_store *new_store(struct ended *ended, struct alloc_settings settings)
{
	static const uint8_t ip4[4] = {192, 0, 2, 1};
	static const uint8_t ip6[16] = {0x20, 0x01, 0x0d, 0xb8, [15] = 1};
	struct alloc_hooks hooks = {ended, end_channel, end_permission, end_relay};
	struct tp_addr addresses[2];
	struct alloc_store *store;

	addresses[0] = tp_addr_make(TP_IPV4, ip4, 0);
	addresses[1] = tp_addr_make(TP_IPV6, ip6, 0);
	settings.addresses = addresses;
	settings.addresses_count = 2;
	assert_int_equal(alloc_store_new(&settings, &hooks, S, &store), 0);
	return store;
}

static struct alloc_tuple tuple_of(uint16_t port)
{
	static const uint8_t client[4] = {198, 51, 100, 7}, server[4] = {192, 0, 2, 1};
	struct alloc_tuple tuple = {.transport = ALLOC_UDP};

	tuple.client = tp_addr_make(TP_IPV4, client, port);
	tuple.server = tp_addr_make(TP_IPV4, server, 3478);
	return tuple;
}

static struct auth_identity identity_of(const char *name)
{
	return (struct auth_identity){
		.username = name, .username_len = strlen(name), .key_len = 16};
}

static struct tp_addr peer_of(uint16_t host, uint16_t port)
{
	uint8_t ip[4] = {203, 0, (uint8_t)(host >> 8), (uint8_t)host};

	return tp_addr_make(TP_IPV4, ip, port);
}

static int make(struct alloc_store *store, uint16_t port, const char *user, enum ports_wish wish,
	uint64_t ends_ns, struct allocation **out)
{
	struct alloc_tuple tuple = tuple_of(port);
	struct auth_identity id = identity_of(user);
	struct alloc_relay *relay;
	int r = alloc_new(store, &tuple, &id, out);

	if (r < 0)
		return r;
	r = alloc_add_relay(*out, 0, wish, ends_ns, &relay);
	if (r < 0)
		alloc_delete(*out);
	return r;
}

static void quota_and_port_are_taken_and_given_together(void **state) /* R03 */
{
	enum { CLIENTS = 64, USERS = 4, PER_USER = 12, PORTS = 40, OPS = 100000 };
	static const char *const users[USERS] = {"alice", "bob", "carol", "1700000000:dave"};
	struct ended ended = {0};
	struct alloc_store *store = new_store(&ended, (struct alloc_settings){
							      .port_min = 50000,
							      .port_max = 50000 + PORTS - 1,
							      .allocations_per_user = PER_USER,
						      });
	uint64_t ends_ns[CLIENTS] = {0}, now_ns = S; /* the model: 0 = no allocation */
	size_t of_user[USERS] = {0}, live = 0, made = 0;

	(void)state;
	for (size_t op = 0; op < OPS; op++) {
		size_t client = draw(CLIENTS), user = client % USERS;
		struct alloc_tuple tuple = tuple_of((uint16_t)(1000 + client));
		struct allocation *a;

		now_ns += draw(S / 10);
		alloc_store_advance(store, now_ns);
		for (size_t i = 0; i < CLIENTS; i++)
			if (ends_ns[i] != 0 && ends_ns[i] <= now_ns) {
				ends_ns[i] = 0;
				of_user[i % USERS]--;
				live--;
			}
		a = alloc_find(store, &tuple, now_ns);
		assert_int_equal(a != NULL, ends_ns[client] != 0);
		if (a && draw(2)) {
			alloc_delete(a);
			ends_ns[client] = 0;
			of_user[user]--;
			live--;
		} else if (!a) {
			uint64_t ends = now_ns + 1 + draw(8 * S);
			int r = make(
				store, (uint16_t)(1000 + client), users[user], PORTS_ANY, ends, &a);

			if (of_user[user] >= PER_USER)
				assert_int_equal(r, -EDQUOT);
			else
				assert_int_equal(r, live >= PORTS ? -ENOSPC : 0);
			if (r == 0) {
				ends_ns[client] = ends;
				of_user[user]++;
				live++;
				made++;
			}
		}
		assert_int_equal(alloc_count(store), live);
		assert_int_equal(alloc_ports_in_use(store), live);
	}
	assert_true(made > 10000);
	alloc_store_free(store);
	assert_int_equal(ended.relays, made);
}

static void even_ports_do_not_leak_their_neighbours(void **state) /* R05 */
{
	struct ended ended = {0};
	struct alloc_store *store =
		new_store(&ended, (struct alloc_settings){.port_min = 50000, .port_max = 50019});
	struct allocation *a;

	(void)state;
	for (int i = 0; i < 30; i++) {
		assert_int_equal(make(store, 1, "alice", PORTS_EVEN, 600 * S, &a), 0);
		assert_false(a->has_token);
		assert_int_equal(alloc_ports_in_use(store), 1);
		alloc_delete(a);
	}
	assert_int_equal(alloc_ports_in_use(store), 0);
	alloc_store_free(store);
}

static void a_reservation_is_for_its_user_once_and_for_30_seconds(void **state) /* N16 */
{
	static const struct {
		const char *name;
		const char *user;
		uint64_t after_ns;
		bool use_before;
		int want;
	} rows[] = {
		{"TURN-7.2-28 after 29 s", "alice", 29 * S, false, 0},
		{"TURN-7.2-29 after 31 s", "alice", 31 * S, false, -ENOENT},
		{"TURN-7.2-38 another user", "bob", 1 * S, false, -ENOENT},
		{"TURN-7.2-5c a second time", "alice", 1 * S, true, -ENOENT},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct ended ended = {0};
		struct alloc_store *store = new_store(
			&ended, (struct alloc_settings){.port_min = 50000, .port_max = 50001});
		struct alloc_tuple tuple = tuple_of(2), third = tuple_of(3);
		struct auth_identity id = identity_of(rows[i].user);
		struct auth_identity alice = identity_of("alice");
		struct allocation *a, *b, *c;
		struct alloc_relay *relay;
		uint8_t token[8];
		int r;

		assert_int_equal(make(store, 1, "alice", PORTS_PAIR, 600 * S, &a), 0);
		assert_true(a->has_token);
		memcpy(token, a->token, sizeof(token));
		assert_int_equal(alloc_ports_in_use(store), 2);
		assert_int_equal(make(store, 9, "bob", PORTS_ANY, 600 * S, &c), -ENOSPC);
		alloc_delete(a); /* the reservation stays */
		assert_int_equal(alloc_ports_in_use(store), 1);
		if (rows[i].use_before) {
			assert_int_equal(alloc_new(store, &third, &alice, &c), 0);
			assert_int_equal(alloc_redeem(c, token, 600 * S, &relay), 0);
		}
		alloc_store_advance(store, S + rows[i].after_ns);
		assert_int_equal(alloc_new(store, &tuple, &id, &b), 0);
		r = alloc_redeem(b, token, 600 * S, &relay);
		if (r != rows[i].want)
			fail_msg("%s: %d, not %d", rows[i].name, r, rows[i].want);
		if (r == 0)
			assert_int_equal(relay->address.port, 50001);
		alloc_store_free(store);
	}
}

static void limits_hold(void **state)
{
	struct ended ended = {0};
	struct alloc_store *store = new_store(&ended, (struct alloc_settings){
							      .port_min = 50000,
							      .port_max = 50009,
							      .permissions_per_allocation = 3,
							      .channels_per_allocation = 2,
						      });
	struct alloc_permission *permission;
	struct alloc_channel *channel;
	struct alloc_relay *relay;
	struct allocation *a;
	struct tp_addr peer;

	(void)state;
	assert_int_equal(make(store, 1, "alice", PORTS_ANY, 600 * S, &a), 0);
	relay = a->relays[ALLOC_RELAY_V4];
	for (uint16_t i = 0; i < 5; i++) { /* R06 */
		peer = peer_of(i, 1);
		assert_int_equal(
			alloc_permit(relay, &peer, 300 * S, &permission), i < 3 ? 0 : -ENOSPC);
	}
	peer = peer_of(0, 77); /* refreshing needs no room, the port does not count */
	assert_int_equal(alloc_permit(relay, &peer, 300 * S, &permission), 0);
	for (uint16_t i = 0; i < 4; i++) {
		peer = peer_of(0, 100 + i);
		assert_int_equal(alloc_bind(relay, 0x4FFF - i, &peer, 400 * S, &channel),
			i < 2 ? 0 : -ENOSPC);
	}
	assert_non_null(alloc_find_channel(a, 0x4FFE, 399 * S));
	assert_null(alloc_find_channel(a, 0x4FFE, 400 * S)); /* due, though not swept */
	assert_null(alloc_find_channel(a, 0x4FFD, S));
	assert_null(alloc_find_channel(a, 0x3FFF, S));
	peer = peer_of(2, 9);
	assert_non_null(alloc_find_permission(relay, &peer, 300 * S - 1));
	assert_null(alloc_find_permission(relay, &peer, 300 * S));
	alloc_store_advance(store, 300 * S);
	assert_int_equal(ended.permissions, 3);
	alloc_store_advance(store, 400 * S);
	assert_int_equal(ended.channels, 2);
	assert_int_equal(a->channels.count, 0);
	alloc_store_advance(store, 600 * S);
	assert_int_equal(alloc_count(store), 0);
	alloc_store_free(store);
}

static void the_server_has_a_limit_too(void **state)
{
	struct ended ended = {0};
	struct alloc_store *store = new_store(
		&ended, (struct alloc_settings){
				.port_min = 50000, .port_max = 50009, .allocations_max = 2});
	struct allocation *a;

	(void)state;
	assert_int_equal(make(store, 1, "alice", PORTS_ANY, 600 * S, &a), 0);
	assert_int_equal(make(store, 2, "bob", PORTS_ANY, 600 * S, &a), 0);
	assert_int_equal(make(store, 3, "carol", PORTS_ANY, 600 * S, &a), -ENOSPC);
	assert_int_equal(alloc_ports_in_use(store), 2);
	alloc_store_free(store);
}

/* Numbers that a former life has used up to the last go on with the first that is not in use. */
static void ids_go_round_what_lives(void **state)
{
	static const uint32_t restored[] = {UINT32_MAX - 1, 1, 2, 4}, want[] = {UINT32_MAX, 3, 5};
	struct ended ended = {0};
	struct alloc_store *store =
		new_store(&ended, (struct alloc_settings){.port_min = 50000, .port_max = 50019});
	struct allocation *a;

	(void)state;
	for (size_t i = 0; i < sizeof(restored) / sizeof(restored[0]); i++) {
		struct alloc_restored from = {.id = restored[i],
			.tuple = tuple_of((uint16_t)(2000 + i)),
			.name = "alice",
			.name_len = 5};

		assert_int_equal(alloc_restore(store, &from, &a), 0);
	}
	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		assert_int_equal(
			make(store, (uint16_t)(3000 + i), "bob", PORTS_ANY, 600 * S, &a), 0);
		assert_int_equal(a->id, want[i]);
		assert_ptr_equal(alloc_find_id(store, want[i]), a);
	}
	assert_null(alloc_find_id(store, 0));
	assert_null(alloc_find_id(store, 6));
	alloc_store_free(store);
}

static uint16_t next_of(struct alloc_walk *walk)
{
	const struct allocation *a = alloc_walk_next(walk);

	return a ? a->tuple.client.port : 0;
}

/* Who is next may end, and the last one, and others may come: nobody is met twice or left out. */
static void a_walk_goes_on_whatever_ends(void **state)
{
	struct ended ended = {0};
	struct alloc_store *store =
		new_store(&ended, (struct alloc_settings){.port_min = 50000, .port_max = 50019});
	struct alloc_walk walk, other;
	struct allocation *a[7];

	(void)state;
	for (uint16_t i = 0; i < 6; i++)
		assert_int_equal(make(store, i + 1, "alice", PORTS_ANY, 600 * S, &a[i]), 0);
	alloc_walk_begin(store, &walk);
	alloc_walk_begin(store, &other);
	assert_int_equal(next_of(&walk), 1);
	alloc_delete(a[1]); /* is next */
	alloc_delete(a[0]); /* was met */
	assert_int_equal(next_of(&other), 3);
	assert_int_equal(next_of(&walk), 3);
	alloc_walk_end(&other);
	alloc_delete(a[3]);
	alloc_delete(a[4]);
	assert_int_equal(next_of(&walk), 6);
	assert_int_equal(next_of(&walk), 0);
	alloc_walk_end(&walk);

	alloc_walk_begin(store, &walk);
	assert_int_equal(next_of(&walk), 3);
	assert_int_equal(make(store, 7, "alice", PORTS_ANY, 600 * S, &a[6]), 0);
	alloc_delete(a[5]);
	assert_int_equal(next_of(&walk), 7);
	assert_int_equal(next_of(&walk), 0);
	alloc_walk_end(&walk);
	alloc_delete(a[6]); /* nobody is told */
	alloc_store_free(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_timer_fires_in_the_first_advance_at_or_after_its_deadline),
		cmocka_unit_test(a_handler_may_cancel_what_is_due_with_it),
		cmocka_unit_test(ports_of_a_range_are_each_given_once),
		cmocka_unit_test(a_freed_port_rests),
		cmocka_unit_test(even_ports_and_pairs),
		cmocka_unit_test(quota_and_port_are_taken_and_given_together),
		cmocka_unit_test(even_ports_do_not_leak_their_neighbours),
		cmocka_unit_test(a_reservation_is_for_its_user_once_and_for_30_seconds),
		cmocka_unit_test(limits_hold),
		cmocka_unit_test(the_server_has_a_limit_too),
		cmocka_unit_test(ids_go_round_what_lives),
		cmocka_unit_test(a_walk_goes_on_whatever_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
