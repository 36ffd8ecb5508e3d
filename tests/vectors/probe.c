#include "probe.h"

#include <stdio.h>
#include <stdlib.h>

static uint8_t pattern[FRAME_MAX];

static const struct world_lane *lane_of(const struct probe *probe)
{
	return world_lane(probe->lane ? probe->lane : WORLD_CHANNEL);
}

static void name(struct tp_addr *addr, const char *text)
{
	uint16_t port = addr->port;
	uint8_t family = addr->family;

	if (!text)
		return;
	if (tp_addr_parse_ip(text, addr) || addr->family != family) {
		fprintf(stderr, "probe: %s is no address of family %d\n", text, family);
		exit(1);
	}
	addr->port = port;
}

static void address(const struct probe *probe, enum tp_family family, struct frame_spec *spec)
{
	const struct world_lane *lane = lane_of(probe);

	if (probe->from == CLIENT) {
		spec->source = world_lane_client(lane, family);
		spec->destination = world_address(family, LISTENER);
	} else {
		spec->source = world_lane_peer(lane, family);
		spec->destination = world_address(family, RELAY);
		spec->destination.port = world_lane_port(lane);
	}
	name(&spec->source, probe->source);
	name(&spec->destination, probe->destination);
	if (probe->source_port)
		spec->source.port =
			probe->source_port == PORT_ZERO ? 0 : (uint16_t)probe->source_port;
	if (probe->port)
		spec->destination.port = probe->port;
}

static void fill(size_t size, struct frame_spec *spec)
{
	for (size_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)(i * 7 + 0x31);
	spec->data_len = size == EMPTY ? 0 : size ? size : 5;
	if (!spec->data)
		spec->data = pattern;
	if (!spec->ttl)
		spec->ttl = 64;
	if (!spec->id)
		spec->id = 0x1133;
	if (!spec->label)
		spec->label = 0x54321;
}

static void apply_patch(const struct patch *patch, struct frame *frame)
{
	const size_t begin[] = {
		[LINK] = 0, [L3] = frame->l3, [L4] = frame->l4, [PAYLOAD] = frame->payload};
	size_t at = begin[patch->layer] + patch->at;

	if (patch->width == 1)
		frame->bytes[at] = (uint8_t)patch->value;
	else if (patch->width == 2)
		frame_put16(frame, at, patch->value);
}

void probe_finish(size_t size, const struct patch *patches, size_t patches_count,
	struct frame_spec *spec, struct frame *out)
{
	static const uint8_t ours[6] = {2, 0, 0, 0, 0, 1}, theirs[6] = {2, 0, 0, 0, 0, 2};

	memcpy(spec->link_destination, ours, 6);
	memcpy(spec->link_source, theirs, 6);
	fill(size, spec);
	frame_build(spec, out);
	for (size_t i = 0; i < patches_count; i++)
		apply_patch(&patches[i], out);
}

void probe_build(const struct probe *probe, enum tp_family family, struct frame_spec *spec,
	struct frame *out)
{
	*spec = probe->frame;
	address(probe, family, spec);
	if (!spec->data && probe->raw)
		spec->data = (const uint8_t *)probe->raw;
	if (probe->from == CLIENT && !probe->raw && !spec->channel)
		spec->channel = lane_of(probe)->channel;
	probe_finish(probe->size, probe->patch, 2, spec, out);
	out->len -= probe->cut;
}

void probe_expect(const struct probe *probe, const struct world *world, const struct frame_spec *in,
	bool output, struct frame *out, uint32_t *egress)
{
	const struct world_lane *lane = lane_of(probe);
	const struct tp_next_hop none = {0}, *hop = output ? &none : &world->hops[lane->hop];
	enum tp_family family = (enum tp_family)in->source.family;
	bool up = probe->from == CLIENT;
	uint32_t label = world_label(world, &in->source, in->destination.port,
		up ? TP_FLOW_CHANNEL : TP_FLOW_PEER, up ? lane->channel : 0);
	struct frame_spec spec = *in;

	memcpy(spec.link_destination, hop->destination, 6);
	memcpy(spec.link_source, hop->source, 6);
	spec.vlan[0] = tp_from_be16(hop->vlan);
	spec.vlan_type = 0;
	spec.source = world_address(family, up ? RELAY : LISTENER);
	if (up)
		spec.source.port = world_lane_port(lane);
	spec.destination = up ? world_lane_peer(lane, family) : world_lane_client(lane, family);
	spec.channel = up ? 0 : lane->channel;
	spec.padding = 0;
	spec.trailer = 0;
	spec.ttl--;
	spec.label = label & 0xfffff;
	if (output)
		spec.fragment = 0;
	if (!(spec.fragment & 0x4000))
		spec.id ^= (uint16_t)((label & 0xff) << 8 | (label >> 8 & 0xff));
	frame_build(&spec, out);
	*egress = hop->ifindex;
}
