/*
 * stun/: what arrives is parsed and read in every way there is; what is written parses to the same.
 */
#include "fuzz.h"

#include "controlplane/stun/stun.h"

static const uint16_t types[] = {
#define X(type, name) type,
	STUN_ATTRIBUTES(X)
#undef X
};

static const uint8_t key[16] = "0123456789abcde";

static void check_place(const struct stun_message *m, struct stun_attribute a)
{
	if (!a.value)
		return;
	MUST(a.value >= m->bytes + STUN_HEADER_LEN + 4);
	MUST(a.value + a.len <= m->bytes + m->len);
}

static void read_all(const struct stun_message *m, uint16_t type)
{
	struct stun_attribute first = stun_find(m, type), a;
	size_t cursor = 0, seen = 0;
	struct tp_addr address;
	uint32_t number;

	while ((a = stun_next(m, type, &cursor)).value) {
		MUST(seen++ > 0 || (first.value == a.value && first.len == a.len));
		MUST(seen <= STUN_ATTRIBUTES_MAX);
		check_place(m, a);
		fuzz_touch(a.value, a.len);
		if (stun_read_xor_address(m, a, &address) == 0) {
			MUST(a.len == (address.family == TP_IPV4 ? 8 : 20));
			MUST(address.family == TP_IPV4 || address.family == TP_IPV6);
		}
		if (stun_read_u32(a, &number) == 0)
			MUST(a.len == 4);
	}
	MUST(seen > 0 || !first.value);
}

static void check_unknown(const struct stun_message *m)
{
	MUST(m->unknown_count <= STUN_UNKNOWN_MAX);
	for (uint8_t i = 0; i < m->unknown_count; i++) {
		MUST(m->unknown[i] < 0x8000);
		for (uint8_t j = 0; j < i; j++)
			MUST(m->unknown[i] != m->unknown[j]);
		for (size_t k = 0; k < COUNT(types); k++)
			MUST(m->unknown[i] != types[k] || types[k] == STUN_ATTR_USERHASH);
	}
}

static void read_message(const uint8_t *data, size_t size)
{
	struct stun_message m;

	if (stun_parse(data, size, &m) < 0)
		return;
	MUST(stun_is(data, size));
	MUST(m.len == size && m.method <= 0xfff && m.attributes_end <= size);
	MUST(m.integrity_at <= size && m.integrity256_at <= size);
	check_unknown(&m);
	for (size_t i = 0; i < COUNT(types); i++)
		read_all(&m, types[i]);
	stun_check_integrity(&m, key, sizeof(key));
}

/* Cookie and length put right, so that more than the first check is met. */
static void read_mended(const uint8_t *data, size_t size)
{
	size_t len = size & ~(size_t)3;
	uint8_t *copy;

	if (len < STUN_HEADER_LEN || len - STUN_HEADER_LEN > UINT16_MAX)
		return;
	copy = malloc(len);
	MUST(copy);
	memcpy(copy, data, len);
	copy[0] &= 0x3f;
	copy[2] = (uint8_t)((len - STUN_HEADER_LEN) >> 8);
	copy[3] = (uint8_t)(len - STUN_HEADER_LEN);
	memcpy(copy + 4, "\x21\x12\xa4\x42", 4);
	read_message(copy, len);
	free(copy);
}

struct written {
	uint16_t type;
	struct feed value;
};

static bool is_special(uint16_t type)
{
	return type == STUN_ATTR_MESSAGE_INTEGRITY || type == STUN_ATTR_MESSAGE_INTEGRITY_SHA256 ||
	       type == STUN_ATTR_FINGERPRINT;
}

