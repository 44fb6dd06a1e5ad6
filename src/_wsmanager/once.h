/* Emits that say under which key they happen once. */
#ifndef WSM_ONCE_H
#define WSM_ONCE_H

#include "delivery.h"
#include "manager.h"

/* The delivery that has the key: own, which now has it, or an earlier one of
 * this window. A new reference, or NULL with MemoryError. */
WsmDelivery *wsm_once_claim(WsmManager *manager, PyObject *key,
                            WsmDelivery *own);

/* The emit of own failed before anything was sent: the key is free again. */
void wsm_once_release(WsmManager *manager, PyObject *key);

#endif
