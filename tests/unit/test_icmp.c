/* ICMP errors: which datagram of ours they quote, and that no byte beyond them is read. */
#include "controlplane/transport/icmp.h"

#include "dataplane/core/checksum.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

#define PACKET_SIZE 512

/* 203.0.113.1:49153 to 203.0.113.10:5000, and the same with 2001:db8:2::1 and ::10 */
#define V4_ADDRESSES "cb007101 cb00710a"
#define V4(protocol) "4500 0021 1234 0000 40" protocol "0000" V4_ADDRESSES
#define V6_ADDRESSES "20010db8000200000000000000000001 20010db8000200000000000000000010"
#define V6(next)     "60000000 000d " next "40" V6_ADDRESSES
#define UDP          "c001 1388 000d 0000"
#define DATA         "68656c6c6f"
#define NOPS         "01010100"

/* The header in front of the ICMP message, as raw sockets deliver it for IPv4: from a router. */
#define OUTER "45c0 0000 0000 0000 40 01 0000 c0000201 cb007101"

static const struct row {
	const char *name;
	const char *outer; /* NULL: IPv6 */
	const char *icmp;  /* its 8 bytes; the checksum is put in */
	const char *quote;
	size_t needed; /* bytes of the quote by which it is known; 0: never is */
	uint32_t data;
} rows[] = {
	{"port unreachable", OUTER, "0303 0000 00000000", V4("11") UDP DATA, 28, 0},
	{"time exceeded", OUTER, "0b00 0000 00000000", V4("11") UDP DATA, 28, 0},
	{"fragmentation needed", OUTER, "0304 0000 0000 0500", V4("11") UDP DATA, 28, 1280},
	{"only that type has an MTU", OUTER, "0301 0000 0000 beef", V4("11") UDP, 28, 0},
	{"options outside", "47c0 0000 0000 0000 40 01 0000 c0000201 cb007101" NOPS NOPS,
		"0301 0000 00000000", V4("11") UDP, 28, 0},
	{"options inside", OUTER, "0301 0000 00000000",
		"46000025 12340000 40110000" V4_ADDRESSES NOPS UDP, 32, 0},
	{"first fragment", OUTER, "0301 0000 00000000",
		"45000021 12342000 40110000" V4_ADDRESSES UDP DATA, 28, 0},
	{"later fragment", OUTER, "0301 0000 00000000",
		"45000021 12340001 40110000" V4_ADDRESSES UDP DATA, 0, 0},
	{"quotes TCP", OUTER, "0301 0000 00000000", V4("06") UDP DATA, 0, 0},
	{"quotes another version", OUTER, "0301 0000 00000000", V6("11") UDP DATA, 0, 0},
	{"quoted header too short", OUTER, "0301 0000 00000000",
		"44000021 12340000 40110000" V4_ADDRESSES UDP DATA, 0, 0},
	{"quoted header longer than what is there", OUTER, "0301 0000 00000000",
		"4f000021 12340000 40110000" V4_ADDRESSES UDP DATA, 0, 0},
	{"source quench", OUTER, "0400 0000 00000000", V4("11") UDP DATA, 0, 0},
	{"redirect", OUTER, "0501 0000 00000000", V4("11") UDP DATA, 0, 0},
	{"parameter problem", OUTER, "0c00 0000 00000000", V4("11") UDP DATA, 0, 0},
	{"echo request", OUTER, "0800 0000 00000000", V4("11") UDP DATA, 0, 0},
	{"not ICMP", "45c0 0000 0000 0000 40 11 0000 c0000201 cb007101", "0303 0000 00000000",
		V4("11") UDP DATA, 0, 0},
	{"outer header too short", "44c0 0000 0000 0000 40 01 0000 c0000201 cb007101",
		"0303 0000 00000000", V4("11") UDP DATA, 0, 0},

	{"no route, IPv6", NULL, "0100 0000 00000000", V6("11") UDP DATA, 48, 0},
	{"packet too big, IPv6", NULL, "0200 0000 00010500", V6("11") UDP DATA, 48, 0x10500},
	{"time exceeded, IPv6", NULL, "0300 0000 0000beef", V6("11") UDP DATA, 48, 0},
	{"parameter problem, IPv6", NULL, "0400 0000 00000000", V6("11") UDP DATA, 0, 0},
	{"echo request, IPv6", NULL, "8000 0000 00000000", V6("11") UDP DATA, 0, 0},
	{"reserved type, IPv6", NULL, "0000 0000 00000000", V6("11") UDP DATA, 0, 0},
	{"fragment header", NULL, "0100 0000 00000000", V6("2c") "1100 0001 12345678" UDP DATA, 56,
		0},
	{"later fragment, IPv6", NULL, "0100 0000 00000000", V6("2c") "1100 0008 12345678" UDP DATA,
		0, 0},
	{"all extension headers", NULL, "0100 0000 00000000",
		V6("00") "3c00 0104 00000000"                  /* hop by hop */
			 "2b01 010c 00000000 0000000000000000" /* for destinations, 16 bytes */
			 "3300 0000 00000000"                  /* routing */
			 "1101 0000 00000001 00000001"         /* authentication, 12 bytes */
		UDP DATA,
		92, 0},
	{"a header that leads beyond the end", NULL, "0100 0000 00000000",
		V6("00") "11ff 0104 00000000" UDP DATA, 0, 0},
	{"headers without end", NULL, "0100 0000 00000000",
		V6("00") "0000000000000000"
			 "0000000000000000"
			 "0000000000000000"
			 "0000000000000000"
			 "0000000000000000"
			 "0000000000000000"
			 "0000000000000000"
			 "0000000000000000"
			 "1100000000000000" UDP DATA,
		0, 0},
	{"encrypted", NULL, "0100 0000 00000000", V6("32") UDP DATA, 0, 0},
	{"quotes TCP, IPv6", NULL, "0100 0000 00000000", V6("06") UDP DATA, 0, 0},
	{"quotes another version, IPv6", NULL, "0100 0000 00000000",
		"40000000 000d 1140" V6_ADDRESSES UDP DATA, 0, 0},
};

