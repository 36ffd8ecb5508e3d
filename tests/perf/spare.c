#include "spare.h"

#include "base/clock.h"

#include <err.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>

/* Two looks at the clock take a few tens of nanoseconds, the shortest interrupt several hundred. */
#define SHORT_NS 200

static uint64_t left, last;

static void set_policy(int policy, int priority)
{
	struct sched_param param = {priority};

	errno = pthread_setschedparam(pthread_self(), policy, &param);
	if (errno)
		err(1, "scheduling policy");
}

void spare_begin(void)
{
	set_policy(SCHED_FIFO, SPARE_PRIORITY);
	last = tp_clock_now_ns();
}

void spare_end(void)
{
	set_policy(SCHED_OTHER, 0);
}

uint64_t spare_look(void)
{
	uint64_t now = tp_clock_now_ns();

	if (now - last < SHORT_NS)
		left += now - last;
	last = now;
	return now;
}

uint64_t spare_spent(void)
{
	return spare_look() - left;
}
