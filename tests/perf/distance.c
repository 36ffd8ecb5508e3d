/*
 * distance: how far apart two cores are. Prints the nanoseconds a cache line takes from one to the
 * other and back, the fastest of many rounds, so that it may be asked while others use the cores.
 * On a virtual machine that changes while it runs, and with it what goes over a memif cable.
 *
 *   distance CORE CORE
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"

#define ROUNDS 200
#define TURNS  500

static _Alignas(128) atomic_uint ball;

static void stay_on(size_t core)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(core, &cpus);
	if (pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus) != 0) {
		fprintf(stderr, "distance: no core %zu\n", core);
		exit(1);
	}
}

/* Waits until the ball is `from`, and makes it one more. */
static void hit(unsigned int from)
{
	while (atomic_load_explicit(&ball, memory_order_acquire) != from)
		;
	atomic_store_explicit(&ball, from + 1, memory_order_release);
}

static void *return_balls(void *arg)
{
	stay_on(*(const size_t *)arg);
	for (unsigned int i = 0; i < ROUNDS * TURNS; i++)
		hit(2 * i + 1);
	return NULL;
}

int main(int argc, char **argv)
{
	uint64_t fastest = UINT64_MAX;
	size_t other;
	pthread_t thread;

	if (argc != 3)
		return 2;
	other = strtoul(argv[2], NULL, 10);
	stay_on(strtoul(argv[1], NULL, 10));
	if (pthread_create(&thread, NULL, return_balls, &other) != 0)
		return 1;
	for (unsigned int i = 0; i < ROUNDS; i++) {
		uint64_t begin = tp_clock_now_ns(), took;

		for (unsigned int turn = 0; turn < TURNS; turn++)
			hit(2 * (i * TURNS + turn));
		took = tp_clock_now_ns() - begin;
		fastest = took < fastest ? took : fastest;
	}
	pthread_join(thread, NULL);
	printf("%.0f\n", (double)fastest / TURNS);
	return 0;
}
