/*
 * Questions of the control thread that a worker answers on its own thread: about its IP stack, which nobody else may
 * look at. Control thread.
 */
#ifndef HS_ENGINE_ASK_H
#define HS_ENGINE_ASK_H

#include "engine.h"

/** Room for question and answer, zeroed, or NULL. Freed by ask_free. */
void *ask_new(size_t size);
/** Has `fn` run by the engine's first worker with `room`, and waits for it. 0; -ENOMEM; -ETIMEDOUT: the worker may yet
 * run it, `room` must not be read. */
int ask_worker(struct engine *e, mail_fn fn, void *room);
/** NULL is allowed. */
void ask_free(void *room);

#endif
