/* Numbers of policers. One thread; does not block. */
#include "policers.h"

#include <stdlib.h>

void policers_init(struct policers *policers, uint32_t end)
{
	*policers = (struct policers){.fresh = 1, .end = end};
	TAILQ_INIT(&policers->resting);
}

static struct policer *take_resting(struct policers *policers)
{
	struct policer *oldest = TAILQ_FIRST(&policers->resting);

	if (oldest)
		TAILQ_REMOVE(&policers->resting, oldest, link);
	return oldest;
}

void policers_clear(struct policers *policers)
{
	struct policer *policer;

	while ((policer = take_resting(policers)))
		free(policer);
}

struct policer *policers_take(struct policers *policers, uint64_t now_ns)
{
	const struct policer *oldest = TAILQ_FIRST(&policers->resting);
	struct policer *policer;

	if ((oldest && oldest->free_ns <= now_ns) || policers->fresh >= policers->end)
		return take_resting(policers);
	policer = calloc(1, sizeof(*policer));
	if (policer)
		policer->number = policers->fresh++;
	return policer;
}

static struct policer *new_policer(uint32_t number)
{
	struct policer *policer = calloc(1, sizeof(*policer));

	if (policer)
		policer->number = number;
	return policer;
}

/* Up to and without `number`. */
static bool add_skipped(struct policers *policers, uint32_t number)
{
	while (policers->fresh < number) {
		struct policer *skipped = new_policer(policers->fresh);

		if (!skipped)
			return false;
		policers->fresh++;
		TAILQ_INSERT_HEAD(&policers->resting, skipped, link);
	}
	return true;
}

struct policer *policers_claim(struct policers *policers, uint32_t number)
{
	struct policer *policer;

	if (number == 0 || number >= policers->end)
		return NULL;
	if (number >= policers->fresh) {
		policer = add_skipped(policers, number) ? new_policer(number) : NULL;
		policers->fresh += policer ? 1 : 0;
		return policer;
	}
	TAILQ_FOREACH(policer, &policers->resting, link) {
		if (policer->number == number)
			break;
	}
	if (policer)
		TAILQ_REMOVE(&policers->resting, policer, link);
	return policer;
}

void policers_give(struct policers *policers, struct policer *policer, uint64_t now_ns)
{
	if (!policer)
		return;
	policer->free_ns = now_ns + TP_REST_NS;
	TAILQ_INSERT_TAIL(&policers->resting, policer, link);
}
