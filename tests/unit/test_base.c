/* base/: addresses, hash, log escaping rules that others rely on. */
#include "base/addr.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/map.h"
#include "base/random.h"
#include "base/unix.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

static void test_address_text(void **state)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
		{"192.0.2.1:80", "192.0.2.1:80"},
		{"[2001:db8::1]:65535", "[2001:db8::1]:65535"},
		{"[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.1]:1"},
		{"192.0.2.1:65536", NULL},
		{"192.0.2.1", NULL},
		{"2001:db8::1:80", NULL},
		{"[192.0.2.1]:80", NULL},
		{"192.0.2.1:-1", NULL},
		{"192.0.2.1:1x", NULL},
		{"", NULL},
		{":80", NULL},
	};
	char text[TP_ADDR_TEXT];
	struct tp_addr a;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int err = tp_addr_parse(rows[i].in, &a);

		if (!rows[i].out) {
			assert_int_not_equal(err, 0);
			continue;
		}
		assert_int_equal(err, 0);
		assert_string_equal(tp_addr_text(&a, text), rows[i].out);
	}
}

static void test_mapped_is_not_v4(void **state)
{
	struct tp_addr v4, v6;

	assert_int_equal(tp_addr_parse_ip("192.0.2.1", &v4), 0);
	assert_int_equal(tp_addr_parse_ip("::ffff:192.0.2.1", &v6), 0);
	assert_memory_equal(v4.ip, v6.ip, 16);
	assert_false(tp_addr_equal_ip(&v4, &v6));
}

/* The paper's appendix: key 00..0f, messages 00, 00 01, ... of length 0, 7, 8, 15. */
static void test_siphash_vectors(void **state)
{
	static const struct {
		size_t len;
		uint64_t want;
	} rows[] = {
		{0, UINT64_C(0x726fdb47dd0e0e31)},
		{15, UINT64_C(0xa129ca6149be45e5)},
	};
	struct tp_hash_key key = {{UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)}};
	uint8_t message[16];

	for (size_t i = 0; i < sizeof(message); i++)
		message[i] = (uint8_t)i;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_true(tp_siphash(&key, message, rows[i].len) == rows[i].want);
}

/* What CPython 3.11 says, whose hash() of bytes this is: PYTHONHASHSEED=0 makes the key zero. */
static void test_siphash13_vectors(void **state)
{
	static const struct {
		size_t len;
		uint64_t want;
	} rows[] = {
		{1, UINT64_C(0x68a914128e01e473)},
		{7, UINT64_C(0x2f098ab0c751325a)},
		{8, UINT64_C(0xead411e67ebe2eea)},
		{15, UINT64_C(0xf30eb725bb91c9ea)},
	};
	const struct tp_hash_key key = {{0, 0}};
	uint8_t message[16];

	for (size_t i = 0; i < sizeof(message); i++)
		message[i] = (uint8_t)i;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_true(tp_siphash13(&key, message, rows[i].len) == rows[i].want);
}

/* The reference implementation's, for the same key and messages. */
static void test_siphash128_vectors(void **state)
{
	static const struct {
		size_t len;
		uint8_t want[TP_SIPHASH128_LEN];
	} rows[] = {
		{0, {0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7,
			    0x55, 0x02, 0x93}},
		{15, {0x54, 0x93, 0xe9, 0x99, 0x33, 0xb0, 0xa8, 0x11, 0x7e, 0x08, 0xec, 0x0f, 0x97,
			     0xcf, 0xc3, 0xd9}},
	};
	struct tp_hash_key key = {{UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)}};
	uint8_t message[16], out[TP_SIPHASH128_LEN];

	for (size_t i = 0; i < sizeof(message); i++)
		message[i] = (uint8_t)i;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		tp_siphash128(&key, message, rows[i].len, out);
		assert_memory_equal(out, rows[i].want, sizeof(out));
	}
}

/* Whoever reads the log may hang; the relay goes on. */
struct item {
	struct tp_map_link link;
	uint32_t key;
	bool is_in;
};

enum { ITEMS = 20000 };

static const struct item *find_item(const struct tp_map *map, uint32_t hash, uint32_t key)
{
	for (const struct tp_map_link *l = tp_map_first(map, hash); l; l = tp_map_next(l)) {
		const struct item *item = TP_CONTAINER(l, struct item, link);

		if (item->key == key)
			return item;
	}
	return NULL;
}

/* Every link once; the longest run of one bucket. */
static uint32_t longest_chain(const struct tp_map *map)
{
	uint32_t longest = 0, n = 0, count = 0;
	const struct tp_map_link *link = NULL, *last;

	while ((last = link, link = tp_map_after(map, link))) {
		n = last && last->next == link ? n + 1 : 1;
		longest = n > longest ? n : longest;
		count++;
	}
	assert_int_equal(count, map->count);
	return longest;
}

static uint32_t hash_item(uint32_t key, uint32_t keys_per_hash)
{
	const struct tp_hash_key salt = {{1, 2}};
	uint32_t group = key / keys_per_hash;

	return (uint32_t)tp_siphash(&salt, &group, sizeof(group));
}

static void check_items(const struct tp_map *map, struct item *items, uint32_t keys_per_hash)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < ITEMS; i++) {
		const struct item *found = find_item(map, hash_item(i, keys_per_hash), i);

		assert_ptr_equal(found, items[i].is_in ? &items[i] : NULL);
		count += items[i].is_in;
	}
	assert_int_equal(map->count, count);
	/* Never much longer than chance would have it; never much more memory than needed. */
	assert_true(longest_chain(map) <= 10 * keys_per_hash);
	assert_true(map->used <= 2 * count + 8);
}

