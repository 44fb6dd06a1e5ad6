/* "<epoch>:<seq>", which clients send back: what is accepted is exactly what
 * is written, and what is written is accepted. */
#include "position.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_text(const char *text, size_t size)
{
    char *again = malloc(WSM_POSITION_MAX);
    WsmPosition position;

    if (wsm_position_parse(text, size, &position)) {
        if (wsm_position_write(&position, again) != size ||
            memcmp(again, text, size) != 0) {
            abort(); /* accepted, but not as it is written */
        }
    }
    free(again);
}

static void
check_value(const uint8_t *data, size_t size)
{
    WsmPosition position = {0, 0}, again = {1, 1};
    char *text = malloc(WSM_POSITION_MAX);

    memcpy(&position.epoch, data, size < 8 ? size : 8);
    if (size > 8) {
        memcpy(&position.seq, data + 8, size - 8 < 8 ? size - 8 : 8);
    }
    size_t written = wsm_position_write(&position, text);
    if (!wsm_position_parse(text, written, &again) ||
        again.epoch != position.epoch || again.seq != position.seq) {
        abort(); /* written, but not understood */
    }
    free(text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* A copy of just this size: a byte read too far is seen. */
    char *text = malloc(size + (size == 0));
    memcpy(text, data, size);
    check_text(text, size);
    check_value(data, size);
    free(text);
    return 0;
}