static size_t put_attributes(struct feed *feed, struct stun_writer *w, struct written out[16])
{
	size_t count = 0;

	for (uint8_t left = feed_u8(feed) % 16; left > 0; left--) {
		uint8_t pick = feed_u8(feed);
		uint16_t type = pick < COUNT(types) ? types[pick] : feed_u16(feed);

		if (is_special(type))
			continue;
		out[count] = (struct written){type, feed_take(feed, feed_u8(feed))};
		stun_put(w, type, out[count].value.bytes, out[count].value.len);
		count++;
	}
	return count;
}

static void check_written(const struct stun_message *m, const struct written *list, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct stun_attribute a = {0};
		size_t cursor = 0;

		for (size_t j = 0; j <= i; j++)
			if (list[j].type == list[i].type)
				a = stun_next(m, list[i].type, &cursor);
		MUST(a.value && a.len == list[i].value.len);
		MUST(a.len == 0 || memcmp(a.value, list[i].value.bytes, a.len) == 0);
	}
}

static void check_address(struct feed *feed, const uint8_t *transaction)
{
	enum tp_family family = feed_u8(feed) & 1 ? TP_IPV6 : TP_IPV4;
	uint8_t ip[16] = {0}, bytes[64];
	struct feed given = feed_take(feed, 16);
	struct stun_message m;
	struct stun_writer w;
	struct tp_addr in, out;

	memcpy(ip, given.bytes, given.len);
	in = tp_addr_make(family, ip, feed_u16(feed));
	stun_begin(&w, bytes, sizeof(bytes), STUN_REQUEST, STUN_METHOD_BINDING, transaction);
	stun_put_xor_address(&w, STUN_ATTR_XOR_PEER_ADDRESS, &in);
	MUST(stun_parse(bytes, stun_finish(&w), &m) == 0);
	MUST(stun_read_xor_address(&m, stun_find(&m, STUN_ATTR_XOR_PEER_ADDRESS), &out) == 0);
	MUST(tp_addr_equal(&in, &out));
}

static void write_and_read(struct feed feed)
{
	static const enum stun_class classes[] = {
		STUN_REQUEST, STUN_INDICATION, STUN_SUCCESS, STUN_ERROR};
	uint8_t choice = feed_u8(&feed), transaction[STUN_TRANSACTION_LEN] = {0};
	uint16_t method = feed_u16(&feed) & 0xfff;
	size_t size = choice & 0x80 ? feed_u16(&feed) % 256 : 8192, len, count;
	struct feed id = feed_take(&feed, sizeof(transaction));
	enum stun_integrity kind = choice >> 2 & 3;
	uint8_t *bytes = malloc(size ? size : 1);
	struct written list[16];
	struct stun_message m;
	struct stun_writer w;

	MUST(bytes);
	memcpy(transaction, id.bytes, id.len);
	stun_begin(&w, bytes, size, classes[choice & 3], method, transaction);
	count = put_attributes(&feed, &w, list);
	if (kind == STUN_SHA1 || kind == STUN_SHA256)
		stun_put_integrity(&w, kind, key, sizeof(key));
	if (choice & 0x10)
		stun_put_fingerprint(&w);
	len = stun_finish(&w);
	MUST(len <= size && (size < 8192 || len > 0));
	if (len > 0) {
		MUST(stun_parse(bytes, len, &m) == 0);
		MUST(m.class == classes[choice & 3] && m.method == method);
		MUST(memcmp(m.transaction, transaction, sizeof(transaction)) == 0);
		MUST(m.has_fingerprint == !!(choice & 0x10));
		MUST((kind == STUN_SHA1) == (m.integrity_at != 0));
		MUST((kind == STUN_SHA256) == (m.integrity256_at != 0));
		MUST(stun_check_integrity(&m, key, sizeof(key)) ==
			(kind == STUN_SHA1 || kind == STUN_SHA256));
		MUST(!stun_check_integrity(&m, key, sizeof(key) - 2));
		check_written(&m, list, count);
	}
	free(bytes);
	check_address(&feed, transaction);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	read_message(data, size);
	read_mended(data, size);
	write_and_read((struct feed){data, size});
	return 0;
}
