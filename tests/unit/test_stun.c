/* stun/: the RFCs' vectors, and what a decoder must survive (threats F01-F05, F11, F12, F18). */
#include "controlplane/stun/integrity.h"
#include "controlplane/stun/stun.h"

#include <errno.h>
#include <openssl/hmac.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))
#define ROOM        4096

#define COOKIE   "2112a442"
#define TID      "b7e7a701bc34d686fa87dfae"
#define TID_LT   "78ad3433c6ad72c029da412e"
#define KATAKANA "\xe3\x83\x9e\xe3\x83\x88\xe3\x83\xaa\xe3\x83\x83\xe3\x82\xaf\xe3\x82\xb9"

/* RFC 5769, 2.1 to 2.4, and RFC 8489, B.1, with the length and key of erratum 6268. */
#define REQUEST                                                                                    \
	"00010058" COOKIE TID "802200105354554e207465737420636c69656e74"                           \
	"002400046e0001ff80290008932ff9b151263b36000600096576746a3a68367659202020"                 \
	"000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf"
#define RESPONSE_V4                                                                                \
	"0101003c" COOKIE TID "8022000b7465737420766563746f7220002000080001a147e112a643"           \
	"000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96"
#define RESPONSE_V6                                                                                \
	"01010048" COOKIE TID "8022000b7465737420766563746f7220"                                   \
	"002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9"                                         \
	"00080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c"
#define REQUEST_LT                                                                                 \
	"00010060" COOKIE TID_LT "00060012e3839ee38388e383aae38383e382afe382b90000"                \
	"0015001c662f2f3439396b39353464364f4c33346f4c394653547679363473410014000b6578616d706c652e" \
	"6f726700"                                                                                 \
	"00080014f67024656dd64a3e02b8e0712e85c9a28ca89666"
#define REQUEST_SHA256                                                                             \
	"00010090" COOKIE TID_LT                                                                   \
	"001e00204a3cf38fef6992bda952c6780417da0f24819415569e60b205c46e41407f1704"                 \
	"001500296f624d61744a6f733241414143662f2f3439396b39353464"                                 \
	"364f4c33346f4c394653547679363473410000000014000b6578616d706c652e6f726700001d000400020000" \
	"001c0020b5c7bf005b6c52a21c51c5e892f81924136296cb927c43149309278cc6518e65"

static size_t from_hex(const char *hex, uint8_t *out)
{
	size_t len = strlen(hex) / 2;

	assert_true(len <= ROOM);
	for (size_t i = 0; i < len; i++) {
		unsigned int byte;

		assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
		out[i] = (uint8_t)byte;
	}
	return len;
}

/* Header with the right length, then the attributes. */
static size_t message_of(const char *attributes, uint8_t *out)
{
	size_t len = 20 + from_hex(attributes, out + 20);

	from_hex("00030000" COOKIE TID, out);
	out[2] = (uint8_t)((len - 20) >> 8);
	out[3] = (uint8_t)(len - 20);
	return len;
}

static void parse(const uint8_t *bytes, size_t len, struct stun_message *m)
{
	assert_int_equal(stun_parse(bytes, len, m), 0);
}

static const struct vector {
	const char *hex, *key_hex;
	enum stun_class class;
	bool fingerprint, sha256;
} vectors[] = {
	{REQUEST, "564f6b4a7862526c31526d5478556b2f57764a784274", STUN_REQUEST, true, false},
	{RESPONSE_V4, "564f6b4a7862526c31526d5478556b2f57764a784274", STUN_SUCCESS, true, false},
	{RESPONSE_V6, "564f6b4a7862526c31526d5478556b2f57764a784274", STUN_SUCCESS, true, false},
	/* MD5 and SHA-256 of KATAKANA ":example.org:TheMatrIX" */
	{REQUEST_LT, "e8ca7ad59d5eb0518e312911d2dab2a9", STUN_REQUEST, false, false},
	{REQUEST_SHA256, "dd295a613b9058c3c23d6dc7165bda072304d989c9d0af3a8c7e184b4f9bb4a1",
		STUN_REQUEST, false, true},
};

static void test_vectors(void **state)
{
	uint8_t bytes[ROOM], key[64];
	struct stun_message m;

	for (size_t i = 0; i < COUNT(vectors); i++) {
		const struct vector *v = &vectors[i];
		size_t len = from_hex(v->hex, bytes);
		size_t key_len = from_hex(v->key_hex, key);

		parse(bytes, len, &m);
		assert_int_equal(m.class, v->class);
		assert_int_equal(m.method, STUN_METHOD_BINDING);
		assert_int_equal(m.has_fingerprint, v->fingerprint);
		assert_int_equal(m.integrity256_at != 0, v->sha256);
		assert_memory_equal(m.transaction, bytes + 8, STUN_TRANSACTION_LEN);
		assert_true(stun_check_integrity(&m, key, key_len));
		key[0] ^= 1;
		assert_false(stun_check_integrity(&m, key, key_len));
	}
}

