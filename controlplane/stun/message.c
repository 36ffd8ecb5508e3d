/* Decoding STUN messages. No state; any thread; does not block. Bounds before touch, always. */
#include "stun.h"
#include "wire.h"

#include <errno.h>
#include <string.h>

/* One attribute of a walk: its place in the message and the place of the next. */
struct step {
	uint16_t type;
	struct stun_attribute attribute;
	size_t at;
	size_t next;
};

/* -EBADMSG: it runs past the end of the message. */
static int step_at(const uint8_t *bytes, size_t len, size_t at, struct step *out)
{
	size_t room = len - at;
	uint16_t value_len;

	if (room < STUN_ATTRIBUTE_HEADER_LEN)
		return -EBADMSG;
	value_len = stun_load16(bytes + at + 2);
	if (stun_padded(value_len) > room - STUN_ATTRIBUTE_HEADER_LEN)
		return -EBADMSG;
	out->type = stun_load16(bytes + at);
	out->at = at;
	out->attribute.value = bytes + at + STUN_ATTRIBUTE_HEADER_LEN;
	out->attribute.len = value_len;
	out->next = at + STUN_ATTRIBUTE_HEADER_LEN + stun_padded(value_len);
	return 0;
}

/* STUN_INDEX_END: not known. */
static enum stun_attribute_index index_of(uint16_t type)
{
	switch (type) {
#define X(value, name)                                                                             \
	case STUN_ATTR_##name:                                                                     \
		return STUN_INDEX_##name;
		STUN_ATTRIBUTES(X)
#undef X
	default:
		return STUN_INDEX_END;
	}
}

static void note_unknown(struct stun_message *m, uint16_t type)
{
	for (size_t i = 0; i < m->unknown_count; i++)
		if (m->unknown[i] == type)
			return;
	if (m->unknown_count < STUN_UNKNOWN_MAX)
		m->unknown[m->unknown_count++] = type;
}

static void on_other(struct stun_message *m, const struct step *s)
{
	enum stun_attribute_index index = index_of(s->type);

	if (m->attributes_end != m->len)
		return;
	if (index == STUN_INDEX_END && s->type < 0x8000)
		note_unknown(m, s->type);
	else if (index != STUN_INDEX_END && !m->first[index])
		m->first[index] = (uint16_t)(s->at / 4);
}

/* What the attribute ends is what it does not cover: the first one decides (RFC 8489, 9). */
static void end_attributes(struct stun_message *m, size_t at)
{
	if (m->attributes_end == m->len)
		m->attributes_end = at;
}

static int on_fingerprint(struct stun_message *m, const struct step *s)
{
	end_attributes(m, s->at);
	/* Not the last attribute: it is none, and nothing behind it is acted on (14.7). */
	if (s->next != m->len)
		return 0;
	if (s->attribute.len != STUN_FINGERPRINT_LEN ||
		stun_load32(s->attribute.value) != stun_fingerprint(m->bytes, s->at))
		return -EBADMSG;
	m->has_fingerprint = true;
	return 0;
}

/* `stray` tells that a FINGERPRINT has gone by: what follows it is not looked at. */
static int on_attribute(struct stun_message *m, const struct step *s, bool *stray)
{
	if (*stray)
		return 0;
	switch (s->type) {
	case STUN_ATTR_FINGERPRINT:
		*stray = true;
		return on_fingerprint(m, s);
	case STUN_ATTR_MESSAGE_INTEGRITY:
		/* Behind MESSAGE-INTEGRITY-SHA256 it is one of the ignored. */
		if (!m->integrity_at && !m->integrity256_at)
			m->integrity_at = s->at;
		end_attributes(m, s->at);
		return 0;
	case STUN_ATTR_MESSAGE_INTEGRITY_SHA256:
		if (!m->integrity256_at)
			m->integrity256_at = s->at;
		end_attributes(m, s->at);
		return 0;
	default:
		on_other(m, s);
		return 0;
	}
}

static int walk(struct stun_message *m)
{
	size_t count = 0;
	bool stray = false;
	struct step s;
	int err = 0;

	for (size_t at = STUN_HEADER_LEN; at < m->len && !err; at = s.next) {
		if (++count > STUN_ATTRIBUTES_MAX)
			return -EBADMSG;
		err = step_at(m->bytes, m->len, at, &s);
		if (err < 0)
			return err;
		err = on_attribute(m, &s, &stray);
	}
	return err;
}

bool stun_is(const uint8_t *bytes, size_t len)
{
	return len >= STUN_HEADER_LEN && (bytes[0] & 0xc0) == 0 &&
	       stun_load32(bytes + 4) == STUN_COOKIE;
}

int stun_parse(const uint8_t *bytes, size_t len, struct stun_message *out)
{
	struct stun_message m = {.bytes = bytes, .len = len, .attributes_end = len};
	uint16_t type;
	int err;

	if (!stun_is(bytes, len) || len % 4 != 0 ||
		(size_t)stun_load16(bytes + 2) + STUN_HEADER_LEN != len)
		return -EBADMSG;
	type = stun_load16(bytes);
	m.class = type & STUN_CLASS_MASK;
	m.method = (uint16_t)((type & 0x000f) | (type & 0x00e0) >> 1 | (type & 0x3e00) >> 2);
	m.transaction = bytes + 8;
	err = walk(&m);
	if (err)
		return err;
	*out = m;
	return 0;
}

struct stun_attribute stun_next(
	const struct stun_message *m, enum stun_attribute_type type, size_t *cursor)
{
	size_t at = *cursor ? *cursor : STUN_HEADER_LEN;
	struct step s;

	for (; at < m->attributes_end; at = s.next) {
		if (step_at(m->bytes, m->attributes_end, at, &s) < 0)
			break;
		if (s.type == type) {
			*cursor = s.next;
			return s.attribute;
		}
	}
	*cursor = m->attributes_end;
	return (struct stun_attribute){NULL, 0};
}

struct stun_attribute stun_find(const struct stun_message *m, enum stun_attribute_type type)
{
	enum stun_attribute_index index = index_of(type);
	size_t at = index == STUN_INDEX_END ? 0 : (size_t)m->first[index] * 4;

	if (!at)
		return (struct stun_attribute){NULL, 0};
	return (struct stun_attribute){
		m->bytes + at + STUN_ATTRIBUTE_HEADER_LEN, stun_load16(m->bytes + at + 2)};
}

int stun_read_xor_address(
	const struct stun_message *m, struct stun_attribute a, struct tp_addr *out)
{
	enum tp_family family;
	uint8_t ip[16];

	if (!a.value || a.len < 4)
		return -EINVAL;
	if (a.value[1] == STUN_WIRE_IPV4 && a.len == 8)
		family = TP_IPV4;
	else if (a.value[1] == STUN_WIRE_IPV6 && a.len == 20)
		family = TP_IPV6;
	else
		return -EINVAL;
	stun_xor_ip(m->bytes, a.value + 4, a.len - 4u, ip);
	*out = tp_addr_make(family, ip, stun_load16(a.value + 2) ^ (uint16_t)(STUN_COOKIE >> 16));
	return 0;
}

int stun_read_u32(struct stun_attribute a, uint32_t *out)
{
	if (!a.value || a.len != 4)
		return -EINVAL;
	*out = stun_load32(a.value);
	return 0;
}
