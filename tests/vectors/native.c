#include "runner.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "dataplane/worker/host.h"

#include "dataplane/core/burst.h"

static struct tp_host host_of(const struct world *world)
{
	struct tp_host host = tp_host_over(&world->memory, world->interfaces, 0);

	host.now_ns = tp_clock_now_ns();
	host.ticks = tp_ticks(host.now_ns);
	host.outputs = world->outputs;
	return host;
}

static enum tp_verdict relay_burst(struct tp_host *host, struct tp_packet *pkt)
{
	enum tp_verdict verdict;

	tp_relay_burst(host, pkt, &verdict, 1);
	return verdict;
}

static enum tp_verdict relay(struct tp_host *host, struct tp_packet *pkt)
{
	return tp_relay(host, pkt);
}

static void run(const struct world *world, const struct frame *in, size_t headroom,
	enum tp_verdict (*work)(struct tp_host *, struct tp_packet *), struct outcome *out)
{
	static uint64_t random;
	struct tp_host host = host_of(world);
	size_t room = headroom + in->len + (headroom ? TAILROOM : 0);
	TP_AUTO_FREE uint8_t *buffer = malloc(room ? room : 1);
	struct tp_packet pkt;

	if (!buffer)
		abort();
	if (in->len)
		memcpy(buffer + headroom, in->bytes, in->len);
	pkt = (struct tp_packet){
		.data = buffer + headroom,
		.end = buffer + headroom + in->len,
		.room = buffer,
		.room_end = buffer + room,
		.ingress = WORLD_INGRESS,
	};
	host.random = random;
	out->verdict = work(&host, &pkt);
	random = host.random;
	out->egress = pkt.egress;
	out->output = pkt.is_rewritten;
	out->frame.len = (size_t)(pkt.end - pkt.data);
	if (out->output)
		frame_wrap(pkt.data, out->frame.len, &out->frame);
	else if (out->frame.len)
		memcpy(out->frame.bytes, pkt.data, out->frame.len);
	if (out->verdict == TP_RELAYED || out->output)
		frame_forget_random(in, &out->frame, out->transaction);
}

void native_run(
	const struct world *world, const struct frame *in, size_t headroom, struct outcome *out)
{
	run(world, in, headroom, relay, out);
}

void native_run_burst(
	const struct world *world, const struct frame *in, size_t headroom, struct outcome *out)
{
	run(world, in, headroom, relay_burst, out);
}

bool frame_equal(const struct frame *a, const struct frame *b)
{
	return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}
