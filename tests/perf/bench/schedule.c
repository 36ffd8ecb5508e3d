#include "schedule.h"

#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>

/* In a tenth of a second a call has 5 packets of audio and 3 frames of video. */
#define PERIOD_US   100000u
#define AUDIOS      5u
#define FRAMES      3u
#define MOMENTS     (AUDIOS + FRAMES)
#define AUDIO_MIN   160u
#define AUDIO_MAX   172u
#define VIDEO_MIN   1000u
#define VIDEO_MAX   1200u
#define PACKETS_MIN 3u
#define PACKETS_MAX 6u

struct moment {
	uint32_t flow;
	uint32_t at_us : 31;
	uint32_t is_video : 1;
};

/* xorshift64*. */
static uint32_t draw(struct schedule *s)
{
	s->random ^= s->random >> 12;
	s->random ^= s->random << 25;
	s->random ^= s->random >> 27;
	return (uint32_t)(s->random * UINT64_C(2685821657736338717) >> 32);
}

uint32_t schedule_draw(struct schedule *s, uint32_t limit)
{
	return (uint32_t)((uint64_t)draw(s) * limit >> 32);
}

static uint16_t draw_from(struct schedule *s, uint32_t least, uint32_t most)
{
	return (uint16_t)(least + schedule_draw(s, most - least + 1));
}

static int earlier(const void *a, const void *b)
{
	const struct moment *x = a, *y = b;

	if (x->at_us != y->at_us)
		return x->at_us < y->at_us ? -1 : 1;
	return x->flow < y->flow ? -1 : x->flow > y->flow;
}

static int make_moments(struct schedule *s)
{
	uint64_t count = (uint64_t)s->settings.flows * MOMENTS;
	struct moment *m = calloc(count, sizeof(*m));

	if (!m)
		return -ENOMEM;
	s->moments = m;
	s->moments_count = count;
	for (uint32_t flow = 0; flow < s->settings.flows; flow++) {
		uint32_t audio_us = schedule_draw(s, PERIOD_US / AUDIOS);
		uint32_t video_us = schedule_draw(s, PERIOD_US / FRAMES);

		for (uint32_t i = 0; i < AUDIOS; i++)
			*m++ = (struct moment){flow, audio_us + i * PERIOD_US / AUDIOS, 0};
		for (uint32_t i = 0; i < FRAMES; i++)
			*m++ = (struct moment){flow, video_us + i * PERIOD_US / FRAMES, 1};
	}
	qsort(s->moments, count, sizeof(*s->moments), earlier);
	return 0;
}

int schedule_begin(struct schedule *s, const struct schedule_settings *settings)
{
	*s = (struct schedule){.settings = *settings, .random = settings->seed | 1};
	return settings->mix == MIX_RTP ? make_moments(s) : 0;
}

void schedule_end(struct schedule *s)
{
	free(s->moments);
	*s = (struct schedule){0};
}

static void next_moment(struct schedule *s)
{
	if (++s->moment < s->moments_count)
		return;
	s->moment = 0;
	s->period++;
}

static unsigned next_of_calls(
	struct schedule *s, uint64_t elapsed_ns, struct packet_due *out, unsigned room)
{
	uint64_t elapsed_us = elapsed_ns / 1000;
	unsigned count = 0;

	while (count < room) {
		const struct moment *m = &s->moments[s->moment];

		if (s->period * PERIOD_US + m->at_us > elapsed_us)
			break;
		if (!m->is_video) {
			out[count++] =
				(struct packet_due){m->flow, draw_from(s, AUDIO_MIN, AUDIO_MAX)};
			next_moment(s);
			continue;
		}
		if (s->frame_left == 0)
			s->frame_left = draw_from(s, PACKETS_MIN, PACKETS_MAX);
		out[count++] = (struct packet_due){m->flow, draw_from(s, VIDEO_MIN, VIDEO_MAX)};
		if (--s->frame_left == 0)
			next_moment(s);
	}
	return count;
}

/* The next row's. */
static void choose_flow(struct schedule *s)
{
	const struct schedule_settings *settings = &s->settings;

	if (settings->random)
		s->flow = schedule_draw(s, settings->flows);
	else if (s->made)
		s->flow = (s->flow + 1) % settings->flows;
}

static unsigned due(const struct schedule *s, uint64_t elapsed_ns, unsigned room)
{
	uint64_t rate = s->settings.rate, count;

	if (!rate)
		return room;
	count = (uint64_t)((__uint128_t)elapsed_ns * rate / TP_NS_PER_S) + 1 - s->made;
	return count < room ? (unsigned)count : room;
}

unsigned schedule_next(
	struct schedule *s, uint64_t elapsed_ns, struct packet_due *out, unsigned room)
{
	unsigned count;

	if (s->settings.mix == MIX_RTP)
		return next_of_calls(s, elapsed_ns, out, room);
	count = due(s, elapsed_ns, room);
	for (unsigned i = 0; i < count; i++) {
		if (s->in_row == 0)
			choose_flow(s);
		s->in_row = (uint16_t)((s->in_row + 1) % s->settings.row);
		s->made++;
		out[i] = (struct packet_due){s->flow, s->settings.size};
	}
	return count;
}
