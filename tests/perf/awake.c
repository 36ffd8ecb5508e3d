#include "awake.h"

#include "base/clock.h"

#include <err.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

#define CORES_MAX 64
#define PIECE_NS  5000

static pthread_t sleepless[CORES_MAX];
static int sleepless_count;
static atomic_bool ended;

static void stay_for(uint64_t ns)
{
	uint64_t end = tp_clock_now_ns() + ns;

	while (tp_clock_now_ns() < end) /* takes its time: cores may be two threads of one */
		;
}

/* In pieces: beside a worker that polls even this class gets a turn, and would keep it a tick. */
static void *stay_awake(void *arg)
{
	struct sched_param param = {0};

	pthread_setschedparam(pthread_self(), SCHED_IDLE, &param);
	while (!atomic_load_explicit(&ended, memory_order_relaxed)) {
		stay_for(PIECE_NS);
		sched_yield();
	}
	return NULL;
}

/* It begins there: on the caller's core it might not get a turn. */
static void keep_awake(int core)
{
	pthread_attr_t attributes;
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)core, &set);
	pthread_attr_init(&attributes);
	pthread_attr_setaffinity_np(&attributes, sizeof(set), &set);
	errno = pthread_create(&sleepless[sleepless_count++], &attributes, stay_awake, NULL);
	if (errno)
		err(1, "thread");
	pthread_attr_destroy(&attributes);
}

void awake_begin(int core)
{
	int cores = (int)sysconf(_SC_NPROCESSORS_ONLN);

	for (int i = 0; i < cores && i < CORES_MAX; i++)
		if (i != core)
			keep_awake(i);
}

/* Of the idle class they would take minutes to end, beside somebody who polls. */
void awake_end(void)
{
	struct sched_param param = {0};

	atomic_store(&ended, true);
	for (int i = 0; i < sleepless_count; i++) {
		pthread_setschedparam(sleepless[i], SCHED_OTHER, &param);
		pthread_join(sleepless[i], NULL);
	}
}