static size_t add_hex(uint8_t *out, size_t len, const char *text)
{
	for (unsigned byte; *text; text += 2) {
		while (isspace((unsigned char)*text))
			text++;
		assert_int_equal(sscanf(text, "%2x", &byte), 1);
		assert_true(len < PACKET_SIZE);
		out[len++] = (uint8_t)byte;
	}
	return len;
}

static void put_checksum(uint8_t *icmp, size_t len)
{
	uint16_t sum;

	if (len < 4)
		return;
	memset(icmp + 2, 0, 2);
	sum = (uint16_t)~tp_sum_fold_wide(tp_sum_bytes(icmp, len));
	memcpy(icmp + 2, &sum, sizeof(sum));
}

/* In memory of just that size, so that a sanitizer sees each byte too far. */
static bool parse(const struct row *row, const uint8_t *bytes, size_t len, struct icmp_error *out)
{
	uint8_t *copy = malloc(len ? len : 1);
	bool known;

	assert_non_null(copy);
	memcpy(copy, bytes, len);
	known = row->outer ? icmp_parse_v4(copy, len, out) : icmp_parse_v6(copy, len, out);
	free(copy);
	return known;
}

static void check_error(const struct row *row, const uint8_t *icmp, const struct icmp_error *error)
{
	const char *const ends[2][2] = {{"203.0.113.1:49153", "203.0.113.10:5000"},
		{"[2001:db8:2::1]:49153", "[2001:db8:2::10]:5000"}};
	char text[TP_ADDR_TEXT];

	assert_string_equal(tp_addr_text(&error->source, text), ends[!row->outer][0]);
	assert_string_equal(tp_addr_text(&error->destination, text), ends[!row->outer][1]);
	assert_int_equal(error->type, icmp[0]);
	assert_int_equal(error->code, icmp[1]);
	assert_int_equal(error->data, row->data);
}

/* Each row whole, and cut off at every byte: known from the last byte of the UDP header on. */
static void test_rows(void **state)
{
	for (const struct row *row = rows; row < rows + COUNT(rows); row++) {
		uint8_t bytes[PACKET_SIZE];
		size_t icmp = row->outer ? add_hex(bytes, 0, row->outer) : 0;
		size_t quote = add_hex(bytes, icmp, row->icmp);
		size_t end = add_hex(bytes, quote, row->quote);

		for (size_t len = 0; len <= end; len++) {
			bool wanted = row->needed > 0 && len >= quote + row->needed;
			struct icmp_error error;

			put_checksum(bytes + icmp, len > icmp ? len - icmp : 0);
			if (parse(row, bytes, len, &error) != wanted)
				fail_msg("%s: %zu of %zu bytes", row->name, len, end);
			if (wanted)
				check_error(row, bytes + icmp, &error);
		}
	}
}

/* Each bit of a message, once. */
static void test_wrong_checksum_is_no_error(void **state)
{
	const struct row *row = &rows[0];
	uint8_t bytes[PACKET_SIZE];
	size_t icmp = add_hex(bytes, 0, row->outer);
	size_t end = add_hex(bytes, add_hex(bytes, icmp, row->icmp), row->quote);
	struct icmp_error error;

	put_checksum(bytes + icmp, end - icmp);
	assert_true(parse(row, bytes, end, &error));
	for (size_t bit = icmp * 8; bit < end * 8; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_false(parse(row, bytes, end, &error));
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

/* Bytes that say anything at all: nothing is asked but that the sanitizers stay silent. */
static void test_noise(void **state)
{
	uint8_t bytes[PACKET_SIZE];
	struct icmp_error error;
	unsigned known = 0;

	srandom(1);
	for (int i = 0; i < 200000; i++) {
		const struct row *row = &rows[(size_t)random() % COUNT(rows)];
		size_t len = row->outer ? add_hex(bytes, 0, row->outer) : 0, icmp = len;

		len = add_hex(bytes, add_hex(bytes, len, row->icmp), row->quote);
		for (int changes = (int)(random() % 6); changes > 0 && len > 0; changes--)
			bytes[(size_t)random() % len] = (uint8_t)random();
		len = (size_t)random() % (len + 1);
		if (len > icmp)
			put_checksum(bytes + icmp, len - icmp);
		known += parse(row, bytes, len, &error);
	}
	assert_true(known > 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_wrong_checksum_is_no_error),
		cmocka_unit_test(test_noise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
