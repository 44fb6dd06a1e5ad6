/* A place in a user's stream of events, "<epoch>:<seq>": of an event its id,
 * of a client how far it got. */
#ifndef WSM_POSITION_H
#define WSM_POSITION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WSM_EPOCH_DIGITS 16
#define WSM_SEQ_DIGITS 20
#define WSM_POSITION_MAX (WSM_EPOCH_DIGITS + 1 + WSM_SEQ_DIGITS)

typedef struct {
    uint64_t epoch;
    uint64_t seq;
} WsmPosition;

/* Read one as wsm_position_write() writes it, and nothing else: 16 lower-case
 * hexadecimal digits, a colon, a number without leading zeros. */
bool wsm_position_parse(const char *text, size_t size, WsmPosition *position);

/* Write it, without a NUL; how many bytes, WSM_POSITION_MAX at most. */
size_t wsm_position_write(const WsmPosition *position, char *text);

#endif
