#include "range.h"

#include <errno.h>

/* Ranges stay within the last 32 bits of an address. */
static uint32_t last_word(const struct tp_addr *a)
{
	return (uint32_t)a->ip[12] << 24 | (uint32_t)a->ip[13] << 16 | (uint32_t)a->ip[14] << 8 |
	       a->ip[15];
}

int range_check(const struct range *r)
{
	if (r->addresses == 0 || r->addresses - 1 > UINT32_MAX - last_word(&r->first))
		return -ERANGE;
	if (r->ports == 0 || r->ports - 1 > UINT16_MAX - (uint32_t)r->first.port)
		return -ERANGE;
	return 0;
}

struct tp_addr range_at(const struct range *r, uint32_t index)
{
	uint32_t word = last_word(&r->first) + index % r->addresses;
	struct tp_addr out =
		tp_addr_with_port(&r->first, (uint16_t)(r->first.port + index / r->addresses));

	for (int i = 0; i < 4; i++)
		out.ip[15 - i] = (uint8_t)(word >> 8 * i);
	return out;
}

bool range_find(const struct range *r, const struct tp_addr *a, uint32_t *index)
{
	uint32_t address = last_word(a) - last_word(&r->first);
	uint32_t port = (uint32_t)a->port - r->first.port;

	if (a->family != r->first.family || memcmp(a->ip, r->first.ip, 12) != 0 ||
		address >= r->addresses || port >= r->ports)
		return false;
	*index = port * r->addresses + address;
	return true;
}