/* Whatever bit is flipped up to the end of the MAC: no integrity, or no message at all. */
static void test_every_bit_is_covered(void **state)
{
	uint8_t bytes[ROOM], key[64];
	struct stun_message m;

	for (size_t i = 0; i < COUNT(vectors); i++) {
		size_t len = from_hex(vectors[i].hex, bytes);
		size_t key_len = from_hex(vectors[i].key_hex, key);
		size_t covered = len - (vectors[i].fingerprint ? 8 : 0);

		for (size_t bit = 0; bit < 8 * covered; bit++) {
			bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
			if (stun_parse(bytes, len, &m) == 0)
				assert_false(stun_check_integrity(&m, key, key_len));
			bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
	}
}

static void test_vector_contents(void **state)
{
	uint8_t bytes[ROOM];
	struct stun_attribute a;
	struct stun_message m;
	char text[TP_ADDR_TEXT];
	struct tp_addr addr;

	parse(bytes, from_hex(RESPONSE_V4, bytes), &m);
	assert_int_equal(
		stun_read_xor_address(&m, stun_find(&m, STUN_ATTR_XOR_MAPPED_ADDRESS), &addr), 0);
	assert_string_equal(tp_addr_text(&addr, text), "192.0.2.1:32853");
	a = stun_find(&m, STUN_ATTR_SOFTWARE);
	assert_int_equal(a.len, 11);
	assert_memory_equal(a.value, "test vector", 11);

	parse(bytes, from_hex(RESPONSE_V6, bytes), &m);
	assert_int_equal(
		stun_read_xor_address(&m, stun_find(&m, STUN_ATTR_XOR_MAPPED_ADDRESS), &addr), 0);
	assert_string_equal(
		tp_addr_text(&addr, text), "[2001:db8:1234:5678:11:2233:4455:6677]:32853");

	parse(bytes, from_hex(REQUEST, bytes), &m);
	assert_int_equal(m.unknown_count, 1); /* PRIORITY: of ICE, not of a relay */
	assert_int_equal(m.unknown[0], 0x0024);
	a = stun_find(&m, STUN_ATTR_USERNAME);
	assert_int_equal(a.len, 9);
	assert_null(stun_find(&m, STUN_ATTR_DATA).value);

	parse(bytes, from_hex(REQUEST_LT, bytes), &m);
	a = stun_find(&m, STUN_ATTR_USERNAME);
	assert_int_equal(a.len, sizeof(KATAKANA) - 1);
	assert_memory_equal(a.value, KATAKANA, a.len);
}

static void test_headers(void **state)
{
	static const struct {
		const char *hex;
		bool is, good;
	} rows[] = {
		{"00010000" COOKIE TID, true, true},
		{"00110000" COOKIE TID, true, true},
		{"01110000" COOKIE TID, true, true},
		{"3fff0000" COOKIE TID, true, true},
		{"80010000" COOKIE TID, false, false},
		{"40010000" COOKIE TID, false, false},
		{"c0010000" COOKIE TID, false, false},
		{"00010000"
		 "00000000" TID,
			false, false}, /* RFC 3489 */
		{"00010000"
		 "2112a443" TID,
			false, false},
		{"00010008" COOKIE TID, true, false},
		{"00010000" COOKIE TID "00000000", true, false},
		{"00010001" COOKIE TID "00", true, false},
		{"00010002" COOKIE TID "0000", true, false},
		{"00010003" COOKIE TID "000000", true, false},
		{"0001fffc" COOKIE TID, true, false},
		{"00010000" COOKIE "b7e7a701bc34d686fa87df", false, false},
		{"", false, false},
	};
	uint8_t bytes[ROOM];
	struct stun_message m;

	for (size_t i = 0; i < COUNT(rows); i++) {
		size_t len = from_hex(rows[i].hex, bytes);

		assert_int_equal(stun_is(bytes, len), rows[i].is);
		assert_int_equal(stun_parse(bytes, len, &m), rows[i].good ? 0 : -EBADMSG);
	}
}

static void test_types(void **state)
{
	static const struct {
		enum stun_class class;
		uint16_t method, type;
	} rows[] = {
		{STUN_REQUEST, STUN_METHOD_BINDING, 0x0001},
		{STUN_ERROR, STUN_METHOD_ALLOCATE, 0x0113},
		{STUN_INDICATION, STUN_METHOD_DATA, 0x0017},
		{STUN_SUCCESS, STUN_METHOD_CHANNEL_BIND, 0x0109},
		{STUN_REQUEST, 0x080, 0x0200},
		{STUN_SUCCESS, 0x080, 0x0300},
		{STUN_ERROR, 0xfff, 0x3fff},
		{STUN_REQUEST, 0xfff, 0x3eef},
	};
	uint8_t bytes[ROOM], tid[STUN_TRANSACTION_LEN] = {7};
	struct stun_writer w;
	struct stun_message m;

	for (size_t i = 0; i < COUNT(rows); i++) {
		stun_begin(&w, bytes, sizeof(bytes), rows[i].class, rows[i].method, tid);
		assert_int_equal(bytes[0] << 8 | bytes[1], rows[i].type);
		parse(bytes, stun_finish(&w), &m);
		assert_int_equal(m.class, rows[i].class);
		assert_int_equal(m.method, rows[i].method);
		assert_memory_equal(m.transaction, tid, sizeof(tid));
	}
}

/* What counts, where: (RFC 8489, 9 and 14). All keys are "k". */
static void test_integrity_ends_attributes(void **state)
{
	enum { NONE, MI, MI256, LIFETIME, UNKNOWN, CRC };
	static const struct {
		const char *name;
		uint8_t order[6];
		bool lifetime, unknown, fingerprint, right;
	} rows[] = {
		{"all before", {LIFETIME, UNKNOWN, MI, CRC}, true, true, true, true},
		{"behind MI", {MI, LIFETIME, UNKNOWN}, false, false, false, true},
		{"behind MI256", {MI256, LIFETIME, UNKNOWN}, false, false, false, true},
		{"between MI and MI256", {MI, LIFETIME, MI256, CRC}, false, false, true, true},
		{"MI256 behind MI counts", {LIFETIME, MI, MI256}, true, false, false, true},
		{"MI behind MI256 is ignored", {MI256, MI}, false, false, false, true},
		{"fingerprint alone", {LIFETIME, CRC}, true, false, true, false},
		{"fingerprint not last", {CRC, LIFETIME}, false, false, false, false},
		{"MI behind a fingerprint", {LIFETIME, CRC, MI}, true, false, false, false},
	};
	uint8_t bytes[ROOM], tid[STUN_TRANSACTION_LEN] = {0};
	struct stun_message m;
	struct stun_writer w;

	for (size_t i = 0; i < COUNT(rows); i++) {
		stun_begin(&w, bytes, sizeof(bytes), STUN_REQUEST, STUN_METHOD_REFRESH, tid);
		for (size_t k = 0; k < COUNT(rows[i].order); k++) {
			switch (rows[i].order[k]) {
			case MI:
				stun_put_integrity(&w, STUN_SHA1, (const uint8_t *)"k", 1);
				break;
			case MI256:
				stun_put_integrity(&w, STUN_SHA256, (const uint8_t *)"k", 1);
				break;
			case LIFETIME:
				stun_put_u32(&w, STUN_ATTR_LIFETIME, 0);
				break;
			case UNKNOWN:
				stun_put(&w, 0x7ff0, NULL, 0);
				break;
			case CRC:
				stun_put_fingerprint(&w);
				break;
			default:
				break;
			}
		}
		if (stun_parse(bytes, stun_finish(&w), &m) != 0)
			fail_msg("%s: does not parse", rows[i].name);
		if ((stun_find(&m, STUN_ATTR_LIFETIME).value != NULL) != rows[i].lifetime ||
			(m.unknown_count > 0) != rows[i].unknown ||
			m.has_fingerprint != rows[i].fingerprint ||
			(m.integrity_at && m.integrity256_at &&
				m.integrity_at > m.integrity256_at) ||
			stun_check_integrity(&m, (const uint8_t *)"k", 1) != rows[i].right)
			fail_msg("%s", rows[i].name);
	}
}

/* MI256 decides where both are there; a second MI never does (STUN-9-3, STUN-9.2.4-0). */
static void test_which_integrity_decides(void **state)
{
	static const struct {
		const char *name;
		enum stun_integrity kinds[2];
		const char *keys[2];
		bool right;
	} rows[] = {
		{"right MI256, wrong MI", {STUN_SHA1, STUN_SHA256}, {"x", "k"}, true},
		{"wrong MI256, right MI", {STUN_SHA1, STUN_SHA256}, {"k", "x"}, false},
		{"wrong MI, then right MI", {STUN_SHA1, STUN_SHA1}, {"x", "k"}, false},
		{"right MI, then wrong MI", {STUN_SHA1, STUN_SHA1}, {"k", "x"}, true},
		{"wrong MI256, then right MI256", {STUN_SHA256, STUN_SHA256}, {"x", "k"}, false},
	};
	uint8_t bytes[ROOM], tid[STUN_TRANSACTION_LEN] = {0};
	struct stun_message m;
	struct stun_writer w;

	for (size_t i = 0; i < COUNT(rows); i++) {
		stun_begin(&w, bytes, sizeof(bytes), STUN_REQUEST, STUN_METHOD_REFRESH, tid);
		for (int k = 0; k < 2; k++)
			stun_put_integrity(
				&w, rows[i].kinds[k], (const uint8_t *)rows[i].keys[k], 1);
		parse(bytes, stun_finish(&w), &m);
		if (stun_check_integrity(&m, (const uint8_t *)"k", 1) != rows[i].right)
			fail_msg("%s", rows[i].name);
	}
}

/* The right MAC under a length that is not its own is none, not even in the padding (threat N07).
 */
static void test_truncated_integrity(void **state)
{
	static const struct {
		enum stun_integrity kind;
		uint16_t type;
	} rows[] = {
		{STUN_SHA1, STUN_ATTR_MESSAGE_INTEGRITY},
		{STUN_SHA256, STUN_ATTR_MESSAGE_INTEGRITY_SHA256},
	};
	uint8_t bytes[ROOM], header[20], mac[64] = {0};
	struct stun_bytes part = {header, sizeof(header)};
	struct stun_message m;
	struct stun_writer w;

	for (size_t i = 0; i < COUNT(rows); i++) {
		from_hex("00040000" COOKIE TID, header);
		header[3] = (uint8_t)(4 + stun_hmac_len(rows[i].kind));
		stun_hmac(rows[i].kind, "k", 1, &part, 1, mac);
		for (size_t len = 0; len <= 40; len++) {
			stun_begin(&w, bytes, sizeof(bytes), STUN_REQUEST, STUN_METHOD_REFRESH,
				header + 8);
			stun_put(&w, rows[i].type, mac, (len + 3) / 4 * 4);
			bytes[23] = (uint8_t)len;
			parse(bytes, stun_finish(&w), &m);
			assert_int_equal(stun_check_integrity(&m, (const uint8_t *)"k", 1),
				len == stun_hmac_len(rows[i].kind));
		}
	}
}

/* The MAC that decides, where there is a whole one. */
static void test_mac_word(void **state)
{
	static const enum stun_integrity kinds[] = {STUN_SHA1, STUN_SHA256};
	uint8_t bytes[ROOM], tid[STUN_TRANSACTION_LEN] = {0};
	struct stun_message m;
	struct stun_writer w;
	uint64_t word;

	stun_begin(&w, bytes, sizeof(bytes), STUN_REQUEST, STUN_METHOD_REFRESH, tid);
	parse(bytes, stun_finish(&w), &m);
	assert_int_equal(stun_mac_word(&m), 0);
	for (size_t i = 0; i < COUNT(kinds); i++) { /* SHA-256 behind SHA-1 */
		size_t at = stun_finish(&w) + 4;

		stun_put_integrity(&w, kinds[i], (const uint8_t *)"k", 1);
		parse(bytes, stun_finish(&w), &m);
		memcpy(&word, bytes + at, sizeof(word));
		assert_true(word != 0 && stun_mac_word(&m) == word);
	}
	stun_begin(&w, bytes, sizeof(bytes), STUN_REQUEST, STUN_METHOD_REFRESH, tid);
	stun_put_u32(&w, STUN_ATTR_MESSAGE_INTEGRITY, 1);
	parse(bytes, stun_finish(&w), &m);
	assert_int_equal(stun_mac_word(&m), 0);
}

/* A thread remembers the last key of each kind: no order of keys may make it use another. */
static int count_wrong_hmacs(unsigned seed)
{
	static const struct {
		const char *key;
		size_t len;
	} keys[] = {
		{"", 0},
		{"k", 1},
		{"K", 1},
		{"kk", 2},
		{"exactly-as-long-as-the-block-of-either-digest-which-is-64-bytes..", 64},
		{"exactly-as-long-as-the-block-of-either-digest-which-is-64-bytes.!", 65},
		{"exactly-as-long-as-the-block-of-either-digest-which-is-64-bytes.?", 65},
	};
	const uint8_t text[] = "what the MAC is about";
	const struct stun_bytes parts[] = {{text, 4}, {text + 4, sizeof(text) - 4}};
	uint8_t mac[STUN_HMAC_MAX], wanted[EVP_MAX_MD_SIZE];

	int wrong = 0;

	for (int i = 0; i < 5000; i++) {
		size_t k = (size_t)rand_r(&seed) % COUNT(keys);
		enum stun_integrity kind = rand_r(&seed) % 2 ? STUN_SHA256 : STUN_SHA1;

		stun_hmac(kind, keys[k].key, keys[k].len, parts, 2, mac);
		wrong += !HMAC(kind == STUN_SHA256 ? EVP_sha256() : EVP_sha1(), keys[k].key,
				 (int)keys[k].len, text, sizeof(text), wanted, NULL) ||
			 memcmp(mac, wanted, stun_hmac_len(kind)) != 0;
	}
	return wrong;
}

static void *hmacs_of_another_thread(void *arg)
{
	int *seed = arg;

	*seed = count_wrong_hmacs((unsigned)*seed);
	return NULL;
}

static void test_hmacs_in_random_order(void **state)
{
	int seeds[] = {1, 2, 3}; /* then how many were wrong */
	pthread_t threads[COUNT(seeds)];

	for (size_t i = 0; i < COUNT(seeds); i++)
		assert_int_equal(
			pthread_create(&threads[i], NULL, hmacs_of_another_thread, &seeds[i]), 0);
	assert_int_equal(count_wrong_hmacs(4), 0);
	for (size_t i = 0; i < COUNT(seeds); i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_int_equal(seeds[i], 0);
	}
}

static void test_fingerprint(void **state)
{
	uint8_t bytes[ROOM];
	struct stun_message m;
	size_t len = from_hex(RESPONSE_V4, bytes);

	for (size_t bit = 8 * (len - 4); bit < 8 * len; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(stun_parse(bytes, len, &m), -EBADMSG);
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	/* The last attribute, but not of a fingerprint's length. */
	assert_int_equal(stun_parse(bytes, message_of("80280000", bytes), &m), -EBADMSG);
	assert_int_equal(
		stun_parse(bytes, message_of("802800050000000000000000", bytes), &m), -EBADMSG);
}

static void test_unknown_attributes(void **state)
{
	uint8_t bytes[ROOM], tid[STUN_TRANSACTION_LEN] = {0};
	struct stun_message m;
	struct stun_writer w;

	parse(bytes,
		message_of("7ff00000"
			   "0030000101000000"
			   "7ff00000"
			   "8fff0000"
			   "ff0500050102030405000000"
			   "000d00040000000a"
			   "40000000",
			bytes),
		&m);
	assert_int_equal(m.unknown_count, 3);
	assert_int_equal(m.unknown[0], 0x7ff0);
	assert_int_equal(m.unknown[1], 0x0030);
	assert_int_equal(m.unknown[2], 0x4000);

	stun_begin(&w, bytes, sizeof(bytes), STUN_REQUEST, STUN_METHOD_BINDING, tid);
	for (uint16_t i = 0; i < 300; i++)
		stun_put(&w, (uint16_t)(0x4000 + i), NULL, 0);
	parse(bytes, stun_finish(&w), &m);
	assert_int_equal(m.unknown_count, STUN_UNKNOWN_MAX);
}

static void test_duplicates(void **state)
{
	uint8_t bytes[ROOM];
	struct stun_message m;
	uint32_t value = 0;
	size_t cursor = 0;

	parse(bytes,
		message_of("000d00040000000a"
			   "80220000"
			   "000d00040000000b",
			bytes),
		&m);
	assert_int_equal(stun_read_u32(stun_find(&m, STUN_ATTR_LIFETIME), &value), 0);
	assert_int_equal(value, 10);
	for (uint32_t want = 10; want <= 11; want++) {
		assert_int_equal(
			stun_read_u32(stun_next(&m, STUN_ATTR_LIFETIME, &cursor), &value), 0);
		assert_int_equal(value, want);
	}
	for (int i = 0; i < 2; i++)
		assert_null(stun_next(&m, STUN_ATTR_LIFETIME, &cursor).value);
	/* Present and empty is not absent. */
	assert_non_null(stun_find(&m, STUN_ATTR_SOFTWARE).value);
	assert_int_equal(stun_find(&m, STUN_ATTR_SOFTWARE).len, 0);
}

/* The value and its length for every attribute this decoder knows and one it does not. */
static void read_all(const struct stun_message *m)
{
	static const enum stun_attribute_type types[] = {
#define X(value, name) STUN_ATTR_##name,
		STUN_ATTRIBUTES(X)
#undef X
	};
	volatile uint8_t sink = 0;
	struct tp_addr addr;
	uint32_t value;

	for (size_t i = 0; i < COUNT(types); i++) {
		struct stun_attribute a = stun_find(m, types[i]);

		for (size_t k = 0; a.value && k < a.len; k++)
			sink = (uint8_t)(sink + a.value[k]);
		assert_int_equal(stun_read_u32(a, &value) == 0, a.value && a.len == 4);
		stun_read_xor_address(m, a, &addr);
	}
	stun_check_integrity(m, (const uint8_t *)"k", 1);
}

/* Exactly sized heap copies at every misalignment, so that the sanitizers see one byte too far. */
static int parse_tight(const uint8_t *bytes, size_t len, struct stun_message *m)
{
	int err = 0;

	for (size_t offset = 0; offset < 4; offset++) {
		uint8_t *copy = malloc(offset + len + !(offset + len));

		assert_non_null(copy);
		if (len > 0)
			memcpy(copy + offset, bytes, len);
		err = stun_parse(copy + offset, len, m);
		if (!err)
			read_all(m);
		free(copy);
	}
	return err;
}

static void test_truncation(void **state)
{
	uint8_t bytes[ROOM];
	struct stun_message m;

	for (size_t i = 0; i < COUNT(vectors); i++) {
		size_t len = from_hex(vectors[i].hex, bytes);

		assert_int_equal(parse_tight(bytes, len, &m), 0);
		for (size_t cut = 0; cut < len; cut++) {
			assert_int_equal(parse_tight(bytes, cut, &m), -EBADMSG);
			if (cut < 20)
				continue;
			/* The same cut with a header that agrees. */
			bytes[2] = (uint8_t)((cut - 20) >> 8);
			bytes[3] = (uint8_t)(cut - 20);
			if (cut % 4)
				assert_int_equal(parse_tight(bytes, cut, &m), -EBADMSG);
			else
				parse_tight(bytes, cut, &m);
			from_hex(vectors[i].hex, bytes);
		}
	}
}

static void test_attribute_lengths(void **state)
{
	static const uint16_t types[] = {
#define X(value, name) STUN_ATTR_##name,
		STUN_ATTRIBUTES(X)
#undef X
			0x7ff0,
		0xc123};
	static const uint16_t lens[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
		17, 20, 32, 255, 0xfffc, 0xffff};
	uint8_t bytes[ROOM] = {0};
	struct stun_message m;

	for (size_t t = 0; t < COUNT(types) * COUNT(lens); t++) {
		uint16_t type = types[t / COUNT(lens)], attribute_len = lens[t % COUNT(lens)];

		for (size_t body = 4; body <= 40; body += 4) {
			bool fits = (attribute_len + 3u) / 4 * 4 + 4 <= body;
			int err;

			from_hex("00030000" COOKIE TID, bytes);
			memset(bytes + 20, 0, sizeof(bytes) - 20);
			bytes[3] = (uint8_t)body;
			bytes[20] = (uint8_t)(type >> 8);
			bytes[21] = (uint8_t)type;
			bytes[22] = (uint8_t)(attribute_len >> 8);
			bytes[23] = (uint8_t)attribute_len;
			err = parse_tight(bytes, 20 + body, &m);
			if (!fits)
				assert_int_equal(err, -EBADMSG);
			else if (type != STUN_ATTR_FINGERPRINT)
				assert_int_equal(err, 0);
		}
	}
}

static void test_xor_address_shapes(void **state)
{
	static const struct {
		const char *value;
		const char *want;
	} rows[] = {
		{"0001a147e112a643", "192.0.2.1:32853"},
		{"aa01a147e112a643", "192.0.2.1:32853"}, /* the first byte is ignored */
		{"0000a147e112a643", NULL},
		{"0003a147e112a643", NULL},
		{"0002a147e112a643", NULL},
		{"0001a147", NULL},
		{"0001a1", NULL},
		{"", NULL},
		{"0001a1470113a9faa5d3f179bc25f4b5bed2b9d9", NULL},
		{"0002a1470113a9faa5d3f179bc25f4b5bed2b9d900000000", NULL},
		{"0002a1470113a9faa5d3f179bc25f4b5bed2b9d9",
			"[2001:db8:1234:5678:11:2233:4455:6677]:32853"},
		{"000221422112a442b7e7a701bc342979858ddfaf", "[::ffff:127.0.0.1]:0"},
	};
	uint8_t bytes[ROOM], value[32];
	char text[TP_ADDR_TEXT];
	struct stun_message m;
	struct stun_writer w;
	struct tp_addr addr;

	for (size_t i = 0; i < COUNT(rows); i++) {
		size_t len = from_hex(rows[i].value, value);
		struct stun_attribute a;

		from_hex(TID, bytes);
		stun_begin(&w, bytes + 16, sizeof(bytes) - 16, STUN_REQUEST, 1, bytes);
		stun_put(&w, STUN_ATTR_XOR_PEER_ADDRESS, value, len);
		parse(bytes + 16, stun_finish(&w), &m);
		a = stun_find(&m, STUN_ATTR_XOR_PEER_ADDRESS);
		if (!rows[i].want) {
			assert_int_equal(stun_read_xor_address(&m, a, &addr), -EINVAL);
			continue;
		}
		assert_int_equal(stun_read_xor_address(&m, a, &addr), 0);
		if (strncmp(rows[i].want, "[::ffff", 7) == 0)
			assert_int_equal(addr.family, TP_IPV6);
		else
			assert_string_equal(tp_addr_text(&addr, text), rows[i].want);
	}
	assert_int_equal(
		stun_read_xor_address(&m, (struct stun_attribute){NULL, 0}, &addr), -EINVAL);
}

static void test_too_many_attributes(void **state)
{
	uint8_t bytes[ROOM], tid[STUN_TRANSACTION_LEN] = {0};
	struct timespec start, end;
	struct stun_message m;
	struct stun_writer w;
	long ns;

	stun_begin(&w, bytes, sizeof(bytes), STUN_REQUEST, STUN_METHOD_BINDING, tid);
	for (int i = 0; i < STUN_ATTRIBUTES_MAX; i++)
		stun_put(&w, 0x8fff, NULL, 0);
	parse(bytes, stun_finish(&w), &m);
	for (int i = STUN_ATTRIBUTES_MAX; i < 500; i++)
		stun_put(&w, 0x8fff, NULL, 0);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(stun_parse(bytes, stun_finish(&w), &m), -EBADMSG);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
	ns = (end.tv_sec - start.tv_sec) * 1000000000L + end.tv_nsec - start.tv_nsec;
	assert_true(ns / 1000 < 50000); /* 50 us each (F12) */
}

/* The decoder remembers nothing of a bad message (F18), and touches no result for it. */
static void test_bad_then_good(void **state)
{
	uint8_t bad[ROOM], good[ROOM];
	size_t bad_len = message_of("0006ffff00000000", bad), len = from_hex(REQUEST_LT, good);
	struct stun_message first, m;

	parse(good, len, &first);
	m = first;
	assert_int_equal(stun_parse(bad, bad_len, &m), -EBADMSG);
	assert_memory_equal(&m, &first, sizeof(m));
	memset(&m, 0, sizeof(m));
	parse(good, len, &m);
	assert_ptr_equal(m.bytes, first.bytes);
	assert_int_equal(m.attributes_end, first.attributes_end);
	assert_int_equal(m.integrity_at, first.integrity_at);
	assert_int_equal(m.unknown_count, first.unknown_count);
}

static void test_writer_reproduces_vectors(void **state)
{
	static const char password[] = "VOkJxbRl1RmTxUk/WvJxBt";
	static const struct {
		const char *address, *hex;
	} rows[] = {
		{"192.0.2.1:32853", RESPONSE_V4},
		{"[2001:db8:1234:5678:11:2233:4455:6677]:32853", RESPONSE_V6},
	};
	uint8_t want[ROOM], bytes[ROOM], tid[ROOM];
	struct stun_message m;
	struct stun_writer w;
	struct tp_addr addr;
	size_t len;

	from_hex(TID, tid);
	for (size_t i = 0; i < COUNT(rows); i++) {
		assert_int_equal(tp_addr_parse(rows[i].address, &addr), 0);
		memset(bytes, 0xee, sizeof(bytes));
		stun_begin(&w, bytes, sizeof(bytes), STUN_SUCCESS, STUN_METHOD_BINDING, tid);
		stun_put(&w, STUN_ATTR_SOFTWARE, "test vector", 11);
		stun_put_xor_address(&w, STUN_ATTR_XOR_MAPPED_ADDRESS, &addr);
		/* The printed messages pad with a space, we with zero: equal up to the MAC. */
		len = from_hex(rows[i].hex, want);
		assert_int_equal(bytes[20 + 4 + 11], 0);
		bytes[20 + 4 + 11] = ' ';
		stun_put_integrity(&w, STUN_SHA1, (const uint8_t *)password, sizeof(password) - 1);
		stun_put_fingerprint(&w);
		assert_int_equal(stun_finish(&w), len);
		assert_memory_equal(bytes, want, len);
		parse(bytes, len, &m);
	}
}

static void test_writer_padding(void **state)
{
	uint8_t bytes[ROOM], value[300], tid[STUN_TRANSACTION_LEN] = {0};
	struct stun_writer w;

	memset(value, 0xff, sizeof(value));
	for (size_t len = 0; len <= sizeof(value); len++) {
		size_t padded = (len + 3) / 4 * 4;

		memset(bytes, 0xee, sizeof(bytes));
		stun_begin(&w, bytes, sizeof(bytes), STUN_REQUEST, 1, tid);
		stun_put(&w, STUN_ATTR_NONCE, value, len);
		assert_int_equal(stun_finish(&w), 24 + padded);
		assert_int_equal(bytes[22] << 8 | bytes[23], len);
		assert_int_equal(bytes[2] << 8 | bytes[3], 4 + padded);
		for (size_t k = len; k < padded; k++)
			assert_int_equal(bytes[24 + k], 0);
		assert_int_equal(bytes[24 + padded], 0xee);
	}
}

static void test_writer_room(void **state)
{
	uint8_t bytes[ROOM], tid[STUN_TRANSACTION_LEN] = {0};
	size_t need = 20 + 12 + 12 + 24 + 36 + 8;
	struct tp_addr addr = tp_addr_make(TP_IPV4, "\xc0\x00\x02\x01", 80);
	struct stun_writer w;

	for (size_t size = 0; size <= need; size++) {
		uint8_t *tight = malloc(size + !size);

		assert_non_null(tight);
		stun_begin(&w, tight, size, STUN_REQUEST, 1, tid);
		stun_put(&w, STUN_ATTR_USERNAME, "alice", 5);
		stun_put_xor_address(&w, STUN_ATTR_XOR_PEER_ADDRESS, &addr);
		stun_put_integrity(&w, STUN_SHA1, (const uint8_t *)"k", 1);
		stun_put_integrity(&w, STUN_SHA256, (const uint8_t *)"k", 1);
		stun_put_fingerprint(&w);
		assert_int_equal(stun_finish(&w), size == need ? need : 0);
		free(tight);
	}
	stun_begin(&w, bytes, sizeof(bytes), STUN_REQUEST, 1, tid);
	stun_put(&w, STUN_ATTR_DATA, bytes, 0x10000);
	assert_int_equal(stun_finish(&w), 0);
}

static void test_error_codes(void **state)
{
	static const struct {
		enum stun_code code;
		uint32_t bytes;
	} rows[] = {{300, 0x0300}, {400, 0x0400}, {401, 0x0401}, {403, 0x0403}, {420, 0x0414},
		{437, 0x0425}, {438, 0x0426}, {440, 0x0428}, {441, 0x0429}, {442, 0x042a},
		{443, 0x042b}, {486, 0x0456}, {500, 0x0500}, {508, 0x0508}};
	uint8_t bytes[ROOM], tid[STUN_TRANSACTION_LEN] = {0};
	struct stun_message m;
	struct stun_writer w;
	uint32_t value;

	for (size_t i = 0; i < COUNT(rows); i++) {
		stun_begin(&w, bytes, sizeof(bytes), STUN_ERROR, STUN_METHOD_ALLOCATE, tid);
		stun_put_error(&w, rows[i].code);
		parse(bytes, stun_finish(&w), &m);
		assert_int_equal(stun_read_u32(stun_find(&m, STUN_ATTR_ERROR_CODE), &value), 0);
		assert_int_equal(value, rows[i].bytes);
	}
}

static void test_random_transactions(void **state)
{
	uint8_t a[20], b[20];
	struct stun_writer w;

	stun_begin(&w, a, sizeof(a), STUN_INDICATION, STUN_METHOD_DATA, NULL);
	assert_int_equal(stun_finish(&w), 20);
	stun_begin(&w, b, sizeof(b), STUN_INDICATION, STUN_METHOD_DATA, NULL);
	assert_memory_equal(a, b, 8);
	assert_memory_not_equal(a + 8, b + 8, STUN_TRANSACTION_LEN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_every_bit_is_covered),
		cmocka_unit_test(test_vector_contents),
		cmocka_unit_test(test_headers),
		cmocka_unit_test(test_types),
		cmocka_unit_test(test_integrity_ends_attributes),
		cmocka_unit_test(test_which_integrity_decides),
		cmocka_unit_test(test_truncated_integrity),
		cmocka_unit_test(test_mac_word),
		cmocka_unit_test(test_fingerprint),
		cmocka_unit_test(test_unknown_attributes),
		cmocka_unit_test(test_duplicates),
		cmocka_unit_test(test_truncation),
		cmocka_unit_test(test_attribute_lengths),
		cmocka_unit_test(test_hmacs_in_random_order),
		cmocka_unit_test(test_xor_address_shapes),
		cmocka_unit_test(test_too_many_attributes),
		cmocka_unit_test(test_bad_then_good),
		cmocka_unit_test(test_writer_reproduces_vectors),
		cmocka_unit_test(test_writer_padding),
		cmocka_unit_test(test_writer_room),
		cmocka_unit_test(test_error_codes),
		cmocka_unit_test(test_random_transactions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