static void toggle(struct tp_map *map, struct item *item, uint32_t hash)
{
	if (item->is_in) {
		tp_map_remove(map, &item->link);
		tp_map_shrink(map);
	} else {
		tp_map_add(map, &item->link, hash);
	}
	item->is_in = !item->is_in;
}

/* Fills up, changes at random, and drains: what was put in is found, and nothing else. */
static void test_map(void **state)
{
	static const uint32_t per_hash[] = {1, 3};

	for (size_t row = 0; row < 2; row++) {
		struct item *items = calloc(ITEMS, sizeof(*items));
		struct tp_map map = {0};

		assert_non_null(items);
		check_items(&map, items, per_hash[row]);
		for (uint32_t i = 0; i < ITEMS; i++) {
			items[i].key = i;
			toggle(&map, &items[i], hash_item(i, per_hash[row]));
		}
		check_items(&map, items, per_hash[row]);
		for (uint32_t i = 0; i < 3 * ITEMS; i++) {
			uint32_t at = (i * UINT32_C(2654435761) >> 7) % ITEMS;

			toggle(&map, &items[at], hash_item(at, per_hash[row]));
		}
		check_items(&map, items, per_hash[row]);
		for (uint32_t i = 0; i < ITEMS; i++) {
			if (items[i].is_in)
				toggle(&map, &items[i], 0);
			if (i % (ITEMS / 8) == 0)
				check_items(&map, items, per_hash[row]);
		}
		assert_null(map.buckets);
		free(items);
	}
}

/* Whoever looks at all of them may remove any on the way, many or few; few are in order. */
static void test_map_walk(void **state)
{
	static struct item items[ITEMS];
	static const uint32_t counts[] = {0, 1, 8, 9, 100, ITEMS};

	for (size_t row = 0; row < sizeof(counts) / sizeof(counts[0]); row++) {
		struct tp_map map = {0};
		struct tp_map_link *link, *next;
		uint32_t seen = 0;

		for (uint32_t i = 0; i < counts[row]; i++) {
			items[i].key = i;
			tp_map_add(&map, &items[i].link, hash_item(i, 1));
			assert_int_equal(map.used > 0, i >= 8);
		}
		for (link = tp_map_after(&map, NULL); link; link = next) {
			next = tp_map_after(&map, link);
			if (counts[row] <= 8)
				assert_ptr_equal(link, &items[seen].link);
			if (TP_CONTAINER(link, struct item, link)->key % 3 != 0)
				tp_map_remove(&map, link);
			seen++;
		}
		assert_int_equal(seen, counts[row]);
		assert_int_equal(map.count, (counts[row] + 2) / 3);
		for (link = tp_map_after(&map, NULL); link; link = next) {
			next = tp_map_after(&map, link);
			tp_map_remove(&map, link);
		}
		assert_int_equal(map.count, 0);
		assert_null(map.buckets);
	}
}

static int by_value(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(uint64_t));
}

/* Over several stocks: none is handed out twice, at whatever length, and each bit is either. */
static void test_random_bytes(void **state)
{
	static uint64_t drawn[3000];
	uint64_t any = 0, all = UINT64_MAX;
	uint8_t more[TP_RANDOM_MAX + 1] = {0};

	for (size_t i = 0; i < 3000; i++) {
		assert_true(tp_random(&drawn[i], sizeof(drawn[i])));
		assert_true(tp_random(more, i % (TP_RANDOM_MAX + 1)));
		any |= drawn[i];
		all &= drawn[i];
	}
	assert_true(any == UINT64_MAX && all == 0);
	qsort(drawn, 3000, sizeof(drawn[0]), by_value);
	for (size_t i = 1; i < 3000; i++)
		assert_true(drawn[i] != drawn[i - 1]);
	assert_false(tp_random(more, sizeof(more)));
}

static void test_log_does_not_wait(void **state)
{
	int pipe_fds[2], kept = dup(STDERR_FILENO);

	assert_int_equal(pipe(pipe_fds), 0);
	assert_true(dup2(pipe_fds[1], STDERR_FILENO) >= 0);
	alarm(10);
	for (int i = 0; i < 10000; i++)
		tp_error("a line that nobody reads, one of many");
	alarm(0);
	assert_true(dup2(kept, STDERR_FILENO) >= 0);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	close(kept);
}

/* In the abstract name space anybody could wait for who forgot to say where. */
static void test_no_socket_name(void **state)
{
	const struct sockaddr_un nameless = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), fd = -1;

	assert_true(listener >= 0);
	assert_int_equal(bind(listener, (const struct sockaddr *)&nameless, sizeof(nameless)), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(tp_unix_connect("", SOCK_STREAM, &fd), -ENOENT);
	assert_int_equal(tp_unix_bind("", SOCK_STREAM, 0600, &fd), -ENOENT);
	assert_int_equal(fd, -1);
	close(listener);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_address_text),
		cmocka_unit_test(test_mapped_is_not_v4),
		cmocka_unit_test(test_siphash_vectors),
		cmocka_unit_test(test_siphash13_vectors),
		cmocka_unit_test(test_siphash128_vectors),
		cmocka_unit_test(test_map),
		cmocka_unit_test(test_map_walk),
		cmocka_unit_test(test_random_bytes),
		cmocka_unit_test(test_log_does_not_wait),
		cmocka_unit_test(test_no_socket_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
