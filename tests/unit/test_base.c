/* base/: addresses, hash, log escaping rules that others rely on. */
#include "base/addr.h"
#include "base/hash.h"
#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
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

/* Whoever reads the log may hang; the relay goes on. */
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_address_text),
		cmocka_unit_test(test_mapped_is_not_v4),
		cmocka_unit_test(test_siphash_vectors),
		cmocka_unit_test(test_log_does_not_wait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
