/* An event loop as other threads and the mailbox see it: by its own methods,
 * which are Python code that an interrupt may strike. Such an interrupt is
 * noted in *struck and the call made again; who asked hands it on with
 * wsm_loop_interrupt() when all is done, or it would strike the next call. */
#ifndef WSM_LOOP_H
#define WSM_LOOP_H

#include "state.h"

/* True if the loop is closed; an error of asking says that it is not. */
bool wsm_loop_is_closed(WsmState *state, PyObject *loop, bool *struck);

/* args[0].<name>(args[1], ..., context=args[n]). NULL with an exception, or
 * with none if interrupts struck too often; struck is NULL if the caller can
 * raise what strikes, and then it is not tried again. */
PyObject *wsm_loop_call(WsmState *state, PyObject *name, PyObject *const *args,
                        size_t n, bool *struck);

/* How the socket is found that wakes its selector: *fileno is a C method of
 * it, or NULL if the loop is woken in another way. 0, or -1. */
int wsm_loop_find_waker(WsmState *state, PyObject *loop, PyObject **fileno);

/* The socket's number by that method, -1 once closed. Runs no Python: until
 * something does, the number is that socket's. */
int wsm_loop_waker_fd(PyObject *fileno);

/* Whether call_soon() is not for the loop's own thread only. */
bool wsm_loop_is_lenient(WsmState *state, PyObject *loop, bool *struck);

/* Let the interpreter raise again what was noted. */
void wsm_loop_interrupt(bool struck);

#endif
