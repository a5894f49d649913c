// The matrix unit (AMX) in plain C++, for processors without one: included before a kernel that is
// compiled as if there were one (-D__AMX_BF16__), it takes the place of the intrinsics.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace emulated {

struct Configuration {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};
static thread_local Configuration configuration = {};
static thread_local uint8_t tiles[8][16][64];

static void load_configuration(const void *from) { memcpy(&configuration, from, 64); }
static void store_configuration(void *to) { memcpy(to, &configuration, 64); }
static void release() { configuration = {}; }
static void zero(int tile) { memset(tiles[tile], 0, sizeof tiles[tile]); }
static void load(int tile, const void *from, long stride) {
    for (int r = 0; r < configuration.rows[tile]; r++)
        memcpy(tiles[tile][r], (const char *)from + r * stride, configuration.row_bytes[tile]);
}
static void store(int tile, void *to, long stride) {
    for (int r = 0; r < configuration.rows[tile]; r++)
        memcpy((char *)to + r * stride, tiles[tile][r], configuration.row_bytes[tile]);
}
static float number(int tile, int row, int column) {
    uint32_t bits = 0;
    memcpy((char *)&bits + 2, tiles[tile][row] + 2 * column, 2);
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
// sum += left right: pairs along the rows of left, and side by side in the rows of right
static void multiply(int sum, int left, int right) {
    for (int m = 0; m < configuration.rows[sum]; m++)
        for (int n = 0; n < configuration.row_bytes[sum] / 4; n++) {
            float total;
            memcpy(&total, tiles[sum][m] + 4 * n, 4);
            for (int k = 0; k < configuration.row_bytes[left] / 4; k++)
                for (int i = 0; i < 2; i++)
                    total += number(left, m, 2 * k + i) * number(right, k, 2 * n + i);
            memcpy(tiles[sum][m] + 4 * n, &total, 4);
        }
}

}  // namespace emulated

#undef _tile_loadconfig
#undef _tile_storeconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig emulated::load_configuration
#define _tile_storeconfig emulated::store_configuration
#define _tile_release emulated::release
#define _tile_zero emulated::zero
#define _tile_loadd emulated::load
#define _tile_stored emulated::store
#define _tile_dpbf16ps emulated::multiply
