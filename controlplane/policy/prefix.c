/* Prefixes and sets of them. A set is its owner's; nothing here blocks. */
#include "prefix.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An IPv4 prefix has the 96 bits of the v4-mapped form in front. */
static unsigned int bits_before(uint8_t family)
{
	return family == TP_IPV4 ? 96 : 0;
}

static void cut(uint8_t ip[16], unsigned int bits)
{
	for (unsigned int i = 0; i < 16; i++) {
		unsigned int kept = bits > 8 * i ? bits - 8 * i : 0;

		if (kept < 8)
			ip[i] &= (uint8_t)(0xff00 >> kept);
	}
}

/* Half an address, as a number. */
static uint64_t half_of(const uint8_t ip[16], size_t half)
{
	uint64_t word;

	memcpy(&word, ip + 8 * half, sizeof(word));
	return be64toh(word);
}

/* How many leading bits are the same. */
static unsigned int common_bits(const uint8_t a[16], const uint8_t b[16])
{
	uint64_t high = half_of(a, 0) ^ half_of(b, 0);
	uint64_t low = half_of(a, 1) ^ half_of(b, 1);

	if (high)
		return (unsigned int)__builtin_clzll(high);
	return low ? 64 + (unsigned int)__builtin_clzll(low) : 128;
}

int prefix_make(const struct tp_addr *ip, uint8_t length, struct prefix *out)
{
	unsigned int bits = bits_before(ip->family) + length;

	if (ip->family == TP_NO_FAMILY || bits > 128)
		return -EINVAL;
	*out = (struct prefix){.ip = tp_addr_with_port(ip, 0), .bits = (uint8_t)bits};
	cut(out->ip.ip, bits);
	return 0;
}

/* Decimal without sign, at most three digits. */
static int parse_length(const char *text, unsigned int *out)
{
	unsigned int value = 0, digits = 0;

	for (; text[digits] >= '0' && text[digits] <= '9' && digits < 3; digits++)
		value = value * 10 + (unsigned int)(text[digits] - '0');
	if (digits == 0 || text[digits] != '\0')
		return -EINVAL;
	*out = value;
	return 0;
}

static int wrong(char error[128], const char *text, const char *what)
{
	snprintf(error, 128, "%.60s: %s", text, what);
	return -EINVAL;
}

int prefix_parse(const char *text, struct prefix *out, char error[128])
{
	const char *slash = strchr(text, '/');
	size_t len = slash ? (size_t)(slash - text) : strlen(text);
	char address[TP_ADDR_TEXT], right[TP_ADDR_TEXT];
	unsigned int length, whole;
	struct tp_addr ip;

	snprintf(address, sizeof(address), "%.*s", len < sizeof(address) ? (int)len : 0, text);
	if (tp_addr_parse_ip(address, &ip) < 0)
		return wrong(error, text, "no IP address; expected one like 10.1.0.0/16");
	whole = ip.family == TP_IPV4 ? 32 : 128;
	length = whole;
	if (slash && parse_length(slash + 1, &length) < 0)
		return wrong(error, text, "no prefix length behind the slash");
	if (length > whole)
		return wrong(error, text,
			whole == 32 ? "prefix length is over 32" : "prefix length is over 128");
	prefix_make(&ip, (uint8_t)length, out);
	if (!tp_addr_equal_ip(&ip, &out->ip)) {
		snprintf(error, 128, "%.44s: bits set behind the prefix; try %.45s/%u", text,
			tp_addr_ip_text(&out->ip, right), (uint8_t)length);
		return -EINVAL;
	}
	return 0;
}

void prefix_text(const struct prefix *prefix, char out[POLICY_RULE_SIZE])
{
	uint8_t length = (uint8_t)(prefix->bits - bits_before(prefix->ip.family));
	char ip[TP_ADDR_TEXT];

	snprintf(out, POLICY_RULE_SIZE, "%s %.45s/%u (%.36s)", prefix->allow ? "allow" : "deny",
		tp_addr_ip_text(&prefix->ip, ip), length, prefix->reason);
}

void prefix_set_free(struct prefix_set *set)
{
	free(set->list);
	*set = (struct prefix_set){0};
}

/* A prefix stands before all that lie in it. */
static int compare(const struct prefix *a, const struct prefix *b)
{
	if (a->ip.family != b->ip.family)
		return a->ip.family < b->ip.family ? -1 : 1;
	for (size_t half = 0; half < 2; half++) {
		uint64_t left = half_of(a->ip.ip, half), right = half_of(b->ip.ip, half);

		if (left != right)
			return left < right ? -1 : 1;
	}
	return a->bits - b->bits;
}

/* How many stand before or at the place of that prefix. */
static size_t count_up_to(const struct prefix_set *set, const struct prefix *prefix)
{
	size_t low = 0, high = set->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (compare(&set->list[middle], prefix) <= 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int make_room(struct prefix_set *set)
{
	size_t room = set->room ? 2 * set->room : 16;
	struct prefix *list;

	if (set->count < set->room)
		return 0;
	list = reallocarray(set->list, room, sizeof(*list));
	if (!list)
		return -ENOMEM;
	set->list = list;
	set->room = room;
	return 0;
}

int prefix_set_add(struct prefix_set *set, const struct prefix *prefix)
{
	size_t at = count_up_to(set, prefix);
	int err;

	if (at > 0 && compare(&set->list[at - 1], prefix) == 0) {
		if (!prefix->allow)
			set->list[at - 1] = *prefix;
		return 0;
	}
	err = make_room(set);
	if (err)
		return err;
	memmove(&set->list[at + 1], &set->list[at], (set->count - at) * sizeof(*prefix));
	set->list[at] = *prefix;
	set->count++;
	return 0;
}

const struct prefix *prefix_set_match(const struct prefix_set *set, const struct tp_addr *ip)
{
	struct prefix wanted = {.ip = *ip, .bits = 128};

	for (;;) {
		size_t at = count_up_to(set, &wanted);
		const struct prefix *found = at > 0 ? &set->list[at - 1] : NULL;
		unsigned int common;

		if (!found || found->ip.family != ip->family)
			return NULL;
		common = common_bits(found->ip.ip, ip->ip);
		if (common >= found->bits)
			return found;
		/* What holds both is shorter than what they share; `common` falls every time. */
		wanted.bits = (uint8_t)common;
		cut(wanted.ip.ip, common);
	}
}
