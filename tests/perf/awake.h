/*
 * Keeps cores from halting, by a thread of the idle class on each: waking one that halts takes
 * longer than what is measured there. Once in a process; nothing blocks but the end, which waits
 * for them.
 */
#pragma once

/* All cores but the one where the caller's own thread is busy. */
void awake_begin(int core);
void awake_end(void);
