/*
 * Who may still hold a record. A polling worker's epoch is odd while it works on a burst and even
 * between two; a BPF program leaves it at 0 and is waited for by time alone. Nothing here blocks
 * but tp_memory_await() and tp_memory_reclaim().
 */
#include "table.h"
#include "private.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <time.h>

static void note_epochs(const struct tp_worker_counters *workers, uint32_t count, uint64_t *epochs)
{
	/* What was retired is out of sight before we ask who may have seen it. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (uint32_t i = 0; i < count; i++)
		epochs[i] = __atomic_load_n(&workers[i].epoch, __ATOMIC_ACQUIRE);
}

static bool have_passed(
	const struct tp_worker_counters *workers, uint32_t count, const uint64_t *epochs)
{
	for (uint32_t i = 0; i < count; i++) {
		if ((epochs[i] & 1) &&
			__atomic_load_n(&workers[i].epoch, __ATOMIC_ACQUIRE) == epochs[i])
			return false;
	}
	return true;
}

static void begin_wait(struct tp_table *table)
{
	struct readers *r = &table->readers;

	note_epochs(table->workers, table->memory.shape.workers, r->epochs);
	r->awaited = r->resting;
	r->awaiting = true;
}

static void end_wait(struct tp_table *table)
{
	struct readers *r = &table->readers;

	if (!r->absent && !have_passed(table->workers, table->memory.shape.workers, r->epochs))
		return;
	r->passed = r->awaited;
	r->awaiting = false;
	r->rounds++;
}

/* Twice, since most workers are past at once what was retired after the last wait began. */
void tp_readers_watch(struct tp_table *table)
{
	if (table->readers.awaiting)
		end_wait(table);
	if (table->readers.awaiting)
		return;
	begin_wait(table);
	end_wait(table);
}

uint64_t tp_table_rounds(struct tp_table *table)
{
	tp_readers_watch(table);
	return table->readers.rounds;
}

void tp_table_set_readers(struct tp_table *table, bool present)
{
	table->readers.absent = !present;
}

static void pause_ms(void)
{
	struct timespec ms = {.tv_nsec = TP_NS_PER_MS};

	nanosleep(&ms, NULL);
}

/* Their counters stay: the workers go on adding to them. */
static void clear(const struct tp_memory *memory)
{
	for (int i = 0; i < TP_REGIONS; i++) {
		const struct tp_region_shape *region = &memory->shape.regions[i];

		if (i != TP_REGION_WORKERS)
			memset(memory->regions[i], 0, (size_t)region->element_size * region->count);
	}
}

int tp_memory_await(const struct tp_memory *memory, uint64_t timeout_ns)
{
	const struct tp_worker_counters *workers = memory->regions[TP_REGION_WORKERS];
	uint64_t deadline = tp_clock_now_ns() + timeout_ns;
	uint32_t count = memory->shape.workers;
	TP_AUTO_FREE uint64_t *epochs = calloc(count, sizeof(*epochs));

	if (!epochs)
		return -ENOMEM;
	note_epochs(workers, count, epochs);
	while (!have_passed(workers, count, epochs) && tp_clock_now_ns() < deadline)
		pause_ms();
	return have_passed(workers, count, epochs) ? 0 : -ETIMEDOUT;
}

int tp_memory_reclaim(const struct tp_memory *memory, uint64_t timeout_ns)
{
	struct tp_config *config = memory->regions[TP_REGION_CONFIG];
	int err;

	__atomic_store_n(&config->magic, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&config->gate, 0, __ATOMIC_RELEASE);
	err = tp_memory_await(memory, timeout_ns);
	if (!err)
		clear(memory);
	return err;
}
