#include "runner.h"

#include <stdlib.h>
#include <string.h>

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

/* A packet alone in memory that is as large as it says; free pkt.room. */
static struct tp_packet hold(const struct frame *in, size_t headroom)
{
	size_t room = headroom + in->len + (headroom ? TAILROOM : 0);
	uint8_t *buffer = malloc(room ? room : 1);

	if (!buffer)
		abort();
	if (in->len)
		memcpy(buffer + headroom, in->bytes, in->len);
	return (struct tp_packet){
		.data = buffer + headroom,
		.end = buffer + headroom + in->len,
		.room = buffer,
		.room_end = buffer + room,
		.ingress = WORLD_INGRESS,
	};
}

static void let_go(struct tp_packet *pkt, const struct frame *in, struct outcome *out)
{
	out->egress = pkt->egress;
	out->output = pkt->is_rewritten;
	out->frame.len = (size_t)(pkt->end - pkt->data);
	if (out->output)
		frame_wrap(pkt->data, out->frame.len, &out->frame);
	else if (out->frame.len)
		memcpy(out->frame.bytes, pkt->data, out->frame.len);
	if (out->verdict == TP_RELAYED || out->output)
		frame_forget_random(in, &out->frame, out->transaction);
	free(pkt->room);
}

static uint64_t random_state;

void native_run(
	const struct world *world, const struct frame *in, size_t headroom, struct outcome *out)
{
	struct tp_host host = host_of(world);
	struct tp_packet pkt = hold(in, headroom);

	host.random = random_state;
	out->verdict = tp_relay(&host, &pkt);
	random_state = host.random;
	let_go(&pkt, in, out);
}

void native_run_revoked(const struct world *world, const struct frame *in, struct outcome *out)
{
	struct tp_host host = host_of(world);
	struct tp_packet pkt = hold(in, HEADROOM);
	struct tp_found found = TP_NOTHING_FOUND;
	struct tp_asked asked;
	uint64_t ident;

	if (tp_begin_common(&host, &pkt, host.config, true, &asked) ||
		tp_begin_common(&host, &pkt, host.config, false, &asked))
		found = tp_find_flow(&host, host.config, &asked.key);
	if (!found.flow)
		abort();
	ident = found.flow->key.ident;
	found.flow->key.ident = 0;
	out->verdict = tp_relay_any(&host, &pkt, &asked, found);
	found.flow->key.ident = ident;
	let_go(&pkt, in, out);
}

void native_run_burst(const struct world *world, const struct frame *in, uint32_t count,
	size_t headroom, struct outcome *out)
{
	struct tp_host host = host_of(world);
	enum tp_verdict verdicts[TP_BURST];
	struct tp_packet pkts[TP_BURST];
	bool all = true;

	for (uint32_t i = 0; i < count; i++)
		pkts[i] = hold(&in[i], headroom);
	host.random = random_state;
	if (tp_relay_burst(&host, pkts, verdicts, count)) {
		for (uint32_t i = 0; i < count; i++)
			all &= verdicts[i] == TP_RELAYED;
		if (!all)
			abort();
	}
	random_state = host.random;
	for (uint32_t i = 0; i < count; i++) {
		out[i].verdict = verdicts[i];
		let_go(&pkts[i], &in[i], &out[i]);
	}
}

bool frame_equal(const struct frame *a, const struct frame *b)
{
	return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}
