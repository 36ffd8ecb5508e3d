#include "books.h"

#include "tests/perf/clients.h"

#include <arpa/inet.h>
#include <string.h>

_Static_assert(sizeof(struct stamp) == 32, "no padding: it is compared with what was sent");

size_t stamp_write(uint8_t *out, const struct stamp *stamp, bool channeldata)
{
	const uint16_t header[] = {htons(CLIENTS_FIRST_CHANNEL), htons(stamp->size)};
	size_t at = channeldata ? sizeof(header) : 0;

	memcpy(out, header, at);
	memcpy(out + at, stamp, sizeof(*stamp));
	return at + stamp->size;
}

size_t stamp_time_at(bool channeldata)
{
	return (channeldata ? CHANNELDATA_HEADER : 0) + offsetof(struct stamp, sent_ns);
}

/* What was sent to a client has to come on its channel. Behind it there may be up to three bytes
 * of padding (RFC 8656, 12.5). */
static bool unwrap(const uint8_t **bytes, size_t *len)
{
	uint16_t header[2], data;

	if (*len < sizeof(header))
		return false;
	memcpy(header, *bytes, sizeof(header));
	data = ntohs(header[1]);
	if (header[0] != htons(CLIENTS_FIRST_CHANNEL) || *len - sizeof(header) < data ||
		*len - sizeof(header) > ((size_t)data + 3) / 4 * 4)
		return false;
	*bytes += sizeof(header);
	*len = data;
	return true;
}

/* Or of an earlier step. */
static bool is_ours(const struct books *b, const uint8_t *bytes, size_t len, struct stamp *stamp)
{
	if ((b->direction == DIRECTION_DOWN && !unwrap(&bytes, &len)) || len < sizeof(*stamp))
		return false;
	memcpy(stamp, bytes, sizeof(*stamp));
	if ((stamp->run ^ b->run) >> 16 == 0 && stamp->run != b->run)
		return true;
	return stamp->run == b->run && stamp->direction == (uint16_t)b->direction &&
	       stamp->size == len && stamp->flow < b->flows;
}

/* Only the receiver adds, so this needs no locked instruction. */
static void add_one(_Atomic uint64_t *counter)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
		memory_order_relaxed);
}

void books_take(struct books *b, const uint8_t *bytes, size_t len, uint64_t now_ns)
{
	struct stamp stamp;

	if (!is_ours(b, bytes, len, &stamp)) {
		b->foreign++;
		return;
	}
	if (stamp.run != b->run)
		return;
	add_one(&b->arrived);
	if (stamp.sent_ns < b->from_ns)
		return;
	switch (track(&b->trackers[stamp.flow], stamp.number)) {
	case TRACK_DUPLICATE:
		b->duplicated++;
		return;
	case TRACK_TOO_LATE:
		b->too_late++;
		return;
	case TRACK_REORDERED:
		b->reordered++;
		break;
	case TRACK_NEW:
		break;
	}
	add_one(&b->relayed);
	b->latencies[histogram_index(now_ns - stamp.sent_ns)]++;
}
