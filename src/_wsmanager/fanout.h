/* One event to the connections of one user. */
#ifndef WSM_FANOUT_H
#define WSM_FANOUT_H

#include "delivery.h"
#include "event.h"
#include "manager.h"
#include "state.h"

/* Number the event and send it to every connection of the manager that
 * wants it: at once to those of the running loop that are idle, through
 * their mailbox to all others. Any thread, with or without a loop. The
 * delivery, or NULL with MemoryError before anything was sent, or with a
 * fatal error (KeyboardInterrupt and the like) that a send raised, after
 * everything was. With an idempotency key (exact str, or NULL) that an
 * earlier emit has had within the window: that one's delivery, and nothing is
 * sent. Steals event. */
PyObject *wsm_fanout(WsmManager *manager, WsmEvent *event, PyObject *key);

#endif
