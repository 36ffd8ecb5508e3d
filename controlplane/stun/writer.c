/* Encoding STUN messages into a caller's buffer. No state; any thread; does not block. */
#include "stun.h"
#include "wire.h"

#include "base/random.h"

#include <string.h>

/* The header counts in 16 bits, in fours. */
#define MESSAGE_MAX ((size_t)STUN_HEADER_LEN + 0xfffc)

static uint16_t message_type(enum stun_class class, uint16_t method)
{
	return (uint16_t)(class | (method & 0x000f) | (method & 0x0070) << 1 |
			  (method & 0x0f80) << 2);
}

static bool has_room(const struct stun_writer *w, size_t more)
{
	size_t limit = w->size < MESSAGE_MAX ? w->size : MESSAGE_MAX;

	return !w->overflow && w->len <= limit && more <= limit - w->len;
}

void stun_begin(struct stun_writer *w, uint8_t *bytes, size_t size, enum stun_class class,
	uint16_t method, const uint8_t *transaction)
{
	*w = (struct stun_writer){.bytes = bytes, .size = size};
	if (!has_room(w, STUN_HEADER_LEN)) {
		w->overflow = true;
		return;
	}
	stun_store16(bytes, message_type(class, method));
	stun_store16(bytes + 2, 0);
	stun_store32(bytes + 4, STUN_COOKIE);
	if (transaction)
		memcpy(bytes + 8, transaction, STUN_TRANSACTION_LEN);
	else if (!tp_random(bytes + 8, STUN_TRANSACTION_LEN))
		w->overflow = true;
	w->len = STUN_HEADER_LEN;
}

void stun_put(struct stun_writer *w, uint16_t type, const void *value, size_t len)
{
	size_t padded = stun_padded(len);
	uint8_t *p;

	if (len > UINT16_MAX || !has_room(w, STUN_ATTRIBUTE_HEADER_LEN + padded)) {
		w->overflow = true;
		return;
	}
	p = w->bytes + w->len;
	stun_store16(p, type);
	stun_store16(p + 2, (uint16_t)len);
	p += STUN_ATTRIBUTE_HEADER_LEN;
	if (len > 0)
		memcpy(p, value, len);
	memset(p + len, 0, padded - len);
	w->len += STUN_ATTRIBUTE_HEADER_LEN + padded;
	stun_store16(w->bytes + 2, (uint16_t)(w->len - STUN_HEADER_LEN));
}

void stun_put_u32(struct stun_writer *w, uint16_t type, uint32_t value)
{
	uint8_t bytes[4];

	stun_store32(bytes, value);
	stun_put(w, type, bytes, sizeof(bytes));
}

void stun_put_xor_address(struct stun_writer *w, uint16_t type, const struct tp_addr *a)
{
	size_t ip_len = tp_addr_bytes_len(a);
	uint8_t value[20] = {0};

	if (w->overflow)
		return;
	value[1] = a->family == TP_IPV4 ? STUN_WIRE_IPV4 : STUN_WIRE_IPV6;
	stun_store16(value + 2, a->port ^ (uint16_t)(STUN_COOKIE >> 16));
	stun_xor_ip(w->bytes, tp_addr_bytes(a), ip_len, value + 4);
	stun_put(w, type, value, 4 + ip_len);
}

void stun_put_error(struct stun_writer *w, enum stun_code code)
{
	/* No reason phrase: it would only make the answer bigger (threat F15). */
	stun_put_u32(w, STUN_ATTR_ERROR_CODE, (uint32_t)code / 100 << 8 | (uint32_t)code % 100);
}

size_t stun_finish(struct stun_writer *w)
{
	return w->overflow ? 0 : w->len;
}
