/* The bench's books: which datagrams are ours, and what is counted of them. */
#include "tests/perf/bench/books.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#define RUN  UINT64_C(0x1122334455667788)
#define SIZE 100

static struct tracker trackers[4];

static struct books make_books(enum direction direction)
{
	memset(trackers, 0, sizeof(trackers));
	return (struct books){.run = RUN,
		.direction = direction,
		.from_ns = 1000,
		.flows = 4,
		.trackers = trackers};
}

static struct stamp make_stamp(enum direction direction)
{
	return (struct stamp){RUN, 0, 5000, 3, SIZE, (uint16_t)direction};
}

/* One datagram, changed a little each time: it is foreign, or it is relayed. */
static void test_which_are_ours(void **state)
{
	static const struct {
		const char *name;
		int up, down; /* datagrams that are ours */
		int more;     /* bytes than were sent */
		size_t at;    /* of the data; 1000: of none */
		uint8_t flip;
	} rows[] = {
		{"as it was sent", 1, 1, 0, 1000, 0},
		{"a byte less", 0, 0, -1, 1000, 0},
		{"a byte more is no padding: the data is a multiple of four", 0, 0, 1, 1000, 0},
		{"four bytes more", 0, 0, 4, 1000, 0},
		{"another run", 0, 0, 0, offsetof(struct stamp, run) + 2, 1},
		{"another direction", 0, 0, 0, offsetof(struct stamp, direction), 1},
		{"a flow that there is not", 0, 0, 0, offsetof(struct stamp, flow), 4},
		{"another size", 0, 0, 0, offsetof(struct stamp, size), 1},
		{"only a stamp", 0, 0, (int)sizeof(struct stamp) - SIZE, 1000, 0},
		{"a part of a stamp", 0, 0, (int)sizeof(struct stamp) - SIZE - 1, 1000, 0},
		{"nothing", 0, 0, -SIZE, 1000, 0},
	};

	for (size_t i = 0; i < 2 * sizeof(rows) / sizeof(rows[0]); i++) {
		enum direction direction = i % 2 ? DIRECTION_DOWN : DIRECTION_UP;
		struct books books = make_books(direction);
		struct stamp stamp = make_stamp(direction);
		uint8_t bytes[PACKET_ROOM] = {0};
		size_t len = stamp_write(bytes, &stamp, direction == DIRECTION_DOWN);
		uint64_t ours = (uint64_t)(i % 2 ? rows[i / 2].down : rows[i / 2].up);

		if (rows[i / 2].at < 1000)
			bytes[len - SIZE + rows[i / 2].at] ^= rows[i / 2].flip;
		books_take(&books, bytes, len + (size_t)rows[i / 2].more, 6000);
		if (books.relayed != ours || books.arrived != ours || books.foreign != 1 - ours)
			fail_msg("%s, %s", rows[i / 2].name, i % 2 ? "down" : "up");
	}
}

/* On a channel there may be padding, and nothing else than the channel will do. */
static void test_channeldata(void **state)
{
	static const struct {
		const char *name;
		uint16_t size;
		int more;
		size_t at; /* 100: no byte is changed */
		bool ours;
	} rows[] = {
		{"padded", 101, 3, 100, true},
		{"padded by part", 101, 1, 100, true},
		{"too much padding", 101, 4, 100, false},
		{"another channel", 100, 0, 1, false},
		{"a longer length", 100, 0, 3, false},
		{"shorter than its header", 100, -101, 100, false},
		{"a header alone", 100, -100, 100, false},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct books books = make_books(DIRECTION_DOWN);
		struct stamp stamp = make_stamp(DIRECTION_DOWN);
		uint8_t bytes[PACKET_ROOM] = {0};
		size_t len;

		stamp.size = rows[i].size;
		len = stamp_write(bytes, &stamp, true);
		if (rows[i].at < 100)
			bytes[rows[i].at] ^= 1;
		books_take(&books, bytes, len + (size_t)rows[i].more, 6000);
		if ((books.relayed == 1) != rows[i].ours || (books.foreign == 1) == rows[i].ours)
			fail_msg("%s", rows[i].name);
	}
}

static void test_counts(void **state)
{
	static const struct {
		uint64_t number, sent_ns;
	} packets[] = {
		{0, 999}, {1, 1000}, {2, 1500}, {2, 1500}, {100, 2000}, {99, 1900}, {3, 1600}};
	struct books books = make_books(DIRECTION_UP);
	uint8_t bytes[PACKET_ROOM] = {0};

	for (size_t i = 0; i < sizeof(packets) / sizeof(packets[0]); i++) {
		struct stamp stamp = {
			RUN, packets[i].number, packets[i].sent_ns, 0, SIZE, DIRECTION_UP};

		books_take(&books, bytes, stamp_write(bytes, &stamp, false), 2100);
	}
	bytes[0] ^= 1; /* an earlier step's comes late */
	books_take(&books, bytes, SIZE, 2100);
	assert_int_equal(books.arrived, 7);
	assert_int_equal(books.relayed, 4); /* the first one warmed up */
	assert_int_equal(books.duplicated, 1);
	assert_int_equal(books.reordered, 1);
	assert_int_equal(books.too_late, 1);
	assert_int_equal(books.foreign, 0);
	assert_int_equal(books.latencies[histogram_index(1100)], 1);
	assert_int_equal(books.latencies[histogram_index(600)], 1);
	assert_int_equal(books.latencies[histogram_index(100)], 1);
	assert_int_equal(books.latencies[histogram_index(200)], 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_which_are_ours),
		cmocka_unit_test(test_channeldata),
		cmocka_unit_test(test_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
